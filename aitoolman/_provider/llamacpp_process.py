"""One child process that serves one model: started, watched, ended. All calls here block."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApiRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ModelProcess"]

_CHILD = Path(__file__).with_name("llamacpp_child.py")
_TAIL_BYTES = 2000
_TAIL_LINES = 3
_STOP_SECONDS = 2.0
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] (?:\w+ )?\s*")


class ModelProcess:
    """A running child. It ends with this process, whatever kills it: its stdin ends then."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Start the child; `wait_ready` waits for it.

        Args:
            settings: `model` (a file), `n_ctx`, `n_parallel`, `n_threads`.

        Raises:
            LLMApiRequestError: The engine is not installed, or no process can be started.
        """
        self.api_key = secrets.token_urlsafe(24)
        self.base_url = ""
        self._settings = dict(settings)
        self._search = [_engine_folder()]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._lock = threading.Lock()
        self._process = self._spawn()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - this very interpreter and a file of ours
                # -P: the files beside the child are no modules of its own.
                [sys.executable or "python", "-P", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # Ctrl-C in the terminal is for this process; the child ends after it.
                process_group=0,
            )
        except OSError as exc:
            self._stderr.close()
            raise LLMApiRequestError(
                f"the embedded model's process could not be started: {exc}"
            ) from exc

    def wait_ready(self) -> None:
        """Wait until the model is loaded and served.

        Raises:
            LLMApiRequestError: It could not be loaded, or the process was ended meanwhile.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        config = self._settings | {"api_key": self.api_key, "search": self._search}
        with contextlib.suppress(OSError, ValueError):  # its death shows in the next line
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self._process.stdin.flush()
        answer = _answer(self._process.stdout)
        if "url" not in answer:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            reason = answer.get("error") or _ending(self._process.poll())
            raise LLMApiRequestError(self._not_loaded(reason))
        self.base_url = answer["url"].rstrip("/")

    def _not_loaded(self, reason: str) -> str:
        model = self._settings["model"]
        return f"the embedded model could not load {model}: {reason}{self._tail()}"

    def failure(self) -> str | None:
        """Why the process is dead, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"the embedded model's process ended by itself: {_ending(code)}{self._tail()}"

    def _tail(self) -> str:
        """The last lines on its stderr, as the end of a sentence."""
        with self._lock:
            if self._stderr.closed:
                return ""
            size = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, size - _TAIL_BYTES))
            text = self._stderr.read().decode(errors="replace")
        lines = [_LOG_PREFIX.sub("", line).strip() for line in text.splitlines()]
        telling = [line for line in dict.fromkeys(lines) if line][-_TAIL_LINES:]
        return f" ({' | '.join(telling)})" if telling else ""

    def stop(self) -> None:
        """End the process and wait for that; again is fine."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        with self._lock:
            for stream in (self._process.stdin, self._process.stdout, self._stderr):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()

    def disown(self) -> None:
        """After a fork, in the new process: the child belongs to the old one, and so do its pipes.

        A copy of its stdin kept open here would keep it alive after its parent's death.
        """
        self._lock = threading.Lock()
        self._process.returncode = 0  # nothing to wait for here
        self._close_pipes()


def _engine_folder() -> str:
    """The folder that xllamacpp is imported from, without importing it."""
    try:
        spec = importlib.util.find_spec("xllamacpp")
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise LLMApiRequestError(
            'the embedded model (type "llamacpp") needs the package xllamacpp, which is not'
            " installed: pip install 'aitoolman[local]'"
        )
    return str(Path(spec.origin).parent.parent)


def _answer(stdout: Any) -> dict[str, Any]:
    try:
        answer = json.loads(stdout.readline() or b"{}")
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _ending(code: int | None) -> str:
    """What an exit code means."""
    if code is None:
        return "it does not answer"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; out of memory? a smaller n_ctx needs less" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
