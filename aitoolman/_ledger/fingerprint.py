"""The key of an answer: a hash over everything that can change it, and over nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._datamodel import MediaContent, Message

__all__ = ["canonical_request", "fingerprint"]

_encode = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode


def fingerprint(digest: str, canonical: Mapping[str, Any], sample: int) -> bytes:
    """SHA-256 over the model entry's digest, the request and the sample number."""
    return hashlib.sha256(_encode([digest, canonical, sample])).digest()


def canonical_request(
    messages: Sequence[Message],
    tools: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
    keep_media: Callable[[bytes, bytes], None] | None = None,
) -> dict[str, Any]:
    """The request as plain JSON values, media replaced by their SHA-256.

    Fields that are not set are left out, so that fields added to `Message` later change no key.

    Args:
        messages: The turns.
        tools: Tool definitions.
        options: The request's own options; those of the configuration are in the digest.
        keep_media: Called with hash and bytes of each media item that has bytes.

    Raises:
        OSError: A media file cannot be read.
    """
    found: dict[str, Any] = {"messages": [_message(m, keep_media) for m in messages]}
    if tools:
        found["tools"] = tools
    if options:
        found["options"] = options
    return found


def _message(message: Message, keep: Callable[[bytes, bytes], None] | None) -> dict[str, Any]:
    values = {
        name: value
        for name, value in zip(message._fields, message, strict=True)
        if value is not None and name != "media_content"
    }
    if message.media_content is not None:
        values["media"] = [_media(item, keep) for item in message.media]
    return values


def _media(item: MediaContent, keep: Callable[[bytes, bytes], None] | None) -> dict[str, Any]:
    values: dict[str, Any] = {"media_type": item.media_type}
    if item.options:
        values["options"] = item.options
    if item.raw_value is not None:
        return values | {"raw_value": item.raw_value}
    if item.data is None and item.filename is None:
        return values | {"url": item.url}
    data = item.data if item.data is not None else Path(item.filename or "").read_bytes()
    digest = hashlib.sha256(data)
    if keep is not None:
        keep(digest.digest(), data)
    if item.mime_type:
        values["mime_type"] = item.mime_type
    return values | {"sha256": digest.hexdigest(), "bytes": len(data)}
