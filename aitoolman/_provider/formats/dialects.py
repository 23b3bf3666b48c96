"""The dialect table, and how an ``[api]`` entry finds its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from ..._datamodel import ConfigProblem, LLMConfigError, did_you_mean
from .dialect import Dialect, Fact, quirk_names
from .vendors import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "Dialect", "Fact", "recognize_dialect", "resolve_dialect"]

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
    known = quirk_names()
    for key in quirks:
        if key not in known:
            raise _problem(f"quirks.{key}", f"unknown quirk; {did_you_mean(key, known)}")
    fields = {name: getattr(dialect, name) for name in known} | dict(quirks)
    for key in ("tool_name_pattern", "tool_id_pattern"):
        _check_pattern(key, quirks.get(key))
    try:
        changed = msgspec.convert({"name": dialect.name, **fields}, Dialect)
    except msgspec.ValidationError as exc:
        raise _problem("quirks", str(exc)) from exc
    return msgspec.structs.replace(
        changed, format=dialect.format, hosts=dialect.hosts, evidence=dialect.evidence
    )


def _check_pattern(key: str, pattern: Any) -> None:
    try:
        re.compile(pattern or "")
    except (re.error, TypeError) as exc:
        raise _problem(f"quirks.{key}", f"must be a regular expression: {exc}") from exc


def _problem(key: str, message: str) -> LLMConfigError:
    return LLMConfigError([ConfigProblem(key, message)])
