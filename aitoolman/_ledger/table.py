"""Calls as a table: in text, in HTML, as dictionaries and as a dataframe."""

from __future__ import annotations

import datetime
import html
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CallRow", "CallTable"]

_SHOWN = 60


class CallRow(NamedTuple):
    """The numbers of one call, or one audit event."""

    seq: int
    kind: str
    """``"call"`` or ``"event"``; a server's other kinds are in docs/service.md."""
    time: float
    """Unix time of its end."""
    client: str | None = None
    context: str | None = None
    source: str | None = None
    request_id: str | None = None
    model: str | None = None
    """The name that was asked for."""
    answered_by: str | None = None
    """The ``[api]`` entry that answered."""
    fingerprint: bytes | None = None
    sample: int | None = None
    answer: int | None = None
    status: str | None = None
    error: str | None = None
    attempts: str | None = None
    """JSON list of attempts."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    """Of a reused answer: what it cost when it was asked."""
    from_ledger: int = 0
    queue_time: float | None = None
    time_to_first_token: float | None = None
    total_response_time: float | None = None
    event: str | None = None
    fields: str | None = None
    """JSON object of an event's fields; in a server's rows what was asked, or what broke off."""

    def known(self) -> dict[str, Any]:
        """Everything that has a value, with readable time and fingerprint."""
        values = {k: v for k, v in self._asdict().items() if v is not None}
        values["time"] = _clock(self.time)
        if self.fingerprint is not None:
            values["fingerprint"] = self.fingerprint.hex()
        return values


_COLUMNS: dict[str, Callable[[CallRow], str | None]] = {
    "seq": lambda r: str(r.seq),
    "time": lambda r: _clock(r.time),
    "model": lambda r: r.event or r.model,
    "status": lambda r: _status(r),
    "tokens": lambda r: _pair(r.prompt_tokens, r.completion_tokens),
    "seconds": lambda r: _number(r.total_response_time, 2),
    "cost": lambda r: _number(r.cost, 6),
    "context": lambda r: r.context,
    "error": lambda r: r.fields if r.kind == "event" else r.error,
}


class CallTable(Sequence[CallRow]):
    """Rows of calls, oldest first; shows itself as a table."""

    def __init__(self, rows: Sequence[CallRow]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> CallRow: ...
    @overload
    def __getitem__(self, index: slice) -> CallTable: ...
    def __getitem__(self, index: int | slice) -> CallRow | CallTable:
        if isinstance(index, slice):
            return CallTable(self.rows[index])
        return self.rows[index]

    def __iter__(self) -> Iterator[CallRow]:
        return iter(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """One dictionary per row, all columns."""
        return [row._asdict() for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas dataframe, all columns, times as UTC timestamps.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd

        frame = pd.DataFrame(self.dicts(), columns=list(CallRow._fields))
        frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
        frame["from_ledger"] = frame["from_ledger"].astype(bool)
        return frame

    def __repr__(self) -> str:
        if not self.rows:
            return "no calls"
        cells = [list(_COLUMNS), *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self) -> list[list[str]]:
        return [[_short(show(row)) for show in _COLUMNS.values()] for row in self.rows]


def _short(value: str | None) -> str:
    text = " ".join((value or "").split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _clock(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _status(row: CallRow) -> str:
    if row.kind != "call":
        return row.kind
    return f"{row.status} (ledger)" if row.from_ledger else str(row.status)


def _pair(prompt: int | None, completion: int | None) -> str:
    if prompt is None and completion is None:
        return ""
    return f"{'?' if prompt is None else prompt}+{'?' if completion is None else completion}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
