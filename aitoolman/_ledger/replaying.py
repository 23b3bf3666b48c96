"""Replay: every answer from the file, in the order in which it was given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._datamodel import FinishReason
from . import records
from .below import bare_response
from .flights import BREATH
from .questions import question_of, read_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import LLMProviderRequest, LLMProviderResponse
    from .flights import Passenger
    from .queries import StoredAnswer
    from .questions import Question
    from .store import LedgerStore

__all__ = ["Player", "Replayer"]


class Player:
    """Plays kept answers to callers.

    Args:
        pace: 0 at once, 1 as recorded, 2 twice as slow.
    """

    def __init__(self, pace: float) -> None:
        self._pace = pace

    async def play(self, passenger: Passenger, stored: StoredAnswer) -> LLMProviderResponse:
        """Stream the kept fragments; returns the answer.

        Raises:
            ValueError: The answer cannot be read.
        """
        response = records.decode_response(stored.response, passenger.request)
        if passenger.request.stream:
            fragments = records.decode_fragments(stored.fragments)
            await self._stream(passenger, fragments)
        return response

    async def _stream(self, passenger: Passenger, fragments: list[records.Fragment]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, fragment in enumerate(fragments, 1):
            if self._pace:
                due = started + fragment.at * self._pace
                await asyncio.sleep(max(0.0, due - loop.time()))
            elif number % BREATH == 0:
                await asyncio.sleep(0)
            await passenger.take(fragment)


class Replayer:
    """Answers from a file alone: the n-th call gets the n-th answer, the last one repeating."""

    def __init__(self, store: LedgerStore, player: Player) -> None:
        self._store = store
        self._player = player
        self._digests: dict[str, list[str]] = {}
        self._turns: dict[bytes, tuple[list[int], int]] = {}
        """Where a question was answered more than once: the answers, and whose turn it is."""

    async def answer(self, passenger: Passenger) -> LLMProviderResponse:
        """The recorded answer, or an error that shows how the nearest recorded request differs."""
        request = passenger.request
        try:
            question = await read_question(request)
        except Exception as exc:  # noqa: BLE001 - a message may hold anything
            text = f"replay: this request cannot be read: {exc}"
            return bare_response(request, FinishReason.error_request, text)
        stored = self.next(question)
        if stored is None:
            text = await asyncio.to_thread(self._store.explain, question)
            return bare_response(request, FinishReason.error_request, text)
        return await self._player.play(passenger, stored)

    async def answer_all(
        self, requests: Sequence[LLMProviderRequest]
    ) -> list[LLMProviderResponse | None]:
        """What was recorded, without its stream; None for each that was not."""
        found: list[LLMProviderResponse | None] = []
        for request in requests:
            question = await question_of(request)
            stored = None if question is None else self.next(question)
            blob = None if stored is None else stored.response
            found.append(None if blob is None else records.decode_response(blob, request))
        return found

    def next(self, question: Question) -> StoredAnswer | None:
        """The answer whose turn it is; None where the request was not recorded."""
        keys = [question.key(digest) for digest in self._digests_of(question.request.model_name)]
        if not keys:
            return None
        turns, turn = self._turns.get(keys[0]) or (self._store.turns(keys), 0)
        if not turns:
            return None
        if len(turns) > 1:
            self._turns[keys[0]] = (turns, min(turn + 1, len(turns) - 1))
        return self._store.kept(turns[turn])

    def _digests_of(self, model_name: str) -> list[str]:
        if model_name not in self._digests:
            self._digests[model_name] = self._store.digests(model_name)
        return self._digests[model_name]
