"""One ``[api."name"]`` table: merged over ``[default]``, and resolved when it is first used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .._datamodel import ConfigProblem, LLMConfigError
from .._secrets import Redactor, is_secret_name, mask_headers, mask_tree, mask_url, url_secrets
from .paths import child, quoted
from .variables import Substitution

__all__ = ["ModelEntry", "Price", "ResolvedEntry"]

_STRINGS = ("url", "model", "api_key", "type", "dialect", "headers", "body_options", "quirks")
_PLAIN = (
    *("url", "model", "api_key", "type", "dialect", "timeout", "max_retries", "parallel"),
    *("retry_duration", "retry_factor", "max_wait", "rpm", "tpm", "adaptive", "cooldown"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class Price:
    """Money per million tokens, in whatever currency the user counts; None is unknown."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None


@dataclass(frozen=True, repr=False)
class ModelEntry:
    """One ``[api."name"]`` table over ``[default]``; strings may still hold ``${VAR}``.

    Times are seconds; `rpm` and `tpm` are None where nothing limits them.
    """

    name: str
    file: str | None
    type: str
    url: str | None
    model: str
    api_key: str | None
    dialect: str | None
    dialect_options: Mapping[str, Any]
    timeout: float
    max_retries: int
    parallel: int
    retry_duration: float
    retry_factor: float
    max_wait: float
    rpm: int | None
    tpm: int | None
    adaptive: bool
    cooldown: float
    headers: Mapping[str, str]
    body_options: Mapping[str, Any]
    price: Price | None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What only one type knows; for "llamacpp" `n_ctx`, `n_threads`, `n_parallel` and `path`."""
    inherited: frozenset[str] = frozenset()
    """Keys (``headers.X-Name`` for one header) that stand in ``[default]``, for messages."""

    def __repr__(self) -> str:
        shown = mask_tree(_settings(self))
        return f"ModelEntry({self.name!r}, {', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def resolve(self, environ: Mapping[str, str] = os.environ) -> ResolvedEntry:
        """The entry with every ``${VAR}`` replaced.

        Raises:
            LLMConfigError: Variables are not set (all of them are named), or what came out of them
                is no address or no header value.
        """
        run = Substitution(environ)
        config = self._applied(run)
        problems = run.problems or list(self._check_resolved(config))
        if problems:
            raise LLMConfigError(problems, self.file)
        return _resolved(self, config, run)

    def secrets(self, environ: Mapping[str, str] = os.environ) -> list[str]:
        """What nobody may see, whatever else is wrong with the entry."""
        run = Substitution(environ)
        return list(_secrets(self._applied(run), self._outside(run)))

    def _applied(self, run: Substitution) -> dict[str, Any]:
        config = _settings(self)
        for key in _STRINGS:
            config[key] = self._apply(run, key, config[key])
        config["api_key"] = config["api_key"] or None
        return config | {
            key: run.apply(value, self._path(key)) for key, value in self.extra.items()
        }

    def _apply(self, run: Substitution, key: str, value: Any) -> Any:
        if key == "headers":
            return {n: run.apply(v, self._path(f"headers.{n}")) for n, v in value.items()}
        return run.apply(value, self._path(key))

    def _path(self, key: str) -> str:
        """Where a key (or ``headers.NAME``) stands in the file."""
        table = "default" if key in self.inherited else quoted("api", self.name)
        top, dot, header = key.partition(".")
        return child(child(table, top), header) if dot else child(table, top)

    def _outside(self, run: Substitution) -> list[str]:
        """What variables brought in, but for names that every message shows."""
        shown = {self._path(key) for key in ("model", "type", "dialect", "path")}
        return [value for path, value in run.used if path not in shown]

    def _check_resolved(self, config: Mapping[str, Any]) -> Iterator[ConfigProblem]:
        if config["url"] is not None and (wrong := url_problem(config["url"])):
            yield ConfigProblem(self._path("url"), f"{wrong}, once its variables are put in")
        elif config["url"] is None and config["type"] != "llamacpp":
            yield ConfigProblem(self._path("url"), 'is missing; only type = "llamacpp" needs none')
        for key in ("model", "type"):
            if not config[key].strip():
                yield ConfigProblem(self._path(key), "is empty, once its variables are put in")
        for name, value in config["headers"].items():
            if _CONTROL.search(value):
                message = "holds a line break or control character, once its variables are put in"
                yield ConfigProblem(self._path(f"headers.{name}"), message)


@dataclass(frozen=True, repr=False)
class ResolvedEntry:
    """An entry ready for use: what is sent, and which parts of it nobody may see."""

    entry: ModelEntry
    url: str | None
    model: str
    api_key: str | None
    headers: dict[str, str]
    body_options: dict[str, Any]
    config: dict[str, Any]
    """The whole table, for format strategies: `type`, `dialect`, `quirks`, `price` and the rest."""
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        url = mask_url(self.url) if self.url else None
        shown = (
            f"ResolvedEntry({self.entry.name!r}, url={url!r}, model={self.model!r},"
            f" headers={mask_headers(self.headers)!r}, body_options="
            f"{mask_tree(self.body_options)!r})"
        )
        return Redactor(self.secrets).text(shown)


def _settings(entry: ModelEntry) -> dict[str, Any]:
    """The entry as one table, in the words of the file."""
    settings: dict[str, Any] = {key: getattr(entry, key) for key in _PLAIN}
    settings["headers"] = dict(entry.headers)
    settings["body_options"] = dict(entry.body_options)
    settings["quirks"] = dict(entry.dialect_options)
    settings["price"] = entry.price and dict(vars(entry.price))
    return settings | dict(entry.extra)


def _resolved(entry: ModelEntry, config: dict[str, Any], run: Substitution) -> ResolvedEntry:
    return ResolvedEntry(
        entry=entry,
        url=config["url"],
        model=config["model"],
        api_key=config["api_key"],
        headers=config["headers"],
        body_options=config["body_options"],
        config=config,
        secrets=tuple(dict.fromkeys(_secrets(config, entry._outside(run)))),
    )


def _secrets(config: Mapping[str, Any], outside: Iterable[str]) -> Iterator[str]:
    if config["api_key"]:
        yield config["api_key"]
    masked = mask_headers(config["headers"])
    yield from (v for name, v in config["headers"].items() if masked[name] != v)
    yield from _named_secrets(config["body_options"])
    yield from _named_secrets(config["quirks"])
    if config["url"]:
        yield from url_secrets(config["url"])
    # A host must be readable in messages, and an address has its secrets taken out above.
    host = urlsplit(config["url"] or "").netloc.rpartition("@")[2]
    yield from (value for value in outside if value not in host and "://" not in value)


def _named_secrets(value: Any, name: object = "") -> Iterator[str]:
    """Texts under a telling name; short ones are words of a schema rather than secrets."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named_secrets(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _named_secrets(item, name)
    elif isinstance(value, str) and len(value) >= 8 and is_secret_name(name):
        yield value


def url_problem(url: str) -> str | None:
    """What is wrong with an address, without showing it (it may hold a password)."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or _CONTROL.search(url) or " " in url:
        return "must be an address such as https://host/v1/chat/completions"
    return None
