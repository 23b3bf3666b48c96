"""Writes docs/command-line.md from the commands' own help: ``python -m tests.command_page``."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from unittest import mock

from aitoolman._cli.main import COMMANDS

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"

HEAD = """# Command line

`aitoolman COMMAND ...`, or `python -m aitoolman COMMAND ...`. The exit code is 0 where all went
well, 1 where something failed, 2 for a wrong call, 130 after Ctrl-C. This page is generated from
the commands' own help: `python -m tests.command_page`.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(section(name) for name in COMMANDS)


def section(name: str) -> str:
    command = importlib.import_module(f"aitoolman._cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"aitoolman {name}", description=COMMANDS[name].capitalize() + "."
    )
    command.add_arguments(parser)
    with mock.patch.dict(os.environ, COLUMNS="98"):
        text = parser.format_help().strip()
    notes = (command.run.__doc__ or "").strip().removeprefix("Run the command.")
    return f"\n## {name}\n\n```text\n{text}\n```\n" + (f"\n{notes}\n" if notes else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
