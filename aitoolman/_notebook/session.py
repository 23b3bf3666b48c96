"""What a notebook has configured: its application, and how ``%llm_config`` makes one."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._application.app import LLMApplication
from .._config import Config, config_kind, load_config
from .._connect import connect
from .._loops import background
from ..zmqclient import TOKEN_VARIABLE
from .arguments import usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .._datamodel import LLMModuleResult
    from .._ledger.client import LLMLedgerClient
    from .._transport.client import LLMClient

__all__ = ["Session"]

DEMO_MODEL = "Fast-Model"
_REFERENCE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Session:
    """The state of one notebook."""

    def __init__(self) -> None:
        self.current: LLMApplication | None = None
        self.trials: dict[str, dict[str, LLMModuleResult]] = {}
        """What the last ``--try`` of each module gave, by row."""
        self.trial_client: LLMLedgerClient | None = None
        self.started = time.time()
        self._scratch: Path | None = None

    @property
    def app(self) -> LLMApplication:
        """The application.

        Raises:
            UsageError: Nothing was configured yet.
        """
        if self.current is None:
            raise usage(
                "nothing is configured: run %llm_config --demo, or %llm_config with your provider"
                " and prompt file"
            )
        return self.current

    def scratch(self) -> Path:
        """A folder for this session alone, gone when it ends."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="aitoolman-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def configure(self, client: LLMClient, prompts: Mapping[str, Any]) -> LLMApplication:
        """Make an application the current one; what was defined in cells moves over.

        The client before is closed as soon as its calls have ended.
        """
        old = self.current
        app = LLMApplication(client, prompts)
        if old is not None:
            _move(old, app)
            asyncio.run_coroutine_threadsafe(old.client.drain(), background.loop)
        self.current = app
        return app


def _move(old: LLMApplication, new: LLMApplication) -> None:
    new.vars.update(old.vars)
    new.processors.update(old.processors)
    for name, table in old._modules.added.items():
        new.add_module(name, table)


def read_files(files: Sequence[str]) -> tuple[Config | None, Config | None]:
    """The provider and the prompt configuration among `files`, told apart by their tables.

    Raises:
        UsageError: A file is neither, or there are two of a kind.
        LLMConfigError: A file is no TOML.
    """
    found: dict[str, Config] = {}
    for name in files:
        config = load_config(name)
        kind = config_kind(config)
        if kind is None:
            raise usage(f"{name}: its tables are neither a provider file's nor a prompt file's")
        if kind in found:
            raise usage(f"{name}: a second {kind} file; give one of each kind")
        found[kind] = config
    return found.get("provider"), found.get("prompt")


def make_client(
    provider: Config | None, *, demo: bool, endpoint: str | None, ledger: str | None, ask: bool
) -> LLMClient:
    """The client that a configuration line asks for.

    Raises:
        UsageError: There is no source, or more than one.
        LLMConfigError: The configuration has mistakes.
    """
    sources = [bool(provider), demo, bool(endpoint)]
    if sum(sources) != 1:
        raise usage("give one source of models: a provider file, --demo or --endpoint")
    if ask:
        _ask_for([TOKEN_VARIABLE] if endpoint else list(_unset(provider)))
    source: Any = endpoint or provider or "demo"
    return connect(source, ledger=ledger_table(ledger))


def _ask_for(names: Sequence[str]) -> None:
    """Take secrets that the environment has not from the keyboard; no notebook ever holds them."""
    import getpass

    for name in dict.fromkeys(names):
        if name not in os.environ:
            os.environ[name] = getpass.getpass(f"{name}: ")


def ledger_table(ledger: str | None) -> str | dict[str, Any] | None:
    """``MODE`` or ``MODE:PATH`` as `connect` takes it."""
    mode, _, path = (ledger or "").partition(":")
    if not path:
        return mode or None
    return {"mode": mode, "path": str(Path(path).expanduser().absolute())}


def _unset(value: Any) -> Iterator[str]:
    """Variables that a configuration refers to and the environment has not."""
    if isinstance(value, str):
        yield from (n for n in _REFERENCE.findall(value) if n not in os.environ)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _unset(item)
    elif isinstance(value, list):
        for item in value:
            yield from _unset(item)


def with_model(
    prompts: Mapping[str, Any] | None, model: str | None, client: LLMClient, *, demo: bool
) -> dict[str, Any]:
    """The prompt configuration with a model for the modules that name none."""
    config = Config(prompts or {}, getattr(prompts, "path", None))
    default = dict(config.get("module_default") or {})
    if model:
        default["model"] = model
    elif "model" not in default:
        names = list(getattr(getattr(client, "config", None), "entries", ()))
        if demo or len(names) == 1:
            default["model"] = DEMO_MODEL if demo else names[0]
    if default:
        config["module_default"] = default
    return config
