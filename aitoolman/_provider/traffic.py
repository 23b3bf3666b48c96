"""What went over the wire in one exchange: for ``response.exchange`` and for DEBUG records."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from .._datamodel import Exchange, FinishReason
from .._secrets import mask_headers, whole_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._datamodel import LLMProviderResponse
    from .._secrets import Redactor
    from .endpoint import Target

__all__ = ["NO_HEADERS", "Traffic", "log", "log_answer", "log_request", "shown_body"]

log = logging.getLogger("aitoolman.provider")

NO_HEADERS: Mapping[str, str] = {}

_ENDED = (FinishReason.stop.value, FinishReason.tool_calls.value)
_EVENT = re.compile(rb"^data:", re.MULTILINE)
_LONG_DATA = re.compile(r"[A-Za-z0-9+/_\-]{400,}={0,2}")


class Traffic:
    """Collects an exchange; blocks are kept as they came and joined when somebody looks."""

    __slots__ = ("_headers", "_redactor", "blocks", "body", "status", "streamed", "target")

    def __init__(self, target: Target, body: bytes, redactor: Redactor) -> None:
        self.target = target
        self.body = body
        self.blocks: list[bytes] = []
        self.status: int | None = None
        self.streamed = False
        """True where `blocks` are a stream of events."""
        self._headers = NO_HEADERS
        self._redactor = redactor

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer."""
        self.status = status
        self._headers = headers

    def exchange(self) -> Exchange:
        """The exchange so far, secrets masked."""
        clean = self._redactor.text
        headers = {clean(name): clean(value) for name, value in self._headers.items()}
        return Exchange(
            self.target.shown_url,
            dict(self.target.shown_headers),
            clean(self.body.decode("utf-8", "replace")),
            self.status,
            mask_headers(headers) if "Set-Cookie" in self._headers else headers,
            clean(b"".join(self.blocks).decode("utf-8", "replace")),
        )

    def told(self, response: LLMProviderResponse) -> str:
        """What came back, for a log: a whole body as it is, a stream by what it amounts to.

        A secret that a stream tells in pieces is found only once they are put together.
        """
        raw = b"".join(self.blocks)
        if not self.streamed:
            return shown_body(self._redactor.text(raw.decode("utf-8", "replace")))
        calls = response.response_tool_calls
        said = [
            ("reasoning", response.response_reasoning),
            ("text", response.response_text),
            *((f"call of {call.name}", call.arguments_text) for call in calls),
        ]
        # Where a stream was cut off, half a key may be the last that each of them says.
        whole = str if response.finish_reason in _ENDED else whole_words
        clean = self._redactor.text
        parts = [f"{clean(name)} {clean(whole(text))!r}" for name, text in said if text]
        size = f"(a stream of {len(_EVENT.findall(raw)):,} events, {len(raw):,} bytes)"
        return " ".join([size, *map(shown_body, parts)])


def log_request(request_id: str, traffic: Traffic) -> None:
    """Write what is sent at DEBUG."""
    sent = traffic.exchange()
    body = shown_body(sent.request_body)
    log.debug("%s > POST %s %s %s", request_id, sent.url, sent.request_headers, body)


def log_answer(request_id: str, traffic: Traffic, response: LLMProviderResponse) -> None:
    """Write what came back at DEBUG."""
    got = traffic.exchange()
    body = traffic.told(response)
    log.debug("%s < HTTP %s %s %s", request_id, got.status, got.response_headers, body)


def shown_body(text: str) -> str:
    """A body with every long run of encoded data cut down to its length."""
    return _LONG_DATA.sub(lambda run: f"{run[0][:20]}...({len(run[0])} characters)", text)
