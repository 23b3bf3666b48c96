"""One server per ledger: a lock on a file beside it, which ends with its process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._datamodel import ConfigProblem, LLMConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock"]


class FileLock:
    """Held from construction on.

    Args:
        path: The file to be used by one process alone.

    Raises:
        LLMConfigError: Another process has it, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name(path.name + ".server-lock")
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            self._fd: int | None = os.open(beside, os.O_CREAT | os.O_RDWR, 0o600)
            _lock(self._fd)
        except OSError as exc:
            text = f"{path} is in use by another server, or cannot be locked ({exc}); name another"
            raise LLMConfigError([ConfigProblem("ledger.path", text)]) from exc

    def release(self) -> None:
        """Give it up. Again is fine."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _lock(fd: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
