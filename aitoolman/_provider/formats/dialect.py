"""What a dialect is: one field per quirk, each value with the page or issue that tells of it."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from typing import Any, Literal, NamedTuple

import msgspec

__all__ = ["Dialect", "Fact", "quirk_doc", "quirk_names"]


class Fact(NamedTuple):
    """One quirk of one vendor, and how we know."""

    value: Any
    source: str
    """The vendor's page, an issue (``owner/repo#N``), or where else it was seen."""
    proved: bool = True
    """False: plausible, but no page or issue was found that says so."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one vendor speaks the format it claims to speak.

    Every field from `reasoning_in` on is a quirk that ``quirks = { ... }`` in ``[api]`` overrides.
    """

    name: str
    format: Literal["openai", "anthropic"] = "openai"
    hosts: tuple[str, ...] = ()
    """Hosts (with their subdomains; or ``:port``) by which the dialect is recognized."""
    evidence: Mapping[str, Fact] = {}
    """The `Fact` behind each quirk that this table sets."""

    reasoning_in: tuple[str, ...] = ("reasoning_content", "reasoning")
    reasoning_out: str = "reasoning_content"
    send_reasoning: Literal["must", "may", "must_not"] = "may"
    think_tags: Literal["off", "leading", "opened"] = "leading"
    tool_index: Literal["given", "guess"] = "guess"
    stream_usage: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens", "any"] = "any"
    default_max_tokens: int | None = None
    renamed_fields: dict[str, str] = {}
    refused_fields: tuple[str, ...] = ()
    stream_only_fields: tuple[str, ...] = ()
    null_lists: tuple[str, ...] = ()
    system_roles: tuple[str, ...] = ("system",)
    message_extras: tuple[str, ...] = ("reasoning_details", "extra_content")
    foreign_call_extra: dict[str, Any] = {}
    signed_thinking: bool = False
    hidden_reasoning_usage: bool = False
    media_types: tuple[str, ...] = ("image", "video", "audio", "document")
    part_options: tuple[str, ...] = ("cache_control",)
    tool_name_pattern: str = r"[a-zA-Z0-9_-]{1,64}"
    tool_id_pattern: str = r".*"


_DOCS = {
    "reasoning_in": "fields that may carry reasoning; the first filled one counts",
    "reasoning_out": "field that carries reasoning back; `thinking_part` puts it into the content",
    "send_reasoning": "whether earlier reasoning `must`, `may` or `must_not` be sent back",
    "think_tags": "`<think>` left in the text: `off` (never there), `leading` (split where the "
    "answer begins with it), `opened` (the answer begins inside it, the opening tag is missing)",
    "tool_index": "`given`: the `index` of a tool-call delta says which call it belongs to; "
    "`guess`: it may be missing or repeated, so ids, names and finished arguments decide",
    "stream_usage": "whether a streamed request carries `stream_options.include_usage`",
    "max_tokens_field": "the token limit's name; `any`: both are understood and go out as given",
    "default_max_tokens": "the token limit sent where the request names none",
    "renamed_fields": "request fields that this vendor calls otherwise",
    "refused_fields": "request fields that the vendor refuses; left out with a note",
    "stream_only_fields": "request fields accepted in streams only: else `true` becomes `false`, "
    "any other value is left out, with a note",
    "null_lists": "lists that the vendor sends as `null` (always understood)",
    "system_roles": "roles understood for system messages; another one becomes the first of these",
    "message_extras": "vendor-only message fields that a stream collects, so that they go back",
    "foreign_call_extra": "what a tool call that this vendor did not make itself has to carry",
    "signed_thinking": "thinking blocks need the vendor's signature; without it they are left out",
    "hidden_reasoning_usage": "`completion_tokens` leaves out reasoning; the total has it",
    "media_types": "media that the vendor takes",
    "part_options": "media options that stand in the content part itself, not in its inner object",
    "tool_name_pattern": "what a tool's name must match",
    "tool_id_pattern": "what a tool call's id must match; foreign ids are replaced consistently",
}


def quirk_names() -> tuple[str, ...]:
    """The keys that ``quirks`` takes."""
    return tuple(_DOCS)


def quirk_doc(name: str) -> str:
    """What a quirk means, one sentence in Markdown."""
    return _DOCS[name]
