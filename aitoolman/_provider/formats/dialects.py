"""The dialect table, and how an ``[api]`` entry finds its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from ..._datamodel import ConfigProblem, LLMConfigError, did_you_mean
from .dialect import Dialect, Fact, quirk_doc, quirk_names
from .vendors import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "DIALECTS",
    "Dialect",
    "Fact",
    "dialect_problems",
    "recognize_dialect",
    "resolve_dialect",
]

_FORMAT_OF = {"openai": "openai", "llamacpp": "openai", "anthropic": "anthropic"}
_DEFAULTS = {"openai": "generic", "anthropic": "anthropic"}


def resolve_dialect(config: Mapping[str, Any], format_name: str) -> Dialect:
    """The dialect of an ``[api]`` entry: named, or recognized, with its ``quirks`` laid over it.

    Raises:
        LLMConfigError: An unknown dialect or quirk, a quirk of the wrong type, or a dialect that
            belongs to another format.
    """
    name = config.get("dialect") or recognize_dialect(config, format_name)
    if name not in DIALECTS:
        raise _problem("dialect", f"unknown dialect {name!r}; {did_you_mean(name, DIALECTS)}")
    dialect = DIALECTS[name]
    if dialect.format != format_name:
        raise _problem("dialect", f"{name!r} is a dialect of type {dialect.format!r}")
    return _with_quirks(dialect, config.get("quirks") or {})


def dialect_problems(config: Mapping[str, Any]) -> list[ConfigProblem]:
    """Every mistake in ``dialect`` and ``quirks`` of an ``[api]`` entry, keys relative to it.

    Formats of one's own know their own keys; nothing is said of theirs.
    """
    format_name = _FORMAT_OF.get(str(config.get("type") or "openai"))
    if format_name is None:
        return []
    try:
        resolve_dialect(config, format_name)
    except LLMConfigError as exc:
        return exc.problems
    return []


def recognize_dialect(config: Mapping[str, Any], format_name: str) -> str:
    """The dialect's name by the entry's type, then by the host and port of its URL."""
    kind = str(config.get("type") or "")
    if kind in DIALECTS and kind not in _DEFAULTS and DIALECTS[kind].format == format_name:
        return kind
    host, port = _host_and_port(str(config.get("url") or ""))
    for dialect in DIALECTS.values():
        if dialect.format == format_name and _is_at(dialect, host, port):
            return dialect.name
    return _DEFAULTS[format_name]


def _host_and_port(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), f":{parts.port}" if parts.port else ""
    except ValueError:
        return "", ""


def _is_at(dialect: Dialect, host: str, port: str) -> bool:
    return any(
        known == port if known.startswith(":") else host == known or host.endswith("." + known)
        for known in dialect.hosts
    )


def _with_quirks(dialect: Dialect, quirks: Mapping[str, Any]) -> Dialect:
    if not quirks:
        return dialect
    if problems := list(_quirk_problems(quirks)):
        raise LLMConfigError(problems)
    fields = {name: getattr(dialect, name) for name in quirk_names()} | dict(quirks)
    changed = msgspec.convert({"name": dialect.name, **fields}, Dialect)
    return msgspec.structs.replace(
        changed, format=dialect.format, hosts=dialect.hosts, evidence=dialect.evidence
    )


def _quirk_problems(quirks: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    known = quirk_names()
    for key, value in quirks.items():
        if key not in known:
            yield ConfigProblem(f"quirks.{key}", f"unknown quirk; {did_you_mean(key, known)}")
        elif wrong := _wrong_value(key, value):
            yield ConfigProblem(f"quirks.{key}", wrong)


def _wrong_value(key: str, value: Any) -> str | None:
    """What is wrong with a quirk's value, in msgspec's words where the type is."""
    try:
        msgspec.convert({"name": "any", key: value}, Dialect)
        if key.endswith("_pattern"):
            re.compile(value)
    except msgspec.ValidationError as exc:
        return f"{str(exc).partition(' - at ')[0]}; {quirk_doc(key)}"
    except re.error as exc:
        return f"must be a regular expression: {exc}"
    return None


def _problem(key: str, message: str) -> LLMConfigError:
    return LLMConfigError([ConfigProblem(key, message)])
