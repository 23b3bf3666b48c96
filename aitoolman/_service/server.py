"""The server: takes requests, has the provider manager answer them, and keeps the audit."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq

from .._datamodel import (
    ConfigProblem,
    FinishReason,
    LLMApiRequestError,
    LLMApplicationError,
    LLMConfigError,
    LLMError,
)
from .._ledger.schema import default_path
from .._provider.checking import checked_config
from .._provider.manager import LLMProviderManager
from .._transport import wire
from .answers import FinishedAnswers
from .audit import Audit
from .calls import Call
from .doors import AUDIT_DOMAIN, ROUTER_DOMAIN, Doors
from .lock import FileLock
from .port import Port
from .publisher import Publisher
from .pulse import FREEZE_SECONDS, Pulse
from .rate import Rate
from .security import DEFAULT_CLIENT, GuestList, is_local
from .sessions import Seal, Session
from .veil import Veil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._datamodel import LLMProviderRequest
    from .security import Guest

__all__ = ["LLMServer", "Limits"]

_log = logging.getLogger("aitoolman.service")


class Limits(NamedTuple):
    """Bounds and seconds; other values are for tests."""

    lease: float = 30.0
    """A client that says nothing for so long is taken for dead."""
    grace: float = 10.0
    """The same for one whose connection is gone."""
    max_bytes: int = wire.MAX_BYTES
    max_requests: int = 2_000
    """Under way for one session; its client keeps the others back."""
    max_total: int = 20_000
    """Under way in all; further ones are answered "busy"."""
    tick: float = 0.5
    retry: float = 0.01
    """Between two attempts to send to a client that does not keep up."""
    drain: float = 10.0
    """What requests under way get to finish when the server is told to stop."""
    freeze: float = FREEZE_SECONDS


class LLMServer:
    """One process's service.

    Args:
        config: The provider configuration with its ``[server]`` table.
        limits: For tests.

    Raises:
        LLMConfigError: The configuration has mistakes, ``server.zmq_router_rpc`` is missing, a
            network address has no token, a token is too short.
    """

    def __init__(self, config: Mapping[str, Any], limits: Limits | None = None) -> None:
        self.config = checked_config(config)
        self.table = self.config.resolve_server()
        self.limits = limits or Limits()
        self.guests = GuestList(self.table, self.config.file)
        self._check()
        self.endpoint = ""
        """Where it listens, once started; with the port that was free where none was named."""
        self.pub_endpoint: str | None = None
        self.boot = secrets.token_hex(8)
        self.sessions: dict[str, Session] = {}
        self._routes: dict[bytes, Session] = {}
        self._running: dict[str, Call] = {}
        """By the manager's request id."""
        self._numbers = itertools.count(1)
        self._finished = FinishedAnswers()
        self._seal = Seal()
        self._veil = Veil(self.config)
        self._closing = False
        self._sending: asyncio.TimerHandle | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._auth_rate = Rate(20)
        self.junk = 0
        """Messages that could not be read."""

    def _check(self) -> None:
        endpoint = self.table.get("zmq_router_rpc")
        problems = []
        if not endpoint:
            problems.append(
                ConfigProblem(
                    "server.zmq_router_rpc",
                    'is missing; the server needs an address, for example "tcp://127.0.0.1:5555"',
                )
            )
        if self.guests.open and not self.table.get("insecure"):
            problems += [
                ConfigProblem(f"server.{key}", _OPEN_NETWORK)
                for key in ("zmq_router_rpc", "zmq_pub_event")
                if self.table.get(key) and not is_local(self.table[key])
            ]
        if problems:
            raise LLMConfigError(problems, self.config.file)

    # Life

    async def start(self) -> None:
        """Open the ledger, bind, and serve on the running loop.

        Raises:
            LLMConfigError: The ledger or an address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._lock = FileLock(self.ledger_path)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pulse = Pulse(self._on_thaw, self.limits.freeze)
        self.manager = LLMProviderManager(self.config, may_send=self._may_send)
        self._publisher: Publisher | None = None
        full = self.table["audit"] == "full"
        self.audit = Audit(self.ledger_path, full=full, publish=self._publish)
        try:
            self._doors = Doors(self._context, self.guests, self._on_refusal)
            await self.audit.open(self.boot, {"audit": self.table["audit"]})
            self._bind()
        except BaseException:
            await self.close(0)
            raise
        self._tick()

    @property
    def ledger_path(self) -> Path:
        """The file of the audit."""
        ledger = self.config.resolve_ledger()
        if ledger is not None and ledger.path is not None:
            return Path(ledger.path).expanduser()
        return default_path(Path(self.config.file) if self.config.file else None)

    def _bind(self) -> None:
        pub = self.table.get("zmq_pub_event")
        if pub:
            socket = self._context.socket(zmq.PUB)
            socket.setsockopt(zmq.SNDHWM, 10_000)
            self._doors.guard(socket, AUDIT_DOMAIN)
            connect = self.table["zmq_pub_event_type"] == "connect"
            self.pub_endpoint = self._open(socket, pub, "server.zmq_pub_event", connect)
            self._publisher = Publisher(socket, self.guests.monitors)
        router = self._context.socket(zmq.ROUTER)
        _set_up_router(router, self.limits.max_bytes)
        self._doors.guard(router, ROUTER_DOMAIN)
        self.endpoint = self._open(router, self.table["zmq_router_rpc"], "server.zmq_router_rpc")
        self._port = Port(router, self._on_frames)

    def _open(
        self, socket: zmq.Socket[bytes], endpoint: str, key: str, connect: bool = False
    ) -> str:
        try:
            (socket.connect if connect else socket.bind)(endpoint)
        except zmq.ZMQError as exc:
            socket.close(0)
            verb = "connected to" if connect else "bound"
            problem = ConfigProblem(key, f"{endpoint} cannot be {verb}: {exc}")
            raise LLMConfigError([problem], self.config.file) from exc
        bound: Any = socket.getsockopt(zmq.LAST_ENDPOINT)
        return endpoint if connect else bytes(bound).rstrip(b"\0").decode()

    async def close(self, drain: float | None = None) -> None:
        """Take no more, let what runs finish for a while, end the rest. Again is fine."""
        if self._closing:
            return
        self._closing = True
        for session in self.sessions.values():
            session.send("closing")
        end = self._loop.time() + (self.limits.drain if drain is None else drain)
        while self._running and self._loop.time() < end:
            await asyncio.sleep(0.02)
        for call in self._running.values():
            call.cut = call.cut or "the server was stopped"
        await self.manager.close()
        await self._end_tasks()
        self._shut()
        await self.audit.close()
        self._lock.release()

    async def _end_tasks(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)
        for session in self.sessions.values():
            session.flush()

    def _shut(self) -> None:
        for handle in (self._sending, self._ticking):
            if handle is not None:
                handle.cancel()
        if self._publisher is not None:
            self._publisher.close()
        if hasattr(self, "_port"):
            self._port.close(linger=300)
        if hasattr(self, "_doors"):
            self._doors.close()
        self._loop.run_in_executor(None, self._context.term)

    # Frames

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        """One message; whatever is wrong with it, the next one is served."""
        self._pulse.feel()
        try:
            self._dispatch(frames)
        except (ValueError, IndexError):
            self.junk += 1
        except Exception:  # noqa: BLE001 - one message must not end the service
            _log.exception("a message could not be served")

    def _dispatch(self, frames: list[zmq.Frame]) -> None:
        route, guest = frames[0].bytes, self._guest_of(frames[-1])
        if len(frames) != 3 or len(frames[1]) > wire.HEADER_BYTES:
            raise ValueError("not three frames, or a header too large")
        header = wire.decode(frames[1].buffer, wire.Header)
        body = frames[2].buffer
        if header.v != wire.VERSION:
            self._reply(route, "refused", header.id, _other_version(header.v))
        elif header.op == "hello":
            self._on_hello(route, guest, wire.decode(body, wire.Hello))
        else:
            self._on_known(route, guest, header, body)

    def _guest_of(self, frame: zmq.Frame) -> Guest:
        """Whom CURVE let in, which no message can claim."""
        if self.guests.open:
            return self.guests.by_name[DEFAULT_CLIENT]
        return self.guests.by_name[str(frame.get("User-Id"))]

    def _on_known(self, route: bytes, guest: Guest, header: wire.Header, body: memoryview) -> None:
        session = self._routes.get(route)
        if session is None or session.guest is not guest:
            self._reply(route, "stale", header.id)
            return
        session.last_seen = self._loop.time()
        handler = _HANDLERS.get(header.op)
        if handler is None:
            session.send("refused", header.id, _refusal(f"unknown message {header.op[:40]!r}"))
            return
        try:
            handler(self, session, header.id, body)
        except ValueError as exc:
            self.junk += 1
            session.send("refused", header.id, _refusal(f"the message cannot be read: {exc}"))

    def _reply(self, route: bytes, op: str, id: str = "", body: bytes = b"") -> None:  # noqa: A002
        """Answer someone who has no session."""
        try:
            self._port.send([route, wire.encode(wire.Header(wire.VERSION, op, id)), body])
        except zmq.ZMQError:
            _log.debug("somebody without a session went away")

    # Sessions

    def _on_hello(self, route: bytes, guest: Guest, hello: wire.Hello) -> None:
        session = self.sessions.get(hello.session)
        if session is None or session.guest is not guest:
            ours = self._seal.is_ours(guest, hello.session)
            name = hello.session if ours else self._seal.new(guest)
            session = self.sessions[name] = Session(name, guest, self._port)
        self._attach(session, route)
        welcome = self._welcome(session, hello.challenge)
        session.send("welcome", "", wire.encode(welcome))
        if self._closing:
            session.send("closing")

    def _attach(self, session: Session, route: bytes) -> None:
        if session.route is not None:
            self._routes.pop(session.route, None)
            session.detach()
        former = self._routes.pop(route, None)
        if former is not None:
            former.detach()
        session.route = route
        session.last_seen = self._loop.time()
        self._routes[route] = session

    def _welcome(self, session: Session, challenge: bytes) -> wire.Welcome:
        keys, said = session.guest.keys, (session.name.encode(), self.boot.encode())
        return wire.Welcome(
            proof=b"" if keys is None else keys.proof(b"welcome", challenge, *said),
            session=session.name,
            boot=self.boot,
            client=session.guest.name,
            max_bytes=self.limits.max_bytes,
            max_requests=self.limits.max_requests,
            on_restart=self.table["on_server_restart"],
            ledger=self.audit.ledger_id,
            head=self.audit.head,
        )

    def _on_bye(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        self._end_session(session, "the client left")

    def _end_session(self, session: Session, why: str) -> None:
        """Cancel what a client that is gone asked for; finished answers stay for a while."""
        for call in list(session.calls.values()):
            self._cut(call, why)
        if session.route is not None:
            self._routes.pop(session.route, None)
            session.detach()
        self.sessions.pop(session.name, None)

    def _cut(self, call: Call, why: str) -> None:
        call.cut = call.cut or why
        call.session.calls.pop(call.id, None)
        self._cancel(call)

    def _cancel(self, call: Call) -> None:
        self._spawn(self.manager.cancel_request(call.request.request_id))

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Requests

    def _on_request(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        if len(body) > self.limits.max_bytes:
            session.send("refused", id, _refusal(self._too_large(len(body))))
            return
        wired = wire.decode(body, wire.WireRequest)
        call = session.calls.get(id)
        if call is not None:
            call.epoch = self._pulse.epoch
            call.resume(wired.have)
        elif (answer := self._finished.get(session.label, id)) is not None:
            session.send("answer", id, answer)
        elif not session.guest.may_use(wired.model_name):
            session.send("refused", id, _refusal(_not_allowed(session.guest, wired.model_name)))
        elif self._closing or len(self._running) >= self.limits.max_total:
            session.send("busy", id, wire.encode(wire.Busy(len(self._running))))
        elif len(session.calls) >= self.limits.max_requests:
            session.send("busy", id, wire.encode(wire.Busy(len(session.calls))))
        elif wired.again:
            self._spawn(self._recall(session, id, wired))
        else:
            self._begin(session, id, wired)

    def _too_large(self, size: int) -> str:
        return f"the request has {size:,} bytes; at most {self.limits.max_bytes:,} are taken"

    async def _recall(self, session: Session, id: str, wired: wire.WireRequest) -> None:  # noqa: A002
        """A request that was sent before: perhaps an earlier server finished it."""
        answer = await self.audit.answer_of(f"{session.label}/{id}")
        if answer is not None:
            session.send("answer", id, answer)
        elif id in session.calls:
            session.calls[id].resume(wired.have)
        elif wired.have != (0, 0):
            text = "the server was restarted in the middle of this answer; its text broke off"
            session.send("refused", id, _refusal(text))
        elif self.sessions.get(session.name) is session:
            self._begin(session, id, wired)

    def _begin(self, session: Session, id: str, wired: wire.WireRequest) -> None:  # noqa: A002
        call = Call(session, id, wired, next(self._numbers), self._loop)
        call.epoch = self._pulse.epoch
        session.calls[id] = self._running[call.request.request_id] = call
        self.audit.request(call)
        self.manager.process_request(call.request, self._on_answered)

    def _may_send(self, request: LLMProviderRequest) -> None:
        """Keep back what was in line while this process stood still: others have it by now."""
        self._pulse.feel()
        call = self._running.get(request.request_id)
        if call is not None and call.epoch != self._pulse.epoch:
            call.cut = "the server stood still while the request was in line"
            raise LLMApiRequestError(call.cut)
        if call is not None:
            call.sent = True

    async def _on_answered(self, request: LLMProviderRequest) -> None:
        """Write an answer down, then send it."""
        call = self._running[request.request_id]
        response = request.response.result()
        self._veil.response(response)
        call.flush()
        try:
            body = wire.encode(wire.pack_response(response))
        except LLMApplicationError as exc:
            response.response_message = None
            response.finish_reason, response.error_text = FinishReason.error_format.value, str(exc)
            body = wire.encode(wire.pack_response(response))
        try:
            await self.audit.answer(call, response, body)
        except Exception as exc:  # noqa: BLE001 - a full disk must not cost a paid answer
            _log.error("an answer could not be written down: %s", exc)
        finally:
            self._running.pop(request.request_id, None)
        self._deliver(call, body)

    def _deliver(self, call: Call, body: bytes) -> None:
        session = call.session
        if session.calls.get(call.id) is call:
            del session.calls[call.id]
        if call.cut is None:
            self._finished.add(session.label, call.id, body)
            session.send("answer", call.id, body)
        elif self._closing:
            session.send("refused", call.id, _refusal(call.cut))

    def _on_cancel(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        call = session.calls.get(id)
        if call is not None:
            self.audit.cancel(session.label, call.request.context_id, call.audit_id)
            self._cancel(call)

    def _on_cancel_all(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        context = wire.decode(body, wire.Context).context_id
        self.audit.cancel(session.label, context, None)
        self._spawn(self.manager.cancel_all_requests(session.label, context))

    # Questions

    def _on_ping(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        session.send("pong")

    def _on_describe(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        ask = wire.decode(body, wire.Ask)

        async def describe() -> wire.Wire:
            self._allow(session.guest, ask.model_name)
            return wire.said_description(await self.manager.describe(ask.model_name))

        self._spawn(self._say(session, id, describe))

    def _on_preview(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        asked = wire.decode(body, wire.WireRequest)

        async def preview() -> wire.Wire:
            self._allow(session.guest, asked.model_name)
            messages = wire.unpack_messages(asked.messages)
            return wire.said_preview(
                await self.manager.preview(
                    asked.model_name, messages, asked.tools, asked.options, asked.stream
                )
            )

        self._spawn(self._say(session, id, preview))

    def _on_audit(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        event = wire.decode(body, wire.Audit)

        async def write() -> wire.Wire:
            await self.audit.event(session.label, event)
            return wire.Said("")

        self._spawn(self._say(session, id, write))

    def _on_page(self, session: Session, id: str, body: memoryview) -> None:  # noqa: A002
        page = wire.decode(body, wire.Page)

        async def fetch() -> wire.Wire:
            if not session.guest.monitor:
                raise LLMApiRequestError(f"{session.guest.name!r} may not read the audit")
            return await self.audit.page(page.after, max(1, min(page.limit, 1_000)))

        self._spawn(self._say(session, id, fetch))

    def _allow(self, guest: Guest, model_name: str) -> None:
        if not guest.may_use(model_name):
            raise LLMApiRequestError(_not_allowed(guest, model_name))

    async def _say(
        self,
        session: Session,
        id: str,
        question: Callable[[], Any],
    ) -> None:
        try:
            body = wire.encode(await question())
        except LLMError as exc:
            kind = "application" if isinstance(exc, LLMApplicationError) else "request"
            session.send("refused", id, _refusal(self._veil.text(str(exc)), kind))
        except Exception as exc:  # noqa: BLE001 - the client is told, the log has it
            _log.exception("a question could not be answered")
            session.send("refused", id, _refusal(f"the server failed: {type(exc).__name__}"))
        else:
            session.send("said", id, body)

    # Time

    def _tick(self) -> None:
        self._pulse.feel()
        now = self._loop.time()
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)
        self._beat()
        for session in list(self.sessions.values()):
            self._look_after(session, now)
        self._finished.forget_old()
        if any(session.has_queue for session in self.sessions.values()):
            self._send_soon()

    def _look_after(self, session: Session, now: float) -> None:
        silence = now - session.last_seen
        allowed = self.limits.grace if session.route is None else self.limits.lease
        if silence > allowed:
            self._end_session(session, "the client is gone")
        elif session.is_clogged:
            _log.warning("%s does not take its answers: cut off", session.label)
            self._end_session(session, "the client does not take its answers")
        elif session.calls and silence > 2.5:
            session.send("pong")  # shows whether the connection still stands

    def _beat(self) -> None:
        if self._publisher is not None:
            queue = sum(1 for call in self._running.values() if not call.sent)
            running = len(self._running) - queue
            beat = wire.Beat(self.audit.ledger_id, self.audit.head, self.endpoint, queue, running)
            self._publisher.send("beat", beat)

    def _publish(self, event: wire.Event) -> None:
        if self._publisher is not None:
            self._publisher.send("event", event)

    def _send_soon(self) -> None:
        if self._sending is None:
            self._sending = self._loop.call_later(self.limits.retry, self._send_queued)

    def _send_queued(self) -> None:
        self._sending = None
        waiting = [session for session in self.sessions.values() if session.has_queue]
        for session in waiting:
            session.flush()
        if any(session.has_queue for session in waiting):
            self._send_soon()

    def _on_thaw(self, silence: float) -> None:
        """What was in line stays there unless its client still wants it, and says hello again."""
        _log.warning("this process stood still for %.1f s; queued requests are dropped", silence)
        now = self._loop.time()
        for route, session in list(self._routes.items()):
            self._reply(route, "stale")
            session.detach()
            session.last_seen = now
        self._routes.clear()

    def _on_refusal(self, sentence: str) -> None:
        _log.warning("refused: %s", sentence)
        left_out = self._auth_rate.allow()
        if left_out is not None:
            more = f" ({left_out} more before)" if left_out else ""
            self.audit.refused(sentence + more)


Handler = Any
_HANDLERS: dict[str, Handler] = {
    "request": LLMServer._on_request,
    "cancel": LLMServer._on_cancel,
    "cancel_all": LLMServer._on_cancel_all,
    "ping": LLMServer._on_ping,
    "describe": LLMServer._on_describe,
    "preview": LLMServer._on_preview,
    "audit": LLMServer._on_audit,
    "page": LLMServer._on_page,
    "bye": LLMServer._on_bye,
}

_OPEN_NETWORK = (
    "is reachable from the network, but there is no token: set zmq_auth_token (`aitoolman keygen`"
    " prints one), use tcp://127.0.0.1 or ipc://, or say insecure = true"
)


def _set_up_router(router: zmq.Socket[bytes], max_bytes: int) -> None:
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.SNDHWM, 500)
    router.setsockopt(zmq.RCVHWM, 1_000)
    router.setsockopt(zmq.MAXMSGSIZE, max_bytes + 1_000)
    router.setsockopt(zmq.HEARTBEAT_IVL, 5_000)
    router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
    router.setsockopt(zmq.LINGER, 300)


def _refusal(reason: str, kind: str = "request") -> bytes:
    return wire.encode(wire.Refusal(reason, kind))


def _other_version(theirs: int) -> bytes:
    return _refusal(
        f"the server speaks version {wire.VERSION} of the protocol, the client {theirs}: update the"
        " older one of the two"
    )


def _not_allowed(guest: Guest, model_name: str) -> str:
    known = ", ".join(sorted(guest.models or ()))
    return f"{guest.name!r} may not use the model {model_name!r}; allowed: {known or 'none'}"
