"""Request fields: configuration and request laid over each other, in the dialect's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._datamodel import LLMApplicationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .dialect import Dialect

__all__ = ["merge_fields"]

_OWN = ("messages", "model", "stream")
_MERGED = (
    ("tools", list, "a list"),
    ("stream_options", dict, "a table"),
    ("metadata", dict, "a table"),
)
_TOKEN_FIELDS = ("max_tokens", "max_completion_tokens")


def merge_fields(
    body_options: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
    dialect: Dialect,
    *,
    stream: bool,
    notes: list[str],
) -> dict[str, Any]:
    """The fields of the request body besides model, messages and stream.

    An option wins over the configuration's; None leaves a field out; names are the dialect's, and
    what the vendor refuses is left out with a note.

    Raises:
        LLMApplicationError: A field that we add to is not of its type.
    """
    fields = {**_renamed(body_options or {}, dialect), **_renamed(options or {}, dialect)}
    fields = {name: value for name, value in fields.items() if value is not None}
    for name in _OWN:
        if name in fields:
            del fields[name]
            notes.append(f"option {name!r} left out: the request itself says it")
    for name in dialect.refused_fields:
        if name in fields:
            del fields[name]
            notes.append(f"option {name!r} left out: {dialect.name} refuses it")
    if not stream:
        _drop_stream_only(fields, dialect, notes)
    _check_types(fields)
    return fields


def _check_types(fields: dict[str, Any]) -> None:
    """The fields that are merged with ours have to be what the vendor's format says."""
    for name, kind, word in _MERGED:
        if name in fields and not isinstance(fields[name], kind):
            found = type(fields[name]).__name__
            raise LLMApplicationError(f"option {name!r} must be {word}, not {found}")


def _renamed(fields: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The fields under this dialect's names; one that is there under its own name wins."""
    if not fields:
        return {}
    names = dict(dialect.renamed_fields)
    if dialect.max_tokens_field != "any":
        others = (n for n in _TOKEN_FIELDS if n != dialect.max_tokens_field)
        names |= dict.fromkeys(others, dialect.max_tokens_field)
    renamed = {names[n]: value for n, value in fields.items() if n in names}
    return renamed | {n: value for n, value in fields.items() if n not in names}


def _drop_stream_only(fields: dict[str, Any], dialect: Dialect, notes: list[str]) -> None:
    for name in dialect.stream_only_fields:
        value = fields.get(name)
        if value is None or value is False:
            continue
        notes.append(f"option {name!r} switched off: {dialect.name} takes it in streams only")
        if value is True:
            fields[name] = False
        else:
            del fields[name]
