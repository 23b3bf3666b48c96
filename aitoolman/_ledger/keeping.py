"""What of a call may be kept: everything or numbers alone, and never a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import queries, records
from .models import UNRESOLVED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._datamodel import LLMProviderResponse
    from .questions import Question

__all__ = ["Keeper"]


class Keeper:
    """Makes answers and rows ready for the file.

    Args:
        full: Keep prompts and answers, not numbers alone.
        redact: Cuts secrets out of a text.
    """

    def __init__(self, full: bool, redact: Callable[[str], str]) -> None:
        self.full = full
        self.text = redact

    def answer(
        self,
        question: Question,
        digest: str,
        key: bytes,
        fragments: Sequence[records.Fragment],
        response: LLMProviderResponse,
    ) -> queries.NewAnswer | None:
        """An answer as it is to be kept; None where only numbers are, or it broke off.

        Raises:
            Exception: The answer holds what cannot be written.
        """
        if not self.full or response.finish_reason == "cancelled":
            return None
        return queries.NewAnswer(
            key,
            records.is_reusable(response) and digest != UNRESOLVED,
            question.request.model_name,
            digest,
            self.blob(question.encoded),
            self.blob(records.encode_response(response)),
            records.encode_fragments(self._shown(fragments)),
            question.media,
        )

    def blob(self, blob: bytes) -> bytes:
        """Encoded text without secrets."""
        return self.text(blob.decode()).encode()

    def row(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row of a call."""
        return self.clean(row if self.full else records.without_words(row))

    def clean(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row of any kind without secrets."""
        return records.with_words(row, self.text)

    def _shown(self, fragments: Sequence[records.Fragment]) -> Sequence[records.Fragment]:
        """The fragments; where a secret stands in their text, it is cut out and they are joined."""
        if not fragments:
            return fragments
        shown: list[records.Fragment] = []
        for kind in ("r", "t"):
            pieces = [f for f in fragments if f.kind == kind]
            text = "".join(f.text for f in pieces)
            if self.text(text) == text:
                continue
            shown.append(records.Fragment(kind, pieces[-1].at, self.text(text)))
        joined = {f.kind for f in shown}
        if not joined:
            return fragments
        return sorted([*shown, *(f for f in fragments if f.kind not in joined)], key=lambda f: f.at)
