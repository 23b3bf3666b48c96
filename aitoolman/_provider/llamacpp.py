"""The embedded model: llama.cpp in a child process, used like any vendor over loopback HTTP.

One child serves all users of equal settings in this process. Whoever needs it takes a `Lease`; a
few seconds after the last one is released the child ends, so that making a client anew in a
notebook does not load the model anew. Loops and threads do not matter here: starting happens in a
thread, and the count is kept under one lock.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._config import defaults
from .._datamodel import LLMApiRequestError
from .._loops import background
from .llamacpp_process import ModelProcess
from .model_files import KNOWN_MODELS, ensure_model, file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._config import ModelEntry, ResolvedEntry

__all__ = ["LINGER_SECONDS", "Lease", "LlamaSettings", "acquire", "model_digest"]

LINGER_SECONDS = 3.0
"""How long a child that nobody uses stays, in case that somebody comes back."""

EXIT_SECONDS = 3.0
"""How long interpreter exit waits for a start that was called off."""


@dataclass(frozen=True)
class LlamaSettings:
    """What tells one child from another."""

    model: str
    """A name of `KNOWN_MODELS`, or the absolute path of a GGUF file."""
    n_ctx: int = defaults.N_CTX
    n_parallel: int = defaults.N_PARALLEL
    n_threads: int = defaults.N_THREADS

    @classmethod
    def from_entry(cls, entry: ModelEntry | ResolvedEntry) -> LlamaSettings:
        """The settings of an ``[api]`` entry of type "llamacpp"."""
        table: Mapping[str, Any] = getattr(entry, "config", None) or getattr(entry, "extra", {})
        given = {key: table.get(key) for key in ("n_ctx", "n_parallel", "n_threads")}
        numbers = {key: int(value) for key, value in given.items() if value is not None}
        return cls(model=_located(entry.model, table.get("path")), **numbers)


def _located(model: str, folder: str | None) -> str:
    if model in KNOWN_MODELS:
        return model
    return str((Path(folder or ".").expanduser() / Path(model).expanduser()).absolute())


class Lease:
    """The right to use a running model, until it is released.

    Attributes:
        base_url: The server's address, ``http://127.0.0.1:PORT``.
        url: The whole address for chat completions.
        api_key: The key it wants, made for this child alone.
        model_digest: The SHA-256 of the model's file.
    """

    def __init__(self, server: _Server) -> None:
        process = server.process
        assert process is not None
        self._held = [server]
        self._process = process
        self.base_url = process.base_url
        self.url = f"{process.base_url}/v1/chat/completions"
        self.api_key = process.api_key
        self.model_digest = server.digest
        self.pid = process.pid

    def __repr__(self) -> str:
        return f"Lease({self.base_url}, pid={self.pid})"

    def failure(self) -> str | None:
        """Why the child is dead, with what it said last, or None while it runs.

        A dead child stays dead: release this lease and `acquire` another.
        """
        return self._process.failure()

    def release(self) -> None:
        """Give the right back; again is fine, from any thread, also at interpreter exit."""
        try:
            server = self._held.pop()
        except IndexError:  # released before, perhaps by another thread
            return
        _servers.leave(server)


async def acquire(settings: LlamaSettings, *, progress: bool = True) -> Lease:
    """A lease of the child for `settings`; the first one fetches the model and starts the child.

    Cancelling the last one who waits for a start calls the start off.

    Args:
        settings: What to run.
        progress: Show on stderr how far a download is.

    Raises:
        LLMApiRequestError: It cannot be run; one sentence says why.
    """
    server = _servers.join(settings, progress=progress)
    try:
        await asyncio.wrap_future(server.ready)
        if server.problem is not None:
            raise LLMApiRequestError(server.problem)
        return Lease(server)
    except BaseException:
        _servers.leave(server)
        raise


async def model_digest(settings: LlamaSettings) -> str:
    """The SHA-256 of the model's file; for a known model without having it.

    Raises:
        LLMApiRequestError: There is no such file.
    """
    known = KNOWN_MODELS.get(settings.model)
    return known.sha256 if known else await asyncio.to_thread(_digest_of_file, settings.model)


def _digest_of_file(model: str) -> str:
    path = ensure_model(model)
    try:
        return file_digest(path)
    except OSError as exc:
        raise LLMApiRequestError(f"the model file {path} cannot be read: {exc}") from exc


class _Server:
    """One child and those who use it or wait for it."""

    def __init__(self, settings: LlamaSettings, *, progress: bool) -> None:
        self.settings = settings
        self.users = 0
        self.timer: threading.Timer | None = None
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.ready.set_running_or_notify_cancel()  # one waiter's cancel is not the others'
        self.problem: str | None = None
        self.process: ModelProcess | None = None
        self.digest = ""
        self._progress = progress
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> threading.Thread:
        """Begin to start the child, in a thread; `ready` tells the end of that."""
        # A daemon: a download must not hold up the end of the interpreter.
        thread = threading.Thread(target=self._start, name="llamacpp-start", daemon=True)
        thread.start()
        return thread

    def _start(self) -> None:
        try:
            self._run()
        except LLMApiRequestError as exc:
            self.problem = str(exc)
        except Exception as exc:  # noqa: BLE001 - those who wait must hear of it
            self.problem = f"the embedded model could not be started: {type(exc).__name__}: {exc}"
        finally:
            self.ready.set_result(None)

    def _run(self) -> None:
        path = ensure_model(self.settings.model, progress=self._progress, stop=self._stopped)
        self.digest = _digest_of_file(str(path))
        process = self._spawn(path)
        try:
            process.wait_ready()
        except LLMApiRequestError:
            process.stop()
            raise

    def _spawn(self, path: Path) -> ModelProcess:
        s = self.settings
        numbers = {"n_ctx": s.n_ctx, "n_parallel": s.n_parallel, "n_threads": s.n_threads}
        with self._lock:
            if self._stopped.is_set():
                raise LLMApiRequestError("the start of the embedded model was called off")
            self.process = ModelProcess({"model": str(path), **numbers})
            return self.process

    @property
    def usable(self) -> bool:
        """Running, or on its way to it."""
        if not self.ready.done():
            return True
        return self.problem is None and self.process is not None and not self.process.failure()

    def stop(self) -> None:
        """End the child, or the attempt to start it; blocks for some hundredths of a second."""
        with self._lock:
            self._stopped.set()
            process = self.process
        if process is not None:
            process.stop()

    def disown(self) -> None:
        """See `ModelProcess.disown`."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        process, self.process = self.process, None
        if process is not None:
            process.disown()


