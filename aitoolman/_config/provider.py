"""The provider file: models, aliases, server and ledger, checked as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._datamodel import ConfigProblem, LLMApiRequestError, LLMConfigError, did_you_mean
from .._secrets import mask_tree
from . import defaults
from .entries import ModelEntry, Price
from .keys import API_KEYS, DEFAULT_KEYS, LEDGER_KEYS, LLAMACPP_KEYS, PROVIDER_TABLES, SERVER_KEYS
from .kinds import check_tables
from .paths import child, quoted
from .rules import check_table, references
from .variables import Substitution, has_reference

__all__ = ["LedgerConfig", "ProviderConfig"]


@dataclass(frozen=True)
class LedgerConfig:
    """The ``[ledger]`` table.

    `mode` holds for single calls; a batch keeps its own. `path` None is the default place, beside
    the configuration.
    """

    mode: str = defaults.LEDGER_MODE
    path: str | None = None
    retention: str = defaults.LEDGER_RETENTION


class ProviderConfig:
    """What a provider file says, sound throughout.

    Attributes:
        file: The file, where known.
        entries: Model name to its `ModelEntry`.
        aliases: Alias to the names it stands for, in order of trying.
        server: The ``[server]`` table with its defaults, or None without one.
        ledger: The ``[ledger]`` table, or None without one.
    """

    def __init__(
        self,
        entries: dict[str, ModelEntry],
        aliases: dict[str, tuple[str, ...]],
        server: dict[str, Any] | None = None,
        ledger: LedgerConfig | None = None,
        file: str | None = None,
    ) -> None:
        self.file = file
        self.entries = entries
        self.aliases = aliases
        self.server = server
        self.ledger = ledger

    def __repr__(self) -> str:
        server = mask_tree(self.server)
        return (
            f"ProviderConfig(file={self.file!r}, entries={self.entries!r},"
            f" aliases={self.aliases!r}, server={server!r}, ledger={self.ledger!r})"
        )

    @classmethod
    def from_dict(
        cls, config: Mapping[str, Any], known_types: Iterable[str] = ()
    ) -> ProviderConfig:
        """Check a provider configuration and make values of it; `config` is not changed.

        Args:
            config: What `load_config` gave, or a dict of the same shape.
            known_types: Formats registered besides the built-in ones.

        Raises:
            LLMConfigError: With all mistakes.
        """
        return _Reader(config, frozenset(known_types) | set(defaults.BUILTIN_TYPES)).read()

    def candidates(
        self, model_name: str, environ: Mapping[str, str] = os.environ
    ) -> tuple[ModelEntry, ...]:
        """The entries that `model_name` stands for, in order of trying.

        An alias wins over an entry of the same name, and names entries only, no aliases.

        Raises:
            LLMApiRequestError: There is no such model, or the alias names an entry that is missing.
            LLMConfigError: A variable in the alias is not set.
        """
        if model_name in self.aliases:
            targets = self._targets(model_name, environ)
            return tuple(self._target(model_name, target) for target in targets)
        if model_name in self.entries:
            return (self.entries[model_name],)
        known = [*self.aliases, *self.entries]
        raise LLMApiRequestError(
            f"there is no model {model_name!r} in {self._where()}, neither as [api.{model_name!r}]"
            f" nor under [model_alias]; {did_you_mean(model_name, known)}"
        )

    def _targets(self, alias: str, environ: Mapping[str, str]) -> list[str]:
        run = Substitution(environ)
        path = child("model_alias", alias)
        targets = [run.apply(target, path) for target in self.aliases[alias]]
        if run.problems:
            raise LLMConfigError(run.problems, self.file)
        return targets

    def _target(self, alias: str, target: str) -> ModelEntry:
        if target in self.entries:
            return self.entries[target]
        raise LLMApiRequestError(
            f"the model alias {alias!r} names {target!r}, but {self._where()} has no"
            f" [api.{target!r}]; {did_you_mean(target, self.entries)}"
        )

    def _where(self) -> str:
        return self.file or "the configuration"

    def resolve_server(self, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """The ``[server]`` table with its variables put in; empty without one.

        Raises:
            LLMConfigError: Variables are not set; all of them are named.
        """
        run = Substitution(environ)
        resolved: dict[str, Any] = run.apply(self.server or {}, "server")
        if run.problems:
            raise LLMConfigError(run.problems, self.file)
        return resolved


class _Reader:
    """One reading of one configuration: collects every problem, then raises or gives the values."""

    def __init__(self, config: Mapping[str, Any], known_types: frozenset[str]) -> None:
        self.config = config
        self.known_types = known_types
        path = getattr(config, "path", None)
        self.file = str(path) if path else None
        self.base = Path(path).parent if path else Path.cwd()
        self.problems: list[ConfigProblem] = []

    def read(self) -> ProviderConfig:
        check_tables(self.config, "provider", self.file, PROVIDER_TABLES, self.problems)
        server = self._server()
        default = self._table("default", DEFAULT_KEYS)
        self._one_type(self.config.get("default"), "default")
        entries = self._entries(default)
        config = ProviderConfig(entries, self._aliases(), server, self._ledger(), self.file)
        if self.problems:
            raise LLMConfigError(self.problems, self.file)
        return config

    def _table(self, name: str, keys: Mapping[str, Any]) -> dict[str, Any]:
        return check_table(self.config.get(name, {}), keys, name, self.problems)

    def _server(self) -> dict[str, Any] | None:
        if "server" not in self.config:
            return None
        given = self._table("server", SERVER_KEYS)
        return {name: key.default for name, key in SERVER_KEYS.items()} | given

    def _ledger(self) -> LedgerConfig | None:
        return LedgerConfig(**self._table("ledger", LEDGER_KEYS)) if "ledger" in self.config else None

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
        given = check_table(table, API_KEYS | LLAMACPP_KEYS, path, self.problems)
        if isinstance(table, Mapping):
            self._one_type(table, path)
            self._fits_type(table, _type(given) or _type(default) or defaults.API_TYPE, path)
        if len(self.problems) > before:
            return None
        return _merged(name, self.file, given, default, self.base)

    def _one_type(self, table: Any, path: str) -> None:
        """``type`` and ``api_type`` are two names of one key."""
        if not isinstance(table, Mapping):
            return
        if "type" in table and "api_type" in table and table["type"] != table["api_type"]:
            message = "says otherwise than `type`, and both mean the same; remove one"
            self.problems.append(ConfigProblem(child(path, "api_type"), message))
        for key in ("type", "api_type"):
            self.problems += self._type_problems(table.get(key), child(path, key))

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


def _alias_keys(table: Any) -> dict[str, Any]:
    from .keys import ALIAS

    return dict.fromkeys(table, ALIAS) if isinstance(table, Mapping) else {}


def _merged(
    name: str, file: str | None, given: dict[str, Any], default: dict[str, Any], base: Path
) -> ModelEntry:
    headers, from_default = _merged_headers(given.get("headers", {}), default.get("headers", {}))
    inherited = frozenset(default).difference(given, ("headers",)) | from_default
    kind = _type(given) or _type(default) or defaults.API_TYPE
    values = {key: spec.default for key, spec in API_KEYS.items()} | default | given
    price = given.get("price")
    return ModelEntry(
        name=name,
        file=file,
        headers=headers,
        price=Price(**price) if price is not None else None,
        type=kind,
        dialect_options=values["quirks"] or {},
        extra=_llamacpp(given, base) if kind == "llamacpp" else {},
        inherited=inherited | ({"type"} if "api_type" in inherited else frozenset()),
        **{key: values[key] for key in _PLAIN},
    )


_PLAIN = (
    *("url", "model", "api_key", "dialect", "timeout", "max_retries", "parallel"),
    *("retry_duration", "retry_factor", "max_wait", "rpm", "tpm", "adaptive", "cooldown"),
    "body_options",
)


def _llamacpp(given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    extra = {key: given.get(key, spec.default) for key, spec in LLAMACPP_KEYS.items()}
    extra["path"] = extra["path"] or str(base)
    return extra


def _merged_headers(
    own: Mapping[str, str], default: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    """The default's headers under the entry's (names in any case), and those from the default."""
    names = {name.lower() for name in own}
    kept = {name: value for name, value in default.items() if name.lower() not in names}
    return kept | dict(own), frozenset(f"headers.{name}" for name in kept)
