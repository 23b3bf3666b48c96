"""A request as the ledger sees it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .fingerprint import canonical_json, canonical_request, fingerprint_of

if TYPE_CHECKING:
    from .._datamodel import LLMProviderRequest

__all__ = ["Question", "has_media", "question_now", "question_of", "read_question"]

_log = logging.getLogger("aitoolman.ledger")


class Question:
    """A request in its canonical form, which becomes a key once the model is known.

    Raises:
        Exception: The request is nothing that could be sent as JSON, or a file cannot be read.
    """

    __slots__ = ("encoded", "media", "request")

    def __init__(self, request: LLMProviderRequest) -> None:
        self.request = request
        self.media: dict[bytes, bytes] = {}
        canonical = canonical_request(
            request.messages, request.tools, request.options, self.media.__setitem__
        )
        self.encoded = canonical_json(canonical)

    def key(self, digest: str) -> bytes:
        """The fingerprint of this question to the model of this digest."""
        return fingerprint_of(digest, self.encoded, self.request.call.sample)


async def read_question(request: LLMProviderRequest) -> Question:
    """The question, its files read off the loop.

    Raises:
        Exception: As for `Question`.
    """
    if has_media(request):
        return await asyncio.to_thread(Question, request)
    return Question(request)


async def question_of(request: LLMProviderRequest) -> Question | None:
    """The question, its files read off the loop; None where there can be none.

    The client below will say what is wrong with such a request, so nothing is raised here.
    """
    if has_media(request):
        return await asyncio.to_thread(question_now, request)
    return question_now(request)


def question_now(request: LLMProviderRequest) -> Question | None:
    """`question_of` a request that names no files, or where waiting for them is no matter."""
    try:
        return Question(request)
    except Exception as exc:  # noqa: BLE001 - a message may hold anything
        _log.debug("request %s has no fingerprint: %s", request.request_id, exc)
        return None


def has_media(request: LLMProviderRequest) -> bool:
    """True where reading the request may take a while: it may name files."""
    for message in request.messages:  # noqa: SIM110 - `any` takes three times as long
        if message.media_content is not None:
            return True
    return False
