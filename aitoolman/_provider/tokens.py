"""How many tokens a request has, estimated from its characters and corrected by seen usage.

No tokenizer is asked: every vendor has its own, and a limit or a plan needs a number in
microseconds. English runs at about four characters a token, Chinese, Japanese and Korean at about
one; what vendors report as usage corrects the rest, model by model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._datamodel import Message

__all__ = ["PromptSize", "TokenEstimator", "estimate_tokens", "measure_prompt", "text_tokens"]

TOKENS_PER_CHARACTER = 0.25
WIDE = 4
"""A character of a script written without spaces weighs as much as so many Latin letters."""
REQUEST_TOKENS = 3
MESSAGE_TOKENS = 4
"""Role and separators."""
TOOL_TOKENS = 8
CALL_TOKENS = 8
MEDIA_TOKENS = {"image": 800, "audio": 600, "video": 4000, "document": 2000}
"""Rough flat amounts; vendors count by pixels, seconds and pages."""
OTHER_MEDIA_TOKENS = 800

# Kana, CJK ideographs and punctuation, Hangul, full-width forms, the supplementary ideographs.
_WIDE_RUNS = re.compile(
    "[\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+"
)


class PromptSize(NamedTuple):
    """What an estimate is made from, and what can be learned from."""

    characters: float
    """Of text, in Latin letters' worth."""
    fixed: int
    """Tokens that don't depend on the text: message overhead and media."""
    media: bool = False
    """True where part of `fixed` is a guess about media, so that nothing can be learned."""

    def tokens(self, ratio: float | None = None) -> int:
        """The estimate, at `ratio` tokens per character."""
        return round(self.characters * (ratio or TOKENS_PER_CHARACTER)) + self.fixed


def _weight(text: str) -> int:
    """Characters of `text` in Latin letters' worth."""
    if text.isascii():
        return len(text)
    narrow = _WIDE_RUNS.sub("", text)
    # UTF-8 bytes: accented and Cyrillic letters cost about twice a Latin one, emoji four times.
    return len(narrow.encode("utf-8", "surrogatepass")) + WIDE * (len(text) - len(narrow))


def _message_weight(message: Message) -> int:
    weight = _weight_of(message.content) + _weight_of(message.reasoning_content)
    for call in message.tool_calls or ():
        weight += _weight_of(call.name) + _weight_of(call.arguments_text) + 4 * CALL_TOKENS
    if not weight and message.raw_value:
        weight = _json_weight(message.raw_value)
    return weight


def _weight_of(value: Any) -> int:
    """The weight of a text, or of what some callers put in its place, such as a list of parts."""
    return _weight(value) if isinstance(value, str) else _json_weight(value) if value else 0


def _json_weight(value: Any) -> int:
    import msgspec

    return _weight(msgspec.json.encode(value, enc_hook=str).decode())


def measure_prompt(
    messages: Iterable[Message], tools: Mapping[str, Any] | None = None
) -> PromptSize:
    """The size of a prompt, to estimate from (`PromptSize.tokens`) and to learn from."""
    characters, fixed, media = 0, REQUEST_TOKENS, False
    for message in messages:
        characters += _message_weight(message)
        fixed += MESSAGE_TOKENS
        if message.media_content is not None:
            fixed += sum(_media_tokens(part) for part in message.media)
            media = True
    if tools:
        characters += _json_weight(tools)
        fixed += TOOL_TOKENS * len(tools)
    return PromptSize(characters, fixed, media)


def _media_tokens(part: Any) -> int:
    return MEDIA_TOKENS.get(part.media_type, OTHER_MEDIA_TOKENS)


def estimate_tokens(
    messages: Iterable[Message],
    tools: Mapping[str, Any] | None = None,
    *,
    ratio: float | None = None,
) -> int:
    """How many tokens the prompt has, about.

    Args:
        messages: The conversation.
        tools: Tool definitions that go with it.
        ratio: Tokens per Latin character where something better than a quarter is known.
    """
    return measure_prompt(messages, tools).tokens(ratio)


def text_tokens(text: str, *, ratio: float | None = None) -> int:
    """How many tokens `text` alone has, about; at least 1 where there is any."""
    return max(1, round(_weight(text) * (ratio or TOKENS_PER_CHARACTER))) if text else 0


class _Seen:
    """Characters and tokens of one model's requests, older ones fading."""

    __slots__ = ("characters", "tokens")

    def __init__(self) -> None:
        # The general ratio stands in for a first request of this size.
        self.characters = 400.0
        self.tokens = self.characters * TOKENS_PER_CHARACTER

    def add(self, characters: float, tokens: float, fade: float) -> None:
        self.characters = fade * self.characters + characters
        self.tokens = fade * self.tokens + tokens


class TokenEstimator:
    """Estimates that get better: tokens per character, for each model, from the usage it reports.

    An exponential moving average in which long prompts count for more than short ones. What a
    vendor reports out of all reason (a silent truncation, a counter that is wrong) is cut to
    `lowest` and `highest`.

    Args:
        fade: What remains of an observation's weight at the next one.
    """

    lowest = 0.05
    highest = 2.0

    def __init__(self, fade: float = 0.9) -> None:
        self._fade = fade
        self._seen: dict[str, _Seen] = {}

    def ratio(self, model_name: str) -> float:
        """Tokens per Latin character, as far as known."""
        seen = self._seen.get(model_name)
        return TOKENS_PER_CHARACTER if seen is None else seen.tokens / seen.characters

    def estimate(
        self,
        model_name: str,
        messages: Iterable[Message],
        tools: Mapping[str, Any] | None = None,
    ) -> int:
        """How many tokens the prompt has for this model, about."""
        return measure_prompt(messages, tools).tokens(self.ratio(model_name))

    def learn(self, model_name: str, size: PromptSize, prompt_tokens: int | None) -> None:
        """Take in what the vendor counted, cached tokens included; None and media teach nothing."""
        if not prompt_tokens or size.media or size.characters <= 0:
            return
        ratio = (prompt_tokens - size.fixed) / size.characters
        tokens = min(max(ratio, self.lowest), self.highest) * size.characters
        self._seen.setdefault(model_name, _Seen()).add(size.characters, tokens, self._fade)
