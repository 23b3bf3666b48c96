"""``%llm_log``: what was asked in this session, one call whole, two calls side by side."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from .._ledger.reader import CallRecord, Ledger
from .arguments import usage
from .page import block, pairs, table, text

if TYPE_CHECKING:
    from .session import Session

__all__ = ["CallPage", "ComparisonPage", "look_back"]


class CallPage:
    """One call whole."""

    def __init__(self, record: Any) -> None:
        self.record = record

    def __repr__(self) -> str:
        return "\n".join(self.record.lines())

    def _repr_html_(self) -> str:
        facts = [(name, text(value)) for name, value in self.record.row.known().items()]
        return pairs(facts) + block("\n".join(_content(self.record)))


class ComparisonPage:
    """Two calls side by side, prompt and answer; lines that differ are marked."""

    def __init__(self, one: Any, other: Any) -> None:
        self.one, self.other = one, other

    def __repr__(self) -> str:
        names = f"call {self.one.row.seq}", f"call {self.other.row.seq}"
        left, right = _content(self.one), _content(self.other)
        lines = difflib.unified_diff(left, right, *names, "", "", 2, "")
        return "\n".join(lines) or "equal"

    def _repr_html_(self) -> str:
        left, right = _content(self.one), _content(self.other)
        rows = []
        for kind, a, b, c, d in difflib.SequenceMatcher(None, left, right, False).get_opcodes():
            pair = ("\n".join(left[a:b]), "\n".join(right[c:d]))
            rows.append([text(side) if kind == "equal" else block(side) if side else ""
                         for side in pair])  # fmt: skip
        return table([f"call {self.one.row.seq}", f"call {self.other.row.seq}"], rows)


def _content(record: Any) -> list[str]:
    """Request and answer, the numbers left out."""
    return list(record.lines()[len(record.row.known()) :])


def look_back(session: Session, options: Any) -> Any:
    """What the magic's options ask for.

    Raises:
        UsageError: More than two calls, or a search without a ledger.
    """
    client = session.app.client
    if len(options.calls) > 2:
        raise usage("give one call's number to see it, or two to compare them")
    if options.calls:
        records = [_record(client, number) for number in options.calls]
        return CallPage(records[0]) if len(records) == 1 else ComparisonPage(*records)
    filters: dict[str, Any] = {}
    if options.search:
        filters["text"] = options.search
    if client.ledger_path is not None and not options.all:
        filters["since"] = session.started
    return session.app.log(options.limit, **filters)


def _record(client: Any, number: int) -> CallRecord:
    if client.ledger_path is not None:
        return Ledger(client.ledger_path).call(number)
    from .._ledger.memory import memory_log

    return memory_log(client).call(number)
