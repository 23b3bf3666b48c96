"""Which class speaks the format that ``type`` names in ``[api]``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..._datamodel import ConfigProblem, LLMConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoints

    from .base import LLMFormatStrategy

__all__ = [
    "find_format",
    "format_names",
    "known_format",
    "make_format",
    "own_format",
    "register_format",
]

_GROUP = "aitoolman.formats"
_BUILT_IN = {
    "openai": (".openai", "OpenAICompatibleFormat"),
    "llamacpp": (".openai", "OpenAICompatibleFormat"),
    "anthropic": (".anthropic", "AnthropicFormat"),
}
_registered: dict[str, type[LLMFormatStrategy]] = {}


def register_format(name: str, cls: type[LLMFormatStrategy]) -> None:
    """Make ``type = "name"`` in ``[api]`` mean a format strategy of your own.

    Args:
        name: The word in the configuration; a built-in one is replaced.
        cls: Called with the resolved ``[api]`` table.
    """
    _registered[name] = cls


def make_format(type_name: str, config: Mapping[str, Any]) -> LLMFormatStrategy:
    """The strategy for an ``[api]`` entry.

    Raises:
        LLMConfigError: No format has this name, or its configuration is wrong.
    """
    cls = find_format(type_name)
    if cls is None:
        hint = did_you_mean(type_name, format_names())
        raise LLMConfigError([ConfigProblem("type", f"unknown format {type_name!r}; {hint}")])
    return cls({"type": type_name, **config})


def find_format(name: str) -> type[LLMFormatStrategy] | None:
    """The class behind a name: registered, built in, or of an installed package; else None."""
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        module, cls = _BUILT_IN[name]
        found: type[LLMFormatStrategy] = getattr(importlib.import_module(module, __package__), cls)
        return found
    return next((e.load() for e in _installed() if e.name == name), None)


def known_format(name: str) -> bool:
    """True for a built-in or registered name, without a look at the installed packages."""
    return name in _registered or name in _BUILT_IN


def own_format(name: str) -> bool:
    """True for a name that `register_format` gave its meaning."""
    return name in _registered


def format_names() -> list[str]:
    """Every name that ``type`` may have."""
    return sorted({*_BUILT_IN, *_registered, *(e.name for e in _installed())})


def _installed() -> EntryPoints:
    # Its import costs more than all of this package.
    from importlib.metadata import entry_points

    return entry_points(group=_GROUP)
