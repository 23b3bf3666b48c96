"""The key of an answer: a hash over everything that can change it, and over nothing else."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._datamodel import MediaContent, Message

    KeepMedia = Callable[[bytes, bytes], None]

__all__ = ["canonical_json", "canonical_request", "fingerprint", "fingerprint_of"]

_encode = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode


def fingerprint(digest: str, canonical: Mapping[str, Any], sample: int) -> bytes:
    """SHA-256 over the model entry's digest, the request and the sample number."""
    return fingerprint_of(digest, canonical_json(canonical), sample)


def fingerprint_of(digest: str, encoded: bytes, sample: int) -> bytes:
    """`fingerprint` of a request that is encoded already."""
    return hashlib.sha256(b"%s\n%d\n%s" % (digest.encode(), sample, encoded)).digest()


def canonical_json(value: Any) -> bytes:
    """`value` as JSON, its keys in alphabetical order.

    Raises:
        TypeError: Keys that JSON has no word for.
        ValueError: A value that holds itself.
    """
    try:
        return _encode(value)
    except (UnicodeEncodeError, RecursionError):  # lone surrogates: escaped, as vendors get them
        return json.dumps(value, sort_keys=True, default=str).encode()


def canonical_request(
    messages: Sequence[Message],
    tools: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
    keep_media: KeepMedia | None = None,
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


def _message(message: Message, keep: KeepMedia | None) -> dict[str, Any]:
    role, content = message.role, message.content
    if role is not None and content is not None and message.count(None) == len(message) - 2:
        return {"role": role, "content": content}  # nearly all of them
    values = {k: v for k, v in zip(message._fields, message, strict=True) if v is not None}
    if message.media_content is not None:
        del values["media_content"]
        values["media"] = [_media(item, keep) for item in message.media]
    if message.tool_calls is not None:
        values["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments_text, "id": call.id}
            for call in message.tool_calls
        ]
    return values


def _media(item: MediaContent, keep: KeepMedia | None) -> dict[str, Any]:
    values: dict[str, Any] = {"media_type": item.media_type}
    if item.options:
        values["options"] = item.options
    if item.raw_value is not None:
        return values | {"raw_value": item.raw_value}
    if item.data is None and item.filename is None:
        return values | {"url": item.url} | _named(item)
    return values | _named(item) | _bytes_of(item, keep)


def _named(item: MediaContent) -> dict[str, Any]:
    """What the vendor is told of a file besides its bytes; the folder is not part of it."""
    found = {}
    if mime_type := item.mime_type or (item.filename and mimetypes.guess_type(item.filename)[0]):
        found["mime_type"] = mime_type
    if item.media_type == "document" and item.filename:
        found["name"] = Path(item.filename).name
    return found


def _bytes_of(item: MediaContent, keep: KeepMedia | None) -> dict[str, Any]:
    data = item.data
    if data is None:
        data = Path(item.filename or "").expanduser().read_bytes()
    digest = hashlib.sha256(data)
    if keep is not None:
        keep(digest.digest(), bytes(data))
    return {"sha256": digest.hexdigest(), "bytes": len(data)}
