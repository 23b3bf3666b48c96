"""One way to a client, so that one program text serves a notebook, a script and a service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from ._transport.client import LLMClient

__all__ = ["connect"]


def connect(source: str | os.PathLike[str] | Mapping[str, Any]) -> LLMClient:
    """A client for `source`.

    Args:
        source: ``"demo"`` (the embedded model under the aliases of the sample files), the path of a
            provider TOML file, or a configuration that is already loaded.

    Raises:
        FileNotFoundError: There is no such file.
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """
    from ._transport.local import LLMLocalClient

    return LLMLocalClient(_load(source))


def _load(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    from ._config import load_config

    if source == "demo":
        from ._config.demo import demo_config

        return demo_config()
    return load_config(Path(source))
