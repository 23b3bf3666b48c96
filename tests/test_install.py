"""Every way to install that a page names gives this program, and all that the next line needs."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

import aitoolman

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "aitoolman" / "_cli" / "starter_data"
PAGES = [
    *(ROOT / "README.md", ROOT / "notebooks" / "README.md", ROOT / "binder" / "postBuild"),
    *sorted((ROOT / "docs").glob("*.md")),
    *(STARTER / "README.md", STARTER / "requirements.txt"),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def extra(name: str) -> set[str]:
    """The distributions that an extra brings, through the extras that it names."""
    found: set[str] = set()
    for requirement in EXTRAS[name]:
        if own := re.match(r"aitoolman\[(.*)\]", requirement):
            found.update(*map(extra, own[1].split(",")))
        else:
            found.add(re.split(r"[<>=]", requirement)[0])
    return found


def test_the_version_is_one():
    """Package and metadata agree."""
    assert PROJECT["version"] == aitoolman.__version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_nothing_installs_by_the_bare_name(page):
    """A registry may hold another program under the name: a clone or a least version is named."""
    text = page.read_text(encoding="utf-8")
    for requirement in re.findall(r"(?<![/.\w])aitoolman\[[\w,]+\](\S*)", text):
        assert requirement.startswith(">=0.9")
    for extras in re.findall(r"(?:'\.|aitoolman)\[([a-z,]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS.keys()


def test_the_extra_for_lessons_has_what_they_import():
    """And a JupyterLab to open them in; a plot is drawn by what pandas asks for."""
    imported = set().union(*map(imports, (ROOT / "notebooks").glob("*.ipynb")))
    needed = imported - sys.stdlib_module_names - {"aitoolman", "written", "IPython"}
    assert "pandas" in needed
    assert needed | {"jupyterlab", "matplotlib", "ipykernel", "xllamacpp", "pyzmq"} <= extra(
        "lessons"
    )


def imports(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md", "binder/postBuild"])
def test_the_lessons_are_installed_by_the_same_words_everywhere(page):
    """One extra, named wherever lessons are opened."""
    assert "'.[lessons]'" in (ROOT / page).read_text(encoding="utf-8")
