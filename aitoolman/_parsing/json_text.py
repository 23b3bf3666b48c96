"""JSON out of a model's answer: strict first, then found, then repaired."""

from __future__ import annotations

import bisect
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from .json_pieces import BROKEN, Allowance, Piece, decode_whole, find_pieces, find_regions
from .json_repair import Work, repair
from .thoughts import after_thoughts

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ParsedJson", "note_repairs", "parse_json", "parse_json_details"]

_REPAIR_TRIES = 3
_notes: ContextVar[list[str] | None] = ContextVar("aitoolman_repairs", default=None)


class ParsedJson(NamedTuple):
    """A value, and whether the text had to be repaired before it could be read."""

    value: Any
    repaired: bool = False


def parse_json(s: str) -> Any:
    """The JSON value in a model's answer.

    The text is read strictly where it can be: as a whole, in a code fence, in a tag such as
    ``<response>``, or among prose, where the largest object or array wins (the first of equals).
    A leading ``<think>`` block is left out. What is broken or cut off is repaired; see
    `parse_json_details` for whether it was. A lone string, number, ``true`` or ``null`` counts
    only as the whole of the text, fence or tag. ``NaN`` and ``Infinity``, which JSON does not know,
    become None. Several objects one after the other (JSON lines) become a list.

    Raises:
        ValueError: There is no JSON in the text, it is nested beyond reason, or more than a million
            values follow one another.
    """
    return parse_json_details(s).value


def parse_json_details(s: str) -> ParsedJson:
    """Like `parse_json`, and says whether the text needed repair.

    Raises:
        ValueError: As `parse_json`.
    """
    found = _find(s.strip("\ufeff \t\r\n"))
    if found is None:
        raise ValueError(_no_json(s))
    notes = _notes.get()
    if found.repaired and notes is not None:
        notes.append("the text was no valid JSON and has been repaired")
    return found


@contextlib.contextmanager
def note_repairs() -> Iterator[list[str]]:
    """Collect a note for every repair inside the block, in whatever function or thread it happens.

    Threads count where they carry the context on, as `asyncio.to_thread` does.
    """
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def _find(text: str) -> ParsedJson | None:
    value = decode_whole(text)
    if value is not BROKEN:
        return ParsedJson(value)
    text = after_thoughts(text)
    allowance, work = Allowance(len(text)), Work(len(text))
    everywhere = list(find_pieces(text, allowance))
    for start, end in find_regions(text):
        if _is_inside(everywhere, start, end):
            continue
        if found := _read_region(text[start:end].strip(), allowance, work):
            return found
    return _best(text, everywhere, work)


def _is_inside(pieces: list[Piece], start: int, end: int) -> bool:
    """Whether a fence or tag stands in a string of valid JSON."""
    at = bisect.bisect_left(pieces, start, key=lambda piece: piece.start)
    return at > 0 and pieces[at - 1].exact and end < pieces[at - 1].end


def _read_region(text: str, allowance: Allowance, work: Work) -> ParsedJson | None:
    value = decode_whole(text)
    if value is not BROKEN:
        return ParsedJson(value)
    return _best(text, list(find_pieces(text, allowance)), work)


def _best(text: str, pieces: list[Piece], work: Work) -> ParsedJson | None:
    """The value of the largest run of pieces that can be read."""
    runs = list(_runs(text, pieces))
    runs.sort(key=lambda run: (not run[0].likely, run[0].start - run[-1].end))
    for run in runs[:_REPAIR_TRIES]:
        with contextlib.suppress(ValueError):
            return _run_value(text, run, work)
    return None


def _runs(text: str, pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Pieces of one kind with nothing but white space or a comma between them: JSON lines."""
    run: list[Piece] = []
    for piece in pieces:
        if run and not _goes_on(text, run[-1], piece):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _goes_on(text: str, before: Piece, after: Piece) -> bool:
    return (
        before.likely
        and after.likely
        and text[before.start] == text[after.start]
        and not text[before.end : after.start].strip(" \t\r\n,")
    )


def _run_value(text: str, run: list[Piece], work: Work) -> ParsedJson:
    values = [repair(text[p.start : p.end], work) if p.value is BROKEN else p.value for p in run]
    if len(run) == 1:
        return ParsedJson(values[0], not run[0].exact)
    return ParsedJson(values, repaired=True)


def _no_json(text: str) -> str:
    start = " ".join(text[:200].split())
    if not start:
        return "there is no JSON: the text is empty"
    return f"there is no JSON in the text: {start if len(start) <= 60 else start[:57] + '...'!r}"
