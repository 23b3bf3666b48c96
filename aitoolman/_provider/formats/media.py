"""Images, videos, audio and documents: found, read, and put into a vendor's content part."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._datamodel import LLMApplicationError, MediaContent

if TYPE_CHECKING:
    from .dialect import Dialect

__all__ = ["MediaSource", "anthropic_part", "openai_part", "read_media"]

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-m4a": "m4a"}
_ANTHROPIC_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class MediaSource(NamedTuple):
    """A medium, ready to be written into a part: either `data` with `mime_type`, or `url`."""

    kind: str
    data: bytes | None
    mime_type: str
    url: str | None
    filename: str | None

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data or b"").decode("ascii")

    @property
    def link(self) -> str:
        """The URL, or the data as a ``data:`` URL (RFC 2397)."""
        return self.url or f"data:{self.mime_type};base64,{self.base64}"


def read_media(media: MediaContent) -> MediaSource:
    """Find the medium by the specification's priority: data, then the file, then the URL.

    Raises:
        LLMApplicationError: No source at all, an unreadable file, or an unknown MIME type.
    """
    kind = media.media_type
    name = Path(media.filename).name if media.filename else None
    if media.data is not None:
        return MediaSource(kind, bytes(media.data), _mime_type(media, media.data), None, name)
    if media.filename:
        data = _read_file(media.filename)
        return MediaSource(kind, data, _mime_type(media, data), None, name)
    if media.url:
        return _from_url(media, media.url)
    raise LLMApplicationError(f"{kind} content has no raw_value, data, filename or url")


def _read_file(filename: str) -> bytes:
    try:
        return Path(filename).expanduser().read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise LLMApplicationError(f"cannot read the media file {filename!r}: {reason}") from exc


def _from_url(media: MediaContent, url: str) -> MediaSource:
    """A ``data:`` URL is taken apart, since not every vendor reads one."""
    kind, (head, _, payload) = media.media_type, url.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        try:
            data = base64.b64decode(payload, validate=True)
        except ValueError as exc:
            raise LLMApplicationError(f"the data: URL of a {kind} is no base64: {exc}") from exc
        declared = media.mime_type or head[5:-7].split(";")[0]
        mime_type = _mime_type(media._replace(mime_type=declared), data)
        return MediaSource(kind, data, mime_type, None, None)
    return MediaSource(kind, None, media.mime_type or "", url, None)


def _mime_type(media: MediaContent, data: bytes) -> str:
    guessed = media.mime_type or (media.filename and mimetypes.guess_type(media.filename)[0])
    mime_type = guessed or _sniff(bytes(data[:64]))
    if mime_type:
        return mime_type
    what = f"the file {media.filename!r}" if media.filename else f"the data of a {media.media_type}"
    raise LLMApplicationError(f"cannot tell the MIME type of {what}: set mime_type")


def _sniff(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return next((mime for magic, mime in _MAGIC if head.startswith(magic)), None)


def openai_part(media: MediaContent, dialect: Dialect) -> dict[str, Any]:
    """The content part of OpenAI's format.

    Raises:
        LLMApplicationError: This vendor does not take such media, or the medium cannot be read.
    """
    if media.raw_value is not None:
        return {**media.raw_value, **(media.options or {})}
    if media.media_type not in dialect.media_types:
        raise _unsupported(media, dialect)
    source = read_media(media)
    key, inner = _openai_inner(source, dialect)
    return _with_options({"type": key, key: inner}, key, media.options or {}, dialect.part_options)


def _openai_inner(source: MediaSource, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    if source.kind == "audio" and source.url:
        return "audio_url", {"url": source.url}
    if source.kind == "audio":
        word = source.mime_type.partition("/")[2]
        return "input_audio", {"data": source.base64, "format": _AUDIO_FORMATS.get(word, word)}
    if source.kind == "document":
        name = source.filename or "document" + (mimetypes.guess_extension(source.mime_type) or "")
        return "file", {"filename": name, "file_data": source.link}
    return f"{source.kind}_url", {"url": source.link}


def _with_options(
    part: dict[str, Any], key: str, options: dict[str, Any], part_options: tuple[str, ...]
) -> dict[str, Any]:
    """Vendors' options stand in the part's inner object, a few beside it."""
    for name, value in options.items():
        if name == key and isinstance(value, dict):
            part[key] = {**part[key], **value}
        elif name in part_options or name == "type":
            part[name] = value
        else:
            part[key] = {**part[key], name: value}
    return part


def anthropic_part(media: MediaContent, dialect: Dialect) -> dict[str, Any]:
    """The content block of Anthropic's format.

    Raises:
        LLMApplicationError: This vendor does not take such media, or the medium cannot be read.
    """
    if media.raw_value is not None:
        return {**media.raw_value, **(media.options or {})}
    if media.media_type not in dialect.media_types or media.media_type not in ("image", "document"):
        raise _unsupported(media, dialect)
    source = read_media(media)
    block = {"type": source.kind, "source": _anthropic_source(source, dialect)}
    if source.kind == "document" and source.filename:
        block["title"] = source.filename
    return {**block, **(media.options or {})}


def _anthropic_source(source: MediaSource, dialect: Dialect) -> dict[str, Any]:
    if source.url:
        return {"type": "url", "url": source.url}
    if source.kind == "document" and source.mime_type.startswith("text/"):
        text = (source.data or b"").decode("utf-8", "replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    allowed = _ANTHROPIC_IMAGES if source.kind == "image" else ("application/pdf",)
    if source.mime_type not in allowed:
        raise LLMApplicationError(
            f"{dialect.name} takes no {source.kind} of type {source.mime_type!r}, "
            f"only {', '.join(allowed)}"
        )
    return {"type": "base64", "media_type": source.mime_type, "data": source.base64}


def _unsupported(media: MediaContent, dialect: Dialect) -> LLMApplicationError:
    known = ", ".join(dialect.media_types) or "text"
    return LLMApplicationError(
        f"{dialect.name} takes no {media.media_type!r} content, only {known}"
    )
