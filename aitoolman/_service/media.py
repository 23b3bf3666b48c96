"""Files that messages name, read on the client's side."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import MediaContent, Message

__all__ = ["load_media"]


def load_media(messages: Sequence[Message]) -> list[Message]:
    """The messages with every file that is named replaced by its bytes.

    Raises:
        OSError: A file cannot be read.
    """
    return [_loaded(message) for message in messages]


def _loaded(message: Message) -> Message:
    if not any(media.filename for media in message.media):
        return message
    return message._replace(media_content=[_with_data(media) for media in message.media])


def _with_data(media: MediaContent) -> MediaContent:
    if not media.filename:
        return media
    path = Path(media.filename)
    known = media._replace(
        mime_type=media.mime_type or mimetypes.guess_type(path.name)[0], filename=path.name
    )
    if media.raw_value is not None or media.data is not None:
        return known
    return known._replace(data=path.expanduser().read_bytes())
