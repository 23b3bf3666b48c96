"""The lessons run top to bottom, with no key and no model, and print what is stored in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]-*.ipynb"))
EVERY = [pytest.param(path, id=path.stem) for path in LESSONS]


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def code_of(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells_of(path) if cell["cell_type"] == "code"]


def without_keys() -> dict[str, str]:
    """The environment, without keys and proxies to ask a model with."""
    kept = {n: v for n, v in os.environ.items() if not re.search(r"KEY|TOKEN|PROXY", n, re.I)}
    return kept | {"AITOOLMAN_VIEW": "static", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.mark.long
@pytest.mark.timeout(180)
def test_every_lesson_gives_the_outputs_that_are_stored_in_it(tmp_path: Path) -> None:
    """One run of nbval over all: marked cells are compared, the others must not fail."""
    pytest.importorskip("nbval")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
            "--rootdir", str(NOTEBOOKS), "--nbval-lax",
            "--nbval-sanitize-with", str(NOTEBOOKS / "sanitize.cfg"), *map(str, LESSONS),
        ],
        cwd=tmp_path, env=without_keys(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_lessons_are_numbered_without_a_gap() -> None:
    """Each lesson leads to the next."""
    numbers = [int(path.name[:2]) for path in LESSONS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 10


@pytest.mark.parametrize("path", EVERY)
def test_a_lesson_is_stored_with_outputs_worth_reading(path: Path) -> None:
    """All cells ran, in order, without an error, and something came out."""
    code = code_of(path)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert outputs


@pytest.mark.parametrize("path", EVERY)
def test_a_lesson_is_static_and_tells_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    """No widget state, no path of a home or a project, nothing that looks like a key, and small."""
    text = path.read_text(encoding="utf-8")
    assert "application/vnd.jupyter.widget" not in text
    assert not re.search(r"/(work|home|root|opt|Users)/", text)
    assert not re.search(r"sk-[A-Za-z0-9]{16}|Bearer [A-Za-z0-9]", text)
    assert len(text) < 150_000


@pytest.mark.parametrize("path", EVERY)
def test_the_links_of_a_lesson_lead_somewhere(path: Path) -> None:
    """Every relative link names a file."""
    prose = "".join("".join(c["source"]) for c in cells_of(path) if c["cell_type"] == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", prose) if "://" not in link]
    assert [link for link in links if not (NOTEBOOKS / link).exists()] == []


def test_binder_opens_with_an_executable_build_step_and_no_weights() -> None:
    """What the image installs is named, and the model is not part of it."""
    binder = ROOT / "binder"
    assert os.access(binder / "postBuild", os.X_OK)
    assert (binder / "runtime.txt").read_text(encoding="utf-8").strip() == "python-3.11"
    build = (binder / "postBuild").read_text(encoding="utf-8")
    assert "demo" not in build
    assert "smollm2" not in build
