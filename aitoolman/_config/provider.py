"""The provider file: models, aliases, server and ledger, checked as a whole."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApiRequestError, LLMConfigError, did_you_mean
from .._secrets import mask_tree
from . import defaults
from .keys import LEDGER_KEYS, SERVER_KEYS
from .paths import child
from .reading import read_provider
from .rules import Key, check_table
from .variables import Substitution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .entries import ModelEntry
    from .reading import EntryCheck

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
    pace: float = defaults.LEDGER_PACE


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
        cls,
        config: Mapping[str, Any],
        known_types: Iterable[str] = (),
        check_entry: EntryCheck | None = None,
    ) -> ProviderConfig:
        """Check a provider configuration and make values of it; `config` is not changed.

        Args:
            config: What `load_config` gave, or a dict of the same shape.
            known_types: Formats registered besides the built-in ones.
            check_entry: Says what is wrong with an ``[api]`` table beyond the types of its values,
                with keys relative to the table.

        Raises:
            LLMConfigError: With all mistakes.
        """
        parts = read_provider(config, known_types, check_entry)
        ledger = None if parts.ledger is None else LedgerConfig(**parts.ledger)
        return cls(parts.entries, parts.aliases, parts.server, ledger, parts.file)

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
            LLMConfigError: Variables are not set (all are named), or bring in a wrong value.
        """
        return self._resolved(self.server or {}, SERVER_KEYS, "server", environ)

    def resolve_ledger(self, environ: Mapping[str, str] = os.environ) -> LedgerConfig | None:
        """The ``[ledger]`` table with its variables put in and its path absolute; None without one.

        Raises:
            LLMConfigError: Variables are not set; all of them are named.
        """
        if self.ledger is None:
            return None
        ledger = LedgerConfig(**self._resolved(vars(self.ledger), LEDGER_KEYS, "ledger", environ))
        path = ledger.path and str(self.folder / Path(ledger.path).expanduser())
        return replace(ledger, path=path)

    @property
    def folder(self) -> Path:
        """Where relative paths start: the file's folder, else the working directory."""
        return Path(self.file).parent if self.file else Path.cwd()

    def _resolved(
        self,
        table: Mapping[str, Any],
        keys: Mapping[str, Key],
        name: str,
        environ: Mapping[str, str],
    ) -> dict[str, Any]:
        """A table with its variables put in, checked again as it then stands."""
        run = Substitution(environ)
        resolved: dict[str, Any] = run.apply(table, name)
        problems = list(run.problems)
        if not problems:
            given = {key: value for key, value in resolved.items() if value is not None}
            check_table(given, keys, name, problems)
        if problems:
            raise LLMConfigError(problems, self.file)
        return resolved
