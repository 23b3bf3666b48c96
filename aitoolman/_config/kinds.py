"""Which of the two files a configuration is, told by its tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .._datamodel import ConfigProblem, LLMConfigError, did_you_mean
from .keys import PROMPT_TABLES, PROVIDER_TABLES
from .paths import child, kind

__all__ = ["check_tables", "config_kind"]

_OWN = {
    "provider": frozenset(PROVIDER_TABLES) - frozenset(PROMPT_TABLES),
    "prompt": frozenset(PROMPT_TABLES) - frozenset(PROVIDER_TABLES),
}
_WHERE = {
    "provider": "a client (LLMLocalClient, connect)",
    "prompt": "an application (LLMApplication)",
}


def config_kind(config: Mapping[str, Any]) -> str | None:
    """``"provider"`` or ``"prompt"``; None where the tables are neither's or both's."""
    found = [name for name, tables in _OWN.items() if not tables.isdisjoint(config)]
    return found[0] if len(found) == 1 else None


def check_tables(
    config: Any,
    wanted: str,
    file: str | None,
    tables: Collection[str],
    problems: list[ConfigProblem],
) -> None:
    """Add a problem for each table that has no place in a file of the `wanted` kind.

    Raises:
        LLMConfigError: It is no table at all, or plainly the other file.
    """
    if not isinstance(config, Mapping):
        message = f"must be what load_config() gives, or a dict, not {kind(config)}"
        raise LLMConfigError([ConfigProblem("configuration", message)], file)
    found = config_kind(config)
    if found is not None and found != wanted:
        message = f"this is a {found} file, for {_WHERE[found]}; a {wanted} file is wanted here"
        tables_found = ", ".join(f"[{name}]" for name in config if name in _OWN[found])
        raise LLMConfigError([ConfigProblem(tables_found, message)], file)
    problems += [_unknown(name, tables) for name in config if name not in tables]


def _unknown(name: Any, tables: Collection[str]) -> ConfigProblem:
    for other, own in _OWN.items():
        if name in own:
            return ConfigProblem(child("", name), f"belongs into the {other} file, not here")
    return ConfigProblem(child("", name), f"unknown table; {did_you_mean(str(name), tables)}")
