"""One way to a client, so that one program text serves a notebook, a script and a service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._datamodel import near_names

if TYPE_CHECKING:
    import os

    from ._transport.client import LLMClient

__all__ = ["connect"]


def connect(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    token: str | None = None,
    ledger: str | Mapping[str, Any] | None = None,
) -> LLMClient:
    """A client for `source`.

    Args:
        source: ``"demo"`` (the embedded model under the aliases of the sample files), the path of a
            provider TOML file, a configuration that is already loaded, or the address of a server
            (``"tcp://host:5555"``, ``"ipc://path"``, several with commas between).
        token: The server's token; None is the environment variable ``AITOOLMAN_TOKEN``.
        ledger: A mode (``"off"``, ``"record"``, ``"read_write"``, ``"refresh"``, ``"replay"``) or a
            whole table (``mode``, by itself ``"read_write"``, ``path``, ``retention``, ``pace``),
            in place of the configuration's own.

    Raises:
        FileNotFoundError: There is no such file.
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """
    if isinstance(source, str) and source.startswith(_SCHEMES):
        return _remote(source, token, ledger)
    from ._transport.local import LLMLocalClient

    config = _load(source)
    if ledger is not None:
        config = _with_ledger(config, ledger)
    return LLMLocalClient(config)


_SCHEMES = ("tcp://", "ipc://", "inproc://")


def _remote(endpoint: str, token: str | None, ledger: str | Mapping[str, Any] | None) -> LLMClient:
    from .zmqclient import LLMZmqClient

    client = LLMZmqClient(endpoint, token)
    if ledger is None:
        return client
    from ._ledger.client import LLMLedgerClient

    table = {"mode": ledger} if isinstance(ledger, str) else dict(ledger)
    table.setdefault("mode", "read_write")
    return LLMLedgerClient(client, table.pop("path", None), **table)


def _with_ledger(config: Mapping[str, Any], ledger: str | Mapping[str, Any]) -> Mapping[str, Any]:
    from ._config import Config

    own = dict(config.get("ledger") or {})
    table = own | {"mode": ledger} if isinstance(ledger, str) else {"mode": "read_write", **ledger}
    return Config({**config, "ledger": table}, getattr(config, "path", None))


def _load(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    from ._config import load_config

    if source == "demo":
        from ._config.demo import demo_config

        return demo_config()
    if isinstance(source, str) and near_names(source, ["demo"]) and not Path(source).exists():
        raise FileNotFoundError(f"there is no configuration file {source!r}; did you mean 'demo'?")
    return load_config(Path(source))