class _Servers:
    """All children of this process, by their settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_settings: dict[LlamaSettings, _Server] = {}
        self._starts: list[threading.Thread] = []
        self._exiting = False

    def join(self, settings: LlamaSettings, *, progress: bool) -> _Server:
        """The server for `settings`, counted for one user more."""
        with self._lock:
            server = self._by_settings.get(settings)
            if server is None or not server.usable:
                server = self._new(settings, progress=progress)
            server.users += 1
            self._cancel_timer(server)
            return server

    def _new(self, settings: LlamaSettings, *, progress: bool) -> _Server:
        if self._exiting:
            raise LLMApiRequestError("the embedded model is not started while Python exits")
        server = _Server(settings, progress=progress)
        self._starts = [thread for thread in self._starts if thread.is_alive()]
        self._starts.append(server.start())
        self._by_settings[settings] = server
        atexit.unregister(self.shut_down)
        atexit.register(self.shut_down)
        return server

    def leave(self, server: _Server) -> None:
        """One user less; the last one's going ends the child, soon."""
        with self._lock:
            server.users -= 1
            if server.users > 0:
                return
            lingers = server.usable and server.ready.done() and self._linger(server)
            if not lingers:
                self._drop(server)
        if not lingers:
            server.stop()

    def _linger(self, server: _Server) -> bool:
        """Set the timer; False where the interpreter is too far gone for that."""
        if self._exiting or self._by_settings.get(server.settings) is not server:
            return False
        timer = threading.Timer(LINGER_SECONDS, self._expire, [server])
        timer.daemon = True
        timer.name = "llamacpp-linger"
        try:
            timer.start()
        except RuntimeError:
            return False
        self._cancel_timer(server)
        server.timer = timer
        return True

    def _expire(self, server: _Server) -> None:
        with self._lock:
            if server.users > 0 or threading.current_thread() is not server.timer:
                return
            self._drop(server)
        server.stop()

    def _drop(self, server: _Server) -> None:
        self._cancel_timer(server)
        if self._by_settings.get(server.settings) is server:
            del self._by_settings[server.settings]

    @staticmethod
    def _cancel_timer(server: _Server) -> None:
        timer, server.timer = server.timer, None
        if timer is not None:
            timer.cancel()

    def shut_down(self) -> None:
        """At interpreter exit: clients close first, then every child ends."""
        background.stop()
        with self._lock:
            self._exiting = True
            servers = list(self._by_settings.values())
            for server in servers:
                self._drop(server)
        for server in servers:
            server.stop()
        for thread in self._starts:  # called off, it still has to clean up
            thread.join(EXIT_SECONDS)

    def disown(self) -> None:
        """After a fork, in the new process, which starts children of its own."""
        servers, self._by_settings = self._by_settings, {}
        self._starts = []
        self._lock = threading.Lock()
        for server in servers.values():
            server.disown()


_servers = _Servers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_servers.disown)
