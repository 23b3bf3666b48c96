"""Where commands look for what they are not told: configuration files, ledgers, functions."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "add_processors",
    "functions",
    "ledger_files",
    "name_and_value",
    "prompt_file",
    "provider_file",
]

PROVIDER_FILES = ("llm_config.toml", "config/llm_config.toml")
PROMPT_FILES = ("app_prompt.toml", "config/app_prompt.toml")


def provider_file() -> Path | None:
    """The provider file of the project in the working directory; None where there is none."""
    return _first(PROVIDER_FILES)


def prompt_file() -> Path | None:
    """The prompt file of the project in the working directory; None where there is none."""
    return _first(PROMPT_FILES)


def _first(names: Iterable[str]) -> Path | None:
    return next((path for path in map(Path, names) if path.is_file()), None)


def ledger_files() -> list[Path]:
    """Where commands and programs of this folder keep their ledger, the likeliest first."""
    from .._ledger.schema import default_path

    here = Path.cwd()
    places = [default_path(provider_file()), default_path(None)]
    return [path.relative_to(here) for path in dict.fromkeys(places)]


def name_and_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` taken apart, for argparse."""
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def add_processors(parser: argparse.ArgumentParser) -> None:
    """The option that makes a program's own post-processors known to a command."""
    parser.add_argument(
        "--processors", type=name_and_value, action="append", default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="a post-processor of your own, found from the working directory, as in"
        " label=src.processors:ticket_label; repeatable",
    )  # fmt: skip


def functions(places: Iterable[tuple[str, str]]) -> dict[str, Callable[..., Any]]:
    """What ``--processors`` named, by name.

    Raises:
        LLMApplicationError: There is no such module or function, or it fails when imported.
    """
    return {name: _function(place) for name, place in places}


def _function(place: str) -> Callable[..., Any]:
    """What ``package.module:function`` names; ``package/module.py:function`` is the same."""
    file, _, name = place.rpartition(":")
    module = file.removesuffix(".py").replace("/", ".")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the working directory, as for python -m
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise LLMApplicationError(
            f"--processors {place}: {exc} (looked in {Path.cwd()}; for the function label in"
            " src/processors.py write src.processors:label)"
        ) from None
    return found
