"""What a command needs beyond the core, and how to install it."""

from __future__ import annotations

from .._datamodel import LLMApplicationError

__all__ = ["need_zmq"]


def need_zmq() -> None:
    """Raise an error with the install line where pyzmq is missing."""
    try:
        import zmq  # noqa: F401
    except ImportError as exc:
        raise LLMApplicationError(
            "this command needs pyzmq: pip install 'aitoolman[service]'"
        ) from exc
