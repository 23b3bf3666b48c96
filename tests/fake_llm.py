"""A real local HTTP server that plays language model vendors by script.

In a test::

    async def test_something(fake_llm, provider_config):
        fake_llm.script([Reply("Hello", chunks=["Hel", "lo"]), Reply(status=429)])
        ...
        assert fake_llm.requests[0].body["model"] == "fast"

As a process of its own, for tests that kill or load it: ``python -m tests.fake_llm --port 0`` (see
`FakeLLMProcess` in fake_process.py). It speaks OpenAI's chat completions at any path that ends with
``/chat/completions``, Anthropic's messages at ``/messages``, and lists models at ``/models``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .http1 import CLOSE, RESET, Connection, Head, Steps, chunk, head_bytes
from .vendors import anthropic, openai
from .vendors.openai import Answering
from .vendors.reply import Call, Gate, Refused, Reply
from .vendors.shapes import SHAPES

__all__ = ["Call", "FakeLLM", "Gate", "Refused", "Reply", "SeenRequest"]


@dataclass(eq=False)
class SeenRequest:
    """What the server saw of one request."""

    number: int
    """Counts from 1, in order of arrival."""
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes
    body: Any
    """Parsed JSON; None where it is none."""
    time: float
    """`time.monotonic()` at arrival."""
    connection: int
    concurrent: int
    """Requests open at arrival, this one included."""
    status: int | None = None
    refused: str | None = None
    """Why the vendor would not take it."""
    pieces: int = 0
    """Pieces of a stream written so far."""
    end_time: float | None = None
    closed_early: bool = False
    """The client left before the answer was whole."""

    @property
    def vendor(self) -> str:
        return "anthropic" if self.path.partition("?")[0].endswith("/messages") else "openai"

    @property
    def stream(self) -> bool:
        return bool(isinstance(self.body, dict) and self.body.get("stream"))

    @property
    def model(self) -> Any:
        return self.body.get("model") if isinstance(self.body, dict) else None

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body.get("messages", []) if isinstance(self.body, dict) else []

    @property
    def last_text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return _text(message.get("content"))
        return ""


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


Script = Reply | str | Iterable[Reply | str] | Callable[[SeenRequest], Any]


@dataclass(eq=False)
class Settings:
    """How the server behaves; set them as attributes of `FakeLLM`."""

    strict: bool = True
    """Refuse what the vendor refuses."""
    shape: str = "openai"
    """The dialect at ``/chat/completions``, a key of `SHAPES`."""
    required_key: str | None = None
    known_models: set[str] | None = None
    """Others get the vendor's 404."""
    capacity: int | None = None
    """More requests at once get the vendor's 429."""
    capacity_headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with those, for example ``{"retry-after": "1"}``."""
    headers: Mapping[str, str] | Callable[[SeenRequest], Mapping[str, str]] = field(
        default_factory=dict
    )
    """Sent with every answer, for example ``openai.rate_headers(...)``."""
    keep: int | None = None
    """How many of the last requests to keep in `requests`; None: all."""


class FakeLLM(Settings):
    """The server, on a thread and loop of its own. Every method can be called from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[SeenRequest] = []
        self.errors: list[str] = []
        """Tracebacks of scripts that failed; the fixture fails the test for them."""
        self.port = 0
        self.open_requests = 0
        self.open_connections = 0
        self.max_concurrent = 0
        self.max_connections = 0
        self.connections_made = 0
        self.requests_seen = 0
        self.closed_early = 0
        self._script: Iterator[Any] | Callable[[SeenRequest], Any] = iter(())
        self._hangs = Gate()
        self._changed = threading.Condition()
        self._watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._live: set[Connection] = set()

    # Scripting

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1/chat/completions"

    @property
    def anthropic_url(self) -> str:
        return f"{self.url}/v1/messages"

    def script(self, replies: Script) -> None:
        """Answer from now on with these.

        Args:
            replies: One reply for every request; or replies in order, with echoes after the last;
                or a function (sync or async) of the `SeenRequest` that returns a reply. A text is
                short for a reply of that text.
        """
        if callable(replies):
            self._script = replies
        elif isinstance(replies, Reply | str):
            self._script = lambda request: replies
        else:
            self._script = iter(list(replies))

    def release(self) -> None:
        """Let hanging replies go on."""
        hangs, self._hangs = self._hangs, Gate()
        hangs.open()

    def reset(self) -> None:
        """Forget everything: script, settings, records. Open connections are cut."""
        self._call_on_loop(self._cut_all)
        self.release()
        vars(self).update(vars(Settings()))
        self.requests, self.errors = [], []
        self.max_concurrent = self.max_connections = self.connections_made = 0
        self.requests_seen = self.closed_early = 0
        self._script = iter(())

    def drop_connections(self) -> None:
        """Cut all open connections, as a vendor's proxy does when it restarts."""
        self._call_on_loop(self._cut_all)

    # Watching

    def wait_for(self, condition: Callable[[FakeLLM], Any], timeout: float = 5.0) -> None:
        """Block until `condition` of this server holds; from a coroutine use `reaches`."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise AssertionError(f"the server never got there: {self!r}")

    async def reaches(self, condition: Callable[[FakeLLM], Any], timeout: float = 5.0) -> None:
        """Wait until `condition` of this server holds."""
        event = asyncio.Event()
        watcher = (asyncio.get_running_loop(), event)
        with self._changed:
            self._watchers.append(watcher)
        try:
            async with asyncio.timeout(timeout):
                while not condition(self):
                    event.clear()
                    if not condition(self):
                        await event.wait()
        except TimeoutError:
            raise AssertionError(f"the server never got there: {self!r}") from None
        finally:
            with self._changed:
                self._watchers.remove(watcher)

    def stats(self) -> dict[str, Any]:
        """Counts, as a process of its own reports them."""
        names = """open_requests open_connections max_concurrent max_connections connections_made
    requests_seen closed_early errors""".split()
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"FakeLLM({self.url}, {self.stats()})"

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            for loop, event in self._watchers:
                with contextlib.suppress(RuntimeError):  # that loop is closed
                    loop.call_soon_threadsafe(event.set)

    # Running

    def start(self) -> FakeLLM:
        """Listen, on a thread of the server's own."""
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="fake-llm", daemon=True
        )
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the scripted server did not start")
        return self

    def _run(self, ready: threading.Event) -> None:
        # asyncio's own loop, whatever the policy: the drops and resets count on its transports.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self.serve(ready=ready))

    def stop(self) -> None:
        """Cut all connections and end the thread."""
        self.release()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    async def serve(
        self, port: int = 0, *, ready: threading.Event | None = None, announce: bool = False
    ) -> None:
        """Listen until stopped."""
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        if announce:
            print(self.url, flush=True)
        if ready is not None:
            ready.set()
        async with server:
            await self._stopping.wait()
            self._cut_all()

    def _call_on_loop(self, function: Callable[[], None]) -> None:
        done = threading.Event()

        def call() -> None:
            function()
            self._loop.call_soon(done.set)  # after the connections have heard of it

        self._loop.call_soon_threadsafe(call)
        done.wait(5)

    def _cut_all(self) -> None:
        for connection in list(self._live):
            connection.transport.abort()

    # What connections call

    def connected(self, connection: Connection) -> None:
        self._live.add(connection)
        self.connections_made += 1
        self.open_connections += 1
        self.max_connections = max(self.max_connections, self.open_connections)
        self._notify()

    def disconnected(self, connection: Connection, unfinished: bool) -> None:
        self._live.discard(connection)
        self.open_connections -= 1
        if unfinished and connection.record is not None:
            connection.record.closed_early = True
            self.closed_early += 1
        self._notify()

    def answer(self, connection: Connection, head: Head, body: bytes) -> Steps:
        connection.record = None
        if "/_fake/" in head.path:
            yield from self._control(head, body)
            return
        seen = self._saw(connection, head, body)
        connection.record = seen
        try:
            yield from self._answer(seen)
        finally:
            self.open_requests -= 1
            seen.end_time = time.monotonic()
            self._notify()

    def _saw(self, connection: Connection, head: Head, raw: bytes) -> SeenRequest:
        self.requests_seen += 1
        self.open_requests += 1
        self.max_concurrent = max(self.max_concurrent, self.open_requests)
        seen = SeenRequest(
            self.requests_seen,
            *head,
            raw,
            _parse(raw),
            time.monotonic(),
            connection.number,
            self.open_requests,
        )
        self.requests.append(seen)
        if self.keep is not None:
            del self.requests[: -self.keep or None]
        self._notify()
        return seen

    def _answer(self, seen: SeenRequest) -> Steps:
        path = seen.path.partition("?")[0]
        if path.endswith("/models"):
            names = sorted(self.known_models or {"fast"})
            data = [{"id": n, "object": "model", "type": "model"} for n in names]
            yield self._json(seen, 200, {"object": "list", "data": data, "has_more": False})
            return
        if not path.endswith(("/chat/completions", "/messages")):
            yield self._json(seen, 404, {"error": {"message": f"Invalid URL ({path})"}})
            return
        try:
            self._check(seen)
        except Refused as refused:
            seen.refused = refused.message
            extra = self.capacity_headers if refused.status == 429 else {}
            yield self._json(seen, refused.status, _error(seen, refused), extra)
            return
        reply = yield from self._choose(seen)
        yield from self._play(seen, reply)

    def _check(self, seen: SeenRequest) -> None:
        vendor = anthropic if seen.vendor == "anthropic" else openai
        if self.required_key is not None:
            vendor.check_key(seen.headers, self.required_key)
        if self.capacity is not None and self.open_requests > self.capacity:
            raise vendor.too_many()
        if self.strict and vendor is openai:
            openai.check(seen.body, seen.headers, SHAPES[self.shape])
        elif self.strict:
            anthropic.check(seen.body, seen.headers)
        if self.known_models is not None and seen.model not in self.known_models:
            raise vendor.unknown_model(seen.model)

    def _choose(self, seen: SeenRequest) -> Steps:
        try:
            chosen = self._script(seen) if callable(self._script) else next(self._script, Reply())
            if inspect.isawaitable(chosen):
                chosen = yield lambda: chosen
            return Reply(chosen) if isinstance(chosen, str) else chosen
        except Refused as refused:
            return Reply(status=refused.status, error=refused.message, error_code=refused.code)
        except Exception as exc:
            self.errors.append(traceback.format_exc())
            return Reply(status=500, error=f"the script failed: {exc!r}")

    # Playing a reply

    def _play(self, seen: SeenRequest, reply: Reply) -> Steps:
        if reply.delay:
            yield lambda: asyncio.sleep(reply.delay)
        if reply.pause_at is None:
            yield from self._pause(reply)
        if reply.drop_after == -1:
            yield RESET if reply.reset else CLOSE
        seen.status = reply.status
        if reply.raw_http is not None:
            yield from reply.raw_http
            yield CLOSE
        elif reply.status != 200 or reply.error is not None:
            yield self._failure(seen, reply)
        elif reply.raw_stream is not None:
            yield from self._stream(seen, reply, iter(reply.raw_stream))
        elif reply.raw_body is not None:
            yield self._whole(seen, reply, reply.raw_body)
        else:
            yield from self._speak(seen, reply)

    def _pause(self, reply: Reply) -> Steps:
        if reply.hang:
            yield self._hangs.wait
        if reply.gate is not None:
            yield reply.gate.wait

    def _speak(self, seen: SeenRequest, reply: Reply) -> Steps:
        if reply.text is None and reply.chunks is None and not reply.tool_calls:
            reply = replace(reply, text=seen.last_text)
        shape = SHAPES[reply.shape or self.shape]
        length = sum(len(_text(m.get("content"))) for m in seen.messages)
        answering = Answering(reply, seen.body or {}, seen.number, shape, length)
        vendor = anthropic if seen.vendor == "anthropic" else openai
        if seen.stream:
            yield from self._stream(seen, reply, vendor.events(answering))
            return
        body = json.dumps(vendor.whole(answering), ensure_ascii=False).encode()
        if reply.drop_after is None:
            yield self._whole(seen, reply, body)
            return
        yield self._whole(seen, reply, body)[: -len(body) // 2]
        yield RESET if reply.reset else CLOSE

    def _failure(self, seen: SeenRequest, reply: Reply) -> bytes:
        error = reply.error
        if reply.raw_body is not None:
            return self._whole(seen, reply, reply.raw_body)
        if not isinstance(error, Mapping):
            text = error or f"scripted failure {reply.status}"
            error = _error(seen, Refused(reply.status, text, code=reply.error_code))
        return self._whole(seen, reply, json.dumps(error).encode())

    def _stream(self, seen: SeenRequest, reply: Reply, pieces: Iterator[bytes]) -> Steps:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "transfer-encoding": "chunked",
            **self._extra(seen),
            **reply.headers,
        }
        yield head_bytes(reply.status, headers)
        for place, piece in enumerate(pieces):
            if place == reply.drop_after:
                yield RESET if reply.reset else CLOSE
            if place == reply.pause_at:
                yield from self._pause(reply)
            if reply.chunk_delay:
                yield lambda: asyncio.sleep(reply.chunk_delay)
            seen.pieces += 1
            yield chunk(piece)
            if reply.pause_at is not None:
                self._notify()
        yield b"0\r\n\r\n"

    def _whole(self, seen: SeenRequest, reply: Reply, body: bytes) -> bytes:
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self._extra(seen),
            **reply.headers,
        }
        return head_bytes(reply.status, headers) + body

    def _json(
        self, seen: SeenRequest, status: int, data: Any, extra: Mapping[str, str] | None = None
    ) -> bytes:
        seen.status = status
        reply = Reply(status=status, headers=extra or {})
        return self._whole(seen, reply, json.dumps(data).encode())

    def _extra(self, seen: SeenRequest) -> Mapping[str, str]:
        return self.headers(seen) if callable(self.headers) else self.headers

    # Being controlled from another process

    def _control(self, head: Head, body: bytes) -> Steps:
        action = head.path.rpartition("/")[2]
        data = getattr(self, f"_control_{action}")(json.loads(body or b"null"))
        text = json.dumps(data).encode()
        yield head_bytes(200, {"content-length": str(len(text))}) + text

    def _control_stats(self, data: Any) -> dict[str, Any]:
        return self.stats()

    def _control_requests(self, since: int | None) -> list[dict[str, Any]]:
        names = """number path body time concurrent status refused end_time closed_early""".split()
        later = [r for r in self.requests if r.number > (since or 0)]
        return [{name: getattr(r, name) for name in names} for r in later]

    def _control_script(self, replies: list[dict[str, Any]] | dict[str, Any]) -> None:
        self.script(
            Reply(**replies) if isinstance(replies, dict) else [Reply(**r) for r in replies]
        )

    def _control_set(self, settings: dict[str, Any]) -> None:
        vars(self).update(settings)

    def _control_release(self, data: Any) -> None:
        self.release()


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _error(seen: SeenRequest, refused: Refused) -> dict[str, Any]:
    if seen.vendor == "anthropic":
        return anthropic.error_body(refused, seen.number)
    return openai.error_body(refused)


def main() -> None:
    """Run as a process of its own; the first line printed is the URL."""
    import argparse

    parser = argparse.ArgumentParser(description="A scripted language model server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--reply", default=None, help="answer this text instead of an echo")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--chunk-delay", type=float, default=0.0)
    parser.add_argument("--capacity", type=int, default=None)
    parser.add_argument("--required-key", default=None)
    options = parser.parse_args()
    server = FakeLLM()
    server.capacity, server.required_key = options.capacity, options.required_key
    reply = Reply(options.reply, delay=options.delay, chunk_delay=options.chunk_delay)
    server.script(reply)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(options.port, announce=True))


if __name__ == "__main__":
    main()
