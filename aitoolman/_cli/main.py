"""``aitoolman COMMAND ...``: the table of commands, help, and how errors end."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._datamodel import LLMConfigError, LLMError, did_you_mean
from .interrupts import INTERRUPTED, ignore_further_ones

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "watch a language model on this machine classify support tickets; needs no key",
    "ledger": "read, compare, export, clear and check the record of all calls",
    "init": "write a starter project that runs at once",
    "doctor": "check a configuration and its endpoints, and say what to fix",
    "server": "share models, quotas and one audit with clients on this machine or the network",
    "monitor": "follow a server's calls and events, live or into an SQLite file",
    "keygen": "print a random token for a server",
    "batch": "run a module over every row of a file, and go on after an interrupt or a kill",
    "client": "chat with a model: on a terminal line by line, from a pipe as one message",
}
"""Each command and what it does; its code is the module of the same name in this folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 failed, 2 called wrongly.

    Args:
        arguments: The words after ``aitoolman``; those of this process unless given.
    """
    _never_fail_to_print()
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        if arguments is None:  # a process of its own
            ignore_further_ones()
        _complain("interrupted", start="\n" if sys.stderr.isatty() else "")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LLMError, LLMConfigError, OSError) as exc:
        _complain(str(exc))
        return 1


def _run(arguments: list[str]) -> int:
    given = _top_parser().parse_args(arguments)
    if given.command is None:
        _top_parser().print_help()
        return 0
    if given.command not in COMMANDS:
        _complain(f"there is no command {given.command!r}: {did_you_mean(given.command, COMMANDS)}")
        return 2
    command: Any = importlib.import_module(f".{given.command}", __package__)
    parser = argparse.ArgumentParser(
        prog=f"aitoolman {given.command}", description=COMMANDS[given.command].capitalize() + "."
    )
    command.add_arguments(parser)
    run: Callable[[argparse.Namespace], int] = command.run
    return _flushed(run(parser.parse_args(given.arguments)))


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="aitoolman",
        usage="aitoolman COMMAND ...",
        description="Program with large language models as normal workers.",
        epilog=f"commands:\n{listing}\n\naitoolman COMMAND --help tells more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"aitoolman {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _flushed(code: int) -> int:
    sys.stdout.flush()  # a closed pipe shall show here, not at interpreter exit
    return code


def _complain(text: str, *, start: str = "") -> None:
    print(f"{start}aitoolman: {text}", file=sys.stderr)


def _never_fail_to_print() -> None:
    """A model may write any character, and a terminal may know few."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
