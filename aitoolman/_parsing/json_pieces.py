"""Where in a text JSON begins and ends, whole or broken.

Everything here takes time linear in the text, whatever the text: regular expressions never run
over the same stretch twice, and decoding attempts that fail are paid from a fixed allowance.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BROKEN",
    "MAX_PIECES",
    "Allowance",
    "Piece",
    "decode_whole",
    "find_pieces",
    "find_regions",
]

BROKEN: Any = object()
"""The value of a piece that looks like JSON but needs repair."""

# A bracket that what follows does not rule out: decoding is tried nowhere else.
_OPENING = re.compile(r"""\{(?=\s*+["'“}\w])|\[(?=\s*+["'“\]\[{\d\-tfnNI])""", re.IGNORECASE)
_KEY = r"""(?:"(?:[^"\\]|\\.){0,300}"|'(?:[^'\\]|\\.){0,300}'|“[^”]{0,300}”)\s*:"""
_LIKELY = re.compile(rf"(?:\[\s*)*+\{{\s*{_KEY}", re.DOTALL)
_POSSIBLE = re.compile(
    r"""\{\s*[^\W\d]\w{0,99}\s*:|\[\s*(?:["'“\[{\d]|-\d|(?:true|false|null)\b)""", re.IGNORECASE
)
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\]]', re.DOTALL)
_CUT_WORD = re.compile(r"(?:t(?:ru?)?|f(?:a(?:ls?)?)?|nu?l?|-|\.|[eE][+-]?)\Z")
# A run of marks is tried from its beginning only, and its length is one of few.
_FENCE = re.compile(r"((?<!`)`{3,20}+|(?<!~)~{3,20}+)[ \t]*+([\w+-]*+)[ \t]*+\r?\n")
_TAG = re.compile(r"<(/?)(response|answer|output|result|json)>", re.IGNORECASE)
_OPENING_OF = {"}": "{", "]": "["}


MAX_PIECES = 1_000_000
"""Values that one text may hold one after the other."""


MAX_REGIONS = 10_000
"""Fences, and tags, of one text that are looked at; what stands in others is found as in prose."""


class Piece(NamedTuple):
    """One outermost value in a text."""

    start: int
    end: int
    value: Any
    likely: bool = True
    """False for what may be prose: ``{x:.2f}``, ``[1, two]``."""
    exact: bool = True
    """False where the value is not what strict JSON says."""


class Allowance:
    """How many more characters may be looked at in vain."""

    def __init__(self, length: int) -> None:
        self.left = 100_000 + 20 * length

    def spend(self, characters: int, before: int = 0, brackets: int = 0) -> None:
        """Pay for `characters` looked at.

        An error takes as long as some hundred characters, and its line number costs those `before`
        it too; each of the `brackets` seen in Python takes as long as ten.
        """
        self.left -= characters + before // 32 + 10 * brackets + 100


def decode_whole(text: str) -> Any:
    """The value of a text that is JSON and nothing else, or BROKEN."""
    constants: list[str] = []
    try:
        value = json.loads(text, parse_constant=constants.append)
    except json.JSONDecodeError:
        return BROKEN
    except RecursionError:
        raise too_deep() from None
    return BROKEN if constants else value


def too_deep() -> ValueError:
    """The error for JSON that no reasonable answer holds."""
    return ValueError("the JSON is nested too deeply to be read")


def find_pieces(text: str, allowance: Allowance) -> Iterator[Piece]:
    """The outermost values in `text`, in order, none inside another.

    Raises:
        ValueError: Something is nested too deeply, a number has thousands of digits, or there are
            too many values.
    """
    at = found = 0
    decoders = _Decoders()
    while allowance.left > 0 and (opening := _OPENING.search(text, at)):
        piece = _piece_at(text, opening.start(), decoders, allowance)
        at = piece.end if piece else opening.end()
        if piece:
            found += 1
            if found > MAX_PIECES:
                raise ValueError(f"the text holds more than {MAX_PIECES:,} JSON values in a row")
            yield piece


class _Decoders:
    """A strict decoder, and one that lets raw line breaks stand inside strings."""

    def __init__(self) -> None:
        self.constants: list[str] = []
        self._both = [
            (strict, json.JSONDecoder(strict=strict, parse_constant=self.constants.append))
            for strict in (True, False)
        ]

    def __iter__(self) -> Iterator[tuple[bool, json.JSONDecoder]]:
        for both in self._both:
            self.constants.clear()
            yield both


def _piece_at(text: str, start: int, decoders: _Decoders, allowance: Allowance) -> Piece | None:
    for strict, decoder in decoders:
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as exc:
            error = exc
            allowance.spend(exc.pos - start, before=exc.pos)
        except RecursionError:
            raise too_deep() from None
        else:
            return Piece(start, end, value, exact=strict and not decoders.constants)
    return _broken_piece(text, start, error, allowance)


def _broken_piece(
    text: str, start: int, error: json.JSONDecodeError, allowance: Allowance
) -> Piece | None:
    likely = _LIKELY.match(text, start) is not None
    if not likely and not _POSSIBLE.match(text, start):
        return None
    end = _closing(text, start, allowance)
    if end is None and not (likely or _is_cut_off(text, start, error)):
        return None
    return Piece(start, end or len(text), BROKEN, likely, exact=False)


def _is_cut_off(text: str, start: int, error: json.JSONDecodeError) -> bool:
    """Whether the text just ends, as ``[1, 2`` does and the interval ``[0, 1) is`` does not."""
    return (
        text[start] == "{"
        or error.pos >= len(text.rstrip())
        or error.msg.startswith("Unterminated string")
        or (error.msg.startswith("Invalid \\") and error.pos >= len(text) - 6)
        or _CUT_WORD.match(text, error.pos) is not None
    )


def _closing(text: str, start: int, allowance: Allowance) -> int | None:
    """The end of the value that opens at `start`; a bracket forgotten inside it is overlooked."""
    opened: list[str] = []
    seen = 0
    for token in _BRACKETS.finditer(text, start):
        seen += 1
        bracket = token[0]
        if bracket in "{[":
            opened.append(bracket)
        elif (opening := _OPENING_OF.get(bracket)) and opening in opened[-50:]:
            while opened.pop() != opening:
                pass
            if not opened:
                allowance.spend(token.end() - start, brackets=seen)
                return token.end()
    allowance.spend(len(text) - start, brackets=seen)
    return None


def find_regions(text: str) -> list[tuple[int, int]]:
    """Start and end of what is marked as the answer: JSON fences, other fences, known tags."""
    fences = list(itertools.islice(_fences(text), MAX_REGIONS))
    labelled = [span for label, span in fences if label.startswith("json")]
    plain = [span for label, span in fences if not label]
    return [*labelled, *itertools.islice(_tag_contents(text), MAX_REGIONS), *plain]


def _fences(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    at = 0
    nowhere: set[str] = set()  # marks that begin no further line: one look to the end is enough
    while opening := _FENCE.search(text, at):
        start, marks = opening.end(), opening[1]
        end = -1 if marks in nowhere else text.find("\n" + marks, start - 1)
        if end < 0:
            nowhere.add(marks)
        end = text.find(marks, start) if end < 0 else max(end, start)
        end = len(text) if end < 0 else end
        yield opening[2].lower(), (start, end)
        at = end + len(marks) + 1


def _tag_contents(text: str) -> Iterator[tuple[int, int]]:
    """From the last start tag before an end tag: the ones before it only mention the tag."""
    opened: dict[str, int] = {}
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened[tag[2].lower()] = tag.end()
        elif (start := opened.pop(tag[2].lower(), None)) is not None:
            yield start, tag.start()
    yield from ((start, len(text)) for start in opened.values())
