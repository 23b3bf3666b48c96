"""Reading a provider configuration: every mistake is found, then the parts are handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .._datamodel import ConfigProblem, LLMConfigError, did_you_mean
from . import defaults
from .entries import ModelEntry, Price
from .keys import (
    ALIAS,
    API_KEYS,
    DEFAULT_KEYS,
    LEDGER_KEYS,
    LLAMACPP_KEYS,
    PROVIDER_TABLES,
    SERVER_KEYS,
)
from .kinds import check_tables
from .paths import child, quoted
from .rules import Key, check_table, copied, name_text
from .variables import has_reference

__all__ = ["EntryCheck", "ProviderParts", "read_provider"]

EntryCheck = Callable[[Mapping[str, Any]], list[ConfigProblem]]


class ProviderParts(NamedTuple):
    """What a provider file holds, checked."""

    file: str | None
    entries: dict[str, ModelEntry]
    aliases: dict[str, tuple[str, ...]]
    server: dict[str, Any] | None
    ledger: dict[str, Any] | None


def read_provider(
    config: Mapping[str, Any],
    known_types: Iterable[str],
    check_entry: EntryCheck | None = None,
) -> ProviderParts:
    """Check a provider configuration and take it apart, see `ProviderConfig.from_dict`.

    Raises:
        LLMConfigError: With all mistakes.
    """
    types = frozenset(known_types) | set(defaults.BUILTIN_TYPES)
    return _Reader(config, types, check_entry).read()


class _Reader:
    """One reading of one configuration: collects every problem, then raises or gives the parts."""

    def __init__(
        self,
        config: Mapping[str, Any],
        known_types: frozenset[str],
        check_entry: EntryCheck | None,
    ) -> None:
        self.config = config
        self.known_types = known_types
        self.check_entry = check_entry
        path = getattr(config, "path", None)
        self.file = str(path) if path else None
        self.base = Path(path).parent if path else Path.cwd()
        self.problems: list[ConfigProblem] = []

    def read(self) -> ProviderParts:
        check_tables(self.config, "provider", self.file, PROVIDER_TABLES, self.problems)
        server = self._server()
        default = self._table("default", DEFAULT_KEYS)
        if isinstance(self.config.get("default"), Mapping):
            self._one_type(self.config["default"], "default")
        entries = self._entries(default)
        parts = ProviderParts(self.file, entries, self._aliases(), server, self._ledger())
        if self.problems:
            raise LLMConfigError(self.problems, self.file)
        return parts

    def _table(self, name: str, keys: Mapping[str, Any]) -> dict[str, Any]:
        return check_table(self.config.get(name, {}), keys, name, self.problems)

    def _server(self) -> dict[str, Any] | None:
        if "server" not in self.config:
            return None
        given = self._table("server", SERVER_KEYS)
        return {name: copied(key.default) for name, key in SERVER_KEYS.items()} | given

    def _ledger(self) -> dict[str, Any] | None:
        return self._table("ledger", LEDGER_KEYS) if "ledger" in self.config else None

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        table = self._table("model_alias", _alias_keys(self.config.get("model_alias")))
        return {k: (v,) if isinstance(v, str) else tuple(v) for k, v in table.items()}

    def _entries(self, default: dict[str, Any]) -> dict[str, ModelEntry]:
        tables = self.config.get("api", {})
        if not isinstance(tables, Mapping):
            self.problems.append(ConfigProblem("api", 'must hold tables such as [api."name"]'))
            return {}
        read = ((name, self._entry(name, table, default)) for name, table in tables.items())
        return {name: entry for name, entry in read if entry}

    def _entry(self, name: str, table: Any, default: dict[str, Any]) -> ModelEntry | None:
        path = quoted("api", name)
        before = len(self.problems)
        self.problems += name_text(name, path)
        given = check_table(table, API_KEYS | LLAMACPP_KEYS, path, self.problems)
        if isinstance(table, Mapping):
            kind = _type(given) or _type(default) or defaults.API_TYPE
            if self._one_type(table, path):
                self._fits_type(table, kind, path)
                self._further(given, kind, path)
        if len(self.problems) > before:
            return None
        return _merged(name, self.file, given, default, self.base)

    def _further(self, given: dict[str, Any], kind: str, path: str) -> None:
        """What the caller's own check finds."""
        if self.check_entry is None or has_reference(kind):
            return
        found = self.check_entry(_known(given | {"type": kind}))
        self.problems += [p._replace(key=f"{path}.{p.key}") for p in found]

    def _one_type(self, table: Mapping[str, Any], path: str) -> bool:
        """Check ``type`` and ``api_type``, two names of one key; False where they are wrong."""
        before = len(self.problems)
        if "type" in table and "api_type" in table and table["type"] != table["api_type"]:
            message = "says otherwise than `type`, and both mean the same; remove one"
            self.problems.append(ConfigProblem(child(path, "api_type"), message))
        for key in ("type", "api_type"):
            self.problems += self._type_problems(table.get(key), child(path, key))
        return len(self.problems) == before

    def _type_problems(self, value: Any, path: str) -> Iterator[ConfigProblem]:
        if not isinstance(value, str) or value in self.known_types or has_reference(value):
            return
        hint = did_you_mean(value, self.known_types, limit=1)
        if hint.startswith("did you mean"):
            yield ConfigProblem(path, f"there is no format of this name; {hint}")

    def _fits_type(self, table: Mapping[str, Any], kind: str, path: str) -> None:
        if has_reference(kind):
            return
        if kind == "llamacpp":
            if "url" in table:
                message = 'has no place with type = "llamacpp", which runs the model itself'
                self.problems.append(ConfigProblem(child(path, "url"), message))
            return
        if "url" not in table:
            message = 'is missing; only type = "llamacpp" needs none'
            self.problems.append(ConfigProblem(child(path, "url"), message))
        for key in LLAMACPP_KEYS:
            if key in table:
                message = 'is only for type = "llamacpp"'
                self.problems.append(ConfigProblem(child(path, key), message))


