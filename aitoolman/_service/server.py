"""The server: one process's service from its configuration to its graceful end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from .._config import ProviderConfig
from .._datamodel import ConfigProblem, LLMConfigError
from .._ledger.schema import default_path
from .._provider.manager import LLMProviderManager
from .._transport import wire
from .audit import Audit
from .doors import AUDIT_DOMAIN, ROUTER_DOMAIN, Doors
from .limits import Limits
from .lock import FileLock
from .port import attach, keep_alive
from .publisher import HIGH_WATER, Publisher
from .pulse import Pulse
from .questions import Questions
from .rate import Rate
from .reception import Reception
from .requests import Requests
from .security import GuestList, is_local
from .veil import Veil

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import LLMProviderRequest
    from .sessions import Session

__all__ = ["LLMServer"]

_log = logging.getLogger("aitoolman.service")

END_SECONDS = 1.0
"""The longest that an ending server waits for its sockets."""
REFUSALS_PER_SECOND = 20
"""How many rows of the audit strangers can make."""


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
        self.config = ProviderConfig.from_dict(config)
        self.table = self.config.resolve_server()
        self.limits = limits or Limits()
        self.guests = GuestList(self.table, self.config.file)
        self._check()
        self.endpoint = ""
        """Where it listens, once started; with the port that was free where none was named."""
        self.pub_endpoint: str | None = None
        self.boot = secrets.token_hex(8)
        """Tells one start of the server from another."""
        self._veil = Veil(self.config)
        self._refusals = Rate(REFUSALS_PER_SECOND)
        self._publisher: Publisher | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._closed = False

    def _check(self) -> None:
        problems = []
        if not self.table.get("zmq_router_rpc"):
            problems.append(ConfigProblem("server.zmq_router_rpc", _NO_ADDRESS))
        if self.table.get("share_answers") and not self._keeps_texts:
            problems.append(ConfigProblem("server.share_answers", _NOTHING_TO_SHARE))
        if self.guests.open and not self.table.get("insecure"):
            problems += [
                ConfigProblem(f"server.{key}", _OPEN_NETWORK)
                for key in ("zmq_router_rpc", "zmq_pub_event")
                if self.table.get(key) and not is_local(self.table[key])
            ]
        if problems:
            raise LLMConfigError(problems, self.config.file)

    @property
    def ledger_path(self) -> Path:
        """The file of the audit."""
        ledger = self.config.resolve_ledger()
        if ledger is not None and ledger.path is not None:
            return Path(ledger.path).expanduser()
        return default_path(Path(self.config.file) if self.config.file else None)

    @property
    def _keeps_texts(self) -> bool:
        """False where the audit, or the ledger that it is, is to have numbers only."""
        ledger = self.config.resolve_ledger()
        retention = "full" if ledger is None else ledger.retention
        return "metadata" not in (self.table.get("audit"), retention)

    # The start

    async def start(self) -> None:
        """Open the ledger, bind, and serve on the running loop.

        Raises:
            LLMConfigError: The ledger or an address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._lock = FileLock(self.ledger_path)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pulse = Pulse(self._on_thaw, self.limits.freeze)
        self.manager = self._make_manager()
        self.audit = Audit(
            self.ledger_path,
            self.manager,
            full=self._keeps_texts,
            redact=self._redact,
            publish=self._publish,
        )
        self.requests = Requests(
            self.manager, self.audit, self._veil, self._pulse, self.limits,
            share=self.table["share_answers"],
        )  # fmt: skip
        self._doors = Doors(self._context, self.guests, self._on_refusal)
        self._sockets: list[zmq.Socket[bytes]] = []
        try:
            await self._open()
        except BaseException:
            await self.close(0)
            raise
        self._tick()

    def _make_manager(self) -> LLMProviderManager:
        return LLMProviderManager(self.config, may_send=self._may_send)

    async def _open(self) -> None:
        router = self._bind_router()
        self._bind_publisher()
        await self.audit.open(self.boot, {"audit": "full" if self._keeps_texts else "metadata"})
        self.reception = Reception(
            router, self.guests, self._handlers(), self, self._pulse, self.limits
        )

    def _handlers(self) -> dict[str, Any]:
        questions = Questions(self.manager, self.audit, self._veil, self.requests.spawn)
        return {
            "request": self.requests.on_request,
            "cancel": self.requests.on_cancel,
            "describe": questions.on_describe,
            "preview": questions.on_preview,
            "audit": questions.on_audit,
            "page": questions.on_page,
        }

    def _bind_router(self) -> zmq.Socket[bytes]:
        router = self._socket(zmq.ROUTER)
        _set_up_router(router, self.limits.max_bytes)
        self._doors.guard(router, ROUTER_DOMAIN)
        self.endpoint = self._attach(router, "zmq_router_rpc", connect=False)
        return router

    def _bind_publisher(self) -> None:
        if not self.table.get("zmq_pub_event"):
            return
        socket = self._socket(zmq.PUB)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        keep_alive(socket)
        self._doors.guard(socket, AUDIT_DOMAIN)
        connect = self.table["zmq_pub_event_type"] == "connect"
        self.pub_endpoint = self._attach(socket, "zmq_pub_event", connect)
        self._publisher = Publisher(socket, self.guests.monitors)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        return socket

    def _attach(self, socket: zmq.Socket[bytes], key: str, connect: bool) -> str:
        """Bind or connect a socket where the configuration says; gives its address."""
        endpoint: str = self.table[key]
        try:
            attach(socket, endpoint, bind=not connect)
        except zmq.ZMQError as exc:
            verb = "connected to" if connect else "bound"
            problem = ConfigProblem(f"server.{key}", f"{endpoint} cannot be {verb}: {exc}")
            raise LLMConfigError([problem], self.config.file) from exc
        bound: Any = socket.getsockopt(zmq.LAST_ENDPOINT)
        return endpoint if connect else bytes(bound).rstrip(b"\0").decode()

    # The end

    async def close(self, drain: float | None = None) -> None:
        """Take no more, let what runs finish for a while, end the rest. Again is fine."""
        if self._closed:
            return
        self._closed = True
        if hasattr(self, "reception"):
            self.reception.announce_end()
        await self.requests.drain(self.limits.drain if drain is None else drain)
        await self.manager.close()
        await self.requests.close()
        self._shut()
        await self.audit.close()
        self._lock.release()
        await self._let_go()

    def _shut(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        self._doors.close()
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        if hasattr(self, "reception"):
            self.reception.close()
        for socket in self._sockets:
            socket.close(0)

    async def _let_go(self) -> None:
        """Wait until what was sent last is on its way; a socket that is stuck holds up nobody."""
        ending = threading.Thread(target=self._context.term, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, END_SECONDS)

    # For the other parts

    def about(self) -> wire.Welcome:
        """What every client is told."""
        return wire.Welcome(
            boot=self.boot,
            max_bytes=self.limits.max_bytes,
            max_requests=self.limits.max_requests,
            on_restart=self.table["on_server_restart"],
            ledger=self.audit.ledger_id,
            head=self.audit.head,
        )

    def on_leave(self, session: Session, why: str) -> None:
        """A client is gone."""
        self.requests.cut_all(session, why)

    def _may_send(self, request: LLMProviderRequest) -> None:
        self.requests.may_send(request)

    def _redact(self, text: str) -> str:
        """`text` without vendors' keys and clients' tokens."""
        return self.guests.redactor.text(self.manager.redact(text))

    def _publish(self, event: wire.Event) -> None:
        if self._publisher is not None:
            self._publisher.send("event", event)

    def _on_refusal(self, sentence: str) -> None:
        left_out = self._refusals.allow()
        if left_out is not None:
            _log.warning("refused: %s", sentence)
            self.audit.refused(sentence + (f" ({left_out} more before)" if left_out else ""))

    def _on_thaw(self, silence: float) -> None:
        """What was in line stays there unless its client still wants it, and says hello again."""
        _log.warning("this process stood still for %.1f s; queued requests are dropped", silence)
        if hasattr(self, "reception"):
            self.reception.start_over()

    # Time

    def _tick(self) -> None:
        self._pulse.feel()
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)
        self.reception.look_after_all()
        self.requests.finished.forget_old()
        if self._publisher is not None:
            self._publisher.send("beat", self._beat())

    def _beat(self) -> wire.Beat:
        calls = self.requests.running.values()
        queue = sum(1 for call in calls if not call.sent)
        running = len(calls) - queue
        return wire.Beat(self.audit.ledger_id, self.audit.head, self.endpoint, queue, running)


_NO_ADDRESS = 'is missing; the server needs an address, for example "tcp://127.0.0.1:5555"'
_NOTHING_TO_SHARE = (
    'needs the answers, which audit = "metadata" (or retention in [ledger]) leaves out; keep them,'
    " or do not share"
)
_OPEN_NETWORK = (
    "is reachable from the network, but there is no token: set zmq_auth_token (`aitoolman keygen`"
    " prints one), use tcp://127.0.0.1 or ipc://, or say insecure = true"
)


def _set_up_router(router: zmq.Socket[bytes], max_bytes: int) -> None:
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # and never HANDOVER: ids are not for taking over
    router.setsockopt(zmq.SNDHWM, 500)
    router.setsockopt(zmq.RCVHWM, 1_000)
    router.setsockopt(zmq.MAXMSGSIZE, max_bytes + wire.HEADER_BYTES)
    keep_alive(router)
