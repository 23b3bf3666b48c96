"""Every Python block of README and docs runs as it stands, and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "tests" / "examples" / "project"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n*^```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One example of a page."""

    page: Path
    line: int
    """Of its first line of code, counted from 1."""
    code: str
    output: str | None
    """What the ``text`` block right after it shows; None where there is none."""


def blocks_in(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(page, line, found["code"], found["output"])


def cases() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks_in(page):
            # The embedded model is a download and a child process.
            marks = [pytest.mark.model] if '"demo"' in block.code else []
            yield pytest.param(block, id=f"{page.name}:{block.line}", marks=marks)


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """What an example sets on the library's logger ends with it."""
    logger = logging.getLogger("aitoolman")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("quiet_logging")
@pytest.mark.parametrize("block", list(cases()))
def test_an_example_runs_and_prints_what_the_page_says(block, tmp_path, monkeypatch):
    """A copied block works in a folder that has config/, with its own imports alone."""
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    # Empty lines in front give tracebacks the page's own line numbers.
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec", dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    if block.output is not None:
        assert printed.getvalue().strip() == block.output.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_closed_and_says_its_language(page):
    """No example escapes the test above by a slip of the pen."""
    fences = re.findall(r"^(`{3,})(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(opening for _, opening in fences[::2])
    assert not any(closing for _, closing in fences[1::2])
