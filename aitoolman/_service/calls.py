"""One request at the server: what came of its answer, and what the client has of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._datamodel import LLMProviderRequest
from .._ledger.records import Fragment
from .._provider.queue import WITHIN
from .._transport import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._ledger.questions import Question
    from .sessions import Session

__all__ = ["Call"]

TOGETHER_SECONDS = 0.002
"""Fragments that come so soon after others travel with the next ones: nobody sees the difference,
and a message costs as much as some dozens of them."""
MERGE_FROM = 64
"""So many fragments waiting for a slow client are merged where they touch."""


class _Sink:
    """Takes both texts of an answer, all of them: what is shown of it is the client's affair."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[str, str], None]) -> None:
        self._take = take

    async def write(self, message: str | None) -> None:
        if message:
            self._take("t", message)

    async def write_reasoning(self, message: str) -> None:
        self._take("r", message)


class Call:
    """A request under way for a session.

    Args:
        session: Who asked.
        id: The client's name for it.
        wired: What was asked.
        number: Names it at the manager, unique in the server.
        loop: Where the server runs.
    """

    def __init__(
        self,
        session: Session,
        id: str,  # noqa: A002
        wired: wire.WireRequest,
        number: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.session = session
        self.id = id
        self.queued = False
        """True while it waits in the session's queue."""
        self.sent = False
        """True once it went out to a vendor."""
        self.cut: str | None = None
        """Why the server itself ended it."""
        self.question: Question | None = None
        """What is asked, as the ledger sees it."""
        self.fragments: list[Fragment] = []
        """The stream, for the ledger."""
        self._loop = loop
        self._began = loop.time()
        self._pieces: list[tuple[str, str]] = []
        self._passed = 0
        """How many of the pieces were sent."""
        self._at = {"r": 0, "t": 0}
        self._flush: asyncio.Handle | None = None
        self._flushed = 0.0
        sink = _Sink(self._take) if wired.stream else None
        own = (wired.source or wired.context_id or "").replace(WITHIN, " ")
        self.request = LLMProviderRequest(
            session.label,
            wired.context_id,
            str(number),
            wired.model_name,
            wire.unpack_messages(wired.messages),
            wired.tools,
            wired.options,
            wired.stream,
            sink,
            sink,
            call=wire.call_info(wired)._replace(
                source=f"{session.label}{WITHIN}{own.replace(WITHIN, ' ')}"
            ),
        )
        self.own_source = wired.source
        self.audit_id = f"{session.label}/{id}"
        """Names it in the audit, across restarts."""
        self.woken = asyncio.Event()
        """Set when what it waited for is there, or nobody waits for it any more."""
        self.leads: bytes | None = None
        """The fingerprint for which others wait."""
        self.epoch = 0
        """The last freeze of the server after which a client still wanted it."""

    def __repr__(self) -> str:
        return f"Call({self.audit_id})"

    # From the vendor

    def _take(self, kind: str, text: str) -> None:
        self.fragments.append(Fragment(kind, round(self._loop.time() - self._began, 4), text))
        self._pieces.append((kind, text))
        if self._flush is None:
            due = max(0.0, self._flushed + TOGETHER_SECONDS - self._loop.time())
            self._flush = self._loop.call_later(due, self.flush)

    def take_all(self, fragments: Iterable[Fragment]) -> None:
        """The stream of a kept answer."""
        for fragment in fragments:
            self._take(fragment.kind, fragment.text)

    def flush(self) -> None:
        """Hand the session what has come since."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._flushed = self._loop.time()
        if self._passed < len(self._pieces):
            self.session.send_pieces(self)

    # To the client

    @property
    def pending_bytes(self) -> int:
        return sum(len(text) for _, text in self._pieces[self._passed :])

    def pack_pieces(self) -> tuple[bytes, bytes]:
        """Header and body with all that is pending."""
        pieces = self._pieces[self._passed :]
        if len(pieces) >= MERGE_FROM:
            pieces = _merged(pieces)
            self._pieces[self._passed :] = pieces
        body = wire.Pieces((self._at["r"], self._at["t"]), pieces)
        return wire.encode(wire.Header(wire.VERSION, "pieces", self.id)), wire.encode(body)

    def sent_pieces(self) -> None:
        """What was packed last is on its way."""
        for kind, text in self._pieces[self._passed :]:
            self._at[kind] += len(text)
        self._passed = len(self._pieces)
        self.queued = False

    def resume(self, have: tuple[int, int]) -> None:
        """Start again after what the client has."""
        known, missing = _split(self._pieces, have)
        self._pieces = [*known, *missing]
        self._passed = len(known)
        self._at = {kind: sum(len(t) for k, t in known if k == kind) for kind in ("r", "t")}
        self.flush()


def _split(
    pieces: list[tuple[str, str]], have: tuple[int, int]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pieces that a client has, by characters of each kind, and the others, in order."""
    left = {"r": have[0], "t": have[1]}
    known, missing = [], []
    for kind, text in pieces:
        cut = min(left[kind], len(text))
        left[kind] -= cut
        if cut:
            known.append((kind, text[:cut]))
        if cut < len(text):
            missing.append((kind, text[cut:]))
    return known, missing


def _merged(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same text in as few pieces as keep the order of kinds."""
    merged: list[tuple[str, list[str]]] = []
    for kind, text in pieces:
        if merged and merged[-1][0] == kind:
            merged[-1][1].append(text)
        else:
            merged.append((kind, [text]))
    return [(kind, "".join(texts)) for kind, texts in merged]