def _type(table: Mapping[str, Any]) -> str | None:
    found: str | None = table.get("type", table.get("api_type"))
    return found


def _known(value: Any) -> Any:
    """A table without what is known only once its variables are put in."""
    if not isinstance(value, Mapping):
        return value
    known = {k: _known(v) for k, v in value.items()}
    return {k: v for k, v in known.items() if not (isinstance(v, str) and has_reference(v))}


def _alias_keys(table: Any) -> dict[str, Key]:
    return dict.fromkeys(table, ALIAS) if isinstance(table, Mapping) else {}


def _merged(
    name: str, file: str | None, given: dict[str, Any], default: dict[str, Any], base: Path
) -> ModelEntry:
    headers, from_default = _merged_headers(given.get("headers", {}), default.get("headers", {}))
    kind = _type(given) or _type(default) or defaults.API_TYPE
    values = {key: copied(spec.default) for key, spec in API_KEYS.items()}
    values |= copied(default) | given
    values |= {key: float(values[key]) for key in _FLOATS}
    return ModelEntry(
        name=name,
        file=file,
        headers=headers,
        price=_price(given.get("price"), kind),
        type=kind,
        dialect_options=values["quirks"] or {},
        extra=_llamacpp(given, base) if kind == "llamacpp" or has_reference(kind) else {},
        inherited=_inherited(given, default) | from_default,
        **{key: values[key] for key in _PLAIN},
    )


def _price(given: Mapping[str, float] | None, kind: str) -> Price | None:
    if given is None and kind == "llamacpp":
        return Price(0.0, 0.0)  # nobody sends a bill for this machine
    return None if given is None else Price(**given)


_FLOATS = ("timeout", "retry_duration", "retry_factor", "max_wait", "cooldown")
_PLAIN = (
    *("url", "model", "api_key", "dialect", "max_retries", "parallel", "rpm", "tpm"),
    *("adaptive", "body_options", *_FLOATS),
)


def _inherited(given: Mapping[str, Any], default: Mapping[str, Any]) -> frozenset[str]:
    keys = set(default).difference(given, ("headers", "api_type", "type"))
    return frozenset(keys if _type(given) or not _type(default) else keys | {"type"})


def _llamacpp(given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    extra = {key: given.get(key, spec.default) for key, spec in LLAMACPP_KEYS.items()}
    folder = extra["path"] or "."
    extra["path"] = folder if has_reference(folder) else str(base / folder)
    return extra


def _merged_headers(
    own: Mapping[str, str], default: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    """The default's headers under the entry's (names in any case), and those from the default."""
    names = {name.lower() for name in own}
    kept = {name: value for name, value in default.items() if name.lower() not in names}
    return kept | dict(own), frozenset(f"headers.{name}" for name in kept)
