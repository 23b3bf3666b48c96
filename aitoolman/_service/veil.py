"""Keeping the vendors' addresses inside: what a client reads names the model, not the place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._config.variables import Substitution

if TYPE_CHECKING:
    from .._config import ProviderConfig
    from .._datamodel import LLMProviderResponse

__all__ = ["Veil"]


class Veil:
    """Puts a model's name where its address stands.

    Args:
        config: Whose addresses are to be hidden.
    """

    def __init__(self, config: ProviderConfig) -> None:
        found: dict[str, str] = {}
        for name, entry in config.entries.items():
            for part in _parts(Substitution(os.environ).apply(entry.url or "", "")):
                found.setdefault(part, f"(address of {name})")
        self._known = sorted(found.items(), key=lambda item: -len(item[0]))

    def text(self, text: str) -> str:
        """The text without addresses."""
        for part, name in self._known:
            if part in text:
                text = text.replace(part, name)
        return text

    def response(self, response: LLMProviderResponse) -> None:
        """Clean what a response says of failures; the raw exchange stays at the server."""
        response.exchange = None
        if response.error_text:
            response.error_text = self.text(response.error_text)
        if response.notes:
            response.notes = [self.text(note) for note in response.notes]
        if any(attempt.reason for attempt in response.attempts):
            response.attempts = [
                attempt._replace(reason=self.text(attempt.reason)) for attempt in response.attempts
            ]


def _parts(url: str) -> list[str]:
    """The address, and what of it errors quote."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return [url]
    if not host:
        return []
    port = port or {"https": 443, "http": 80}.get(parts.scheme)
    found = [url, f"{parts.scheme}://{parts.netloc}", parts.netloc, f"{host}:{port}"]
    plain = host == "localhost" or host.replace(".", "").isdigit()
    return found if plain else [*found, host]
