"""The one way to a provider configuration that is sound: keys, formats, dialects and quirks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._config import ProviderConfig
from .formats.registry import format_names, known_format, own_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._datamodel import ConfigProblem

__all__ = ["checked_config"]


def checked_config(config: Mapping[str, Any]) -> ProviderConfig:
    """A provider configuration, checked as a whole; `config` is not changed.

    Args:
        config: What `load_config` gave, or a dict of the same shape.

    Raises:
        LLMConfigError: With all mistakes: keys, values, formats, dialects and quirks.
    """
    # Looking for formats of installed packages takes longer than all else here.
    foreign = not all(map(known_format, _types_in(config)))
    names = format_names() if foreign else ()
    return ProviderConfig.from_dict(config, names, _entry_problems)


def _types_in(config: Any) -> Iterator[str]:
    """Every format that is named, in a configuration that may hold mistakes of any kind."""
    entries = _table(_table(config).get("api")).values()
    for table in (_table(config).get("default"), *entries):
        named = (_table(table).get(key) for key in ("type", "api_type"))
        yield from (name for name in named if isinstance(name, str))


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _entry_problems(entry: Mapping[str, Any]) -> list[ConfigProblem]:
    plain = not entry.get("dialect") and not entry.get("quirks")
    if plain or own_format(entry["type"]):  # which knows its own keys
        return []
    from .formats.dialects import dialect_problems

    return dialect_problems(entry)
