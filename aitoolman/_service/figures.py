"""What a monitor shows: a line per call or event, and sums by client and model."""

from __future__ import annotations

import datetime
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._transport import wire
    from .follower import Gap

__all__ = ["Figures", "gap_line", "row_line"]

SHOWN_KINDS = frozenset({"call", "cut", "event", "auth"})
MINUTE = 60.0


def row_line(event: wire.Event) -> str | None:
    """One line for a call, an event or a refused connection; None for other rows."""
    values = event.values
    kind = values.get("kind")
    if kind not in SHOWN_KINDS:
        return None
    parts = [_clock(values.get("time", 0.0)), str(kind), *_named(values, "client", "model")]
    if kind in ("call", "cut"):
        parts += _call_parts(values)
    elif kind == "event":
        parts += [str(values.get("event")), _one_line(values.get("fields") or "{}")]
    parts += [f"context={values['context']}"] if values.get("context") else []
    parts += [f"error={_one_line(values['error'])!r}"] if values.get("error") else []
    return " ".join(parts)


def _call_parts(values: dict[str, Any]) -> list[str]:
    times = {
        "queue": values.get("queue_time"),
        "first": values.get("time_to_first_token"),
        "total": values.get("total_response_time"),
    }
    parts = [str(values.get("status") or "unanswered").replace(" ", "")]
    parts += [f"{name}={value:.3f}s" for name, value in times.items() if value is not None]
    prompt, completion = values.get("prompt_tokens"), values.get("completion_tokens")
    if prompt is not None or completion is not None:
        parts.append(f"tokens={_or_mark(prompt)}+{_or_mark(completion)}")
    return parts + ([f"cost={values['cost']:.6g}"] if values.get("cost") is not None else [])


def _or_mark(value: int | None) -> str:
    return "?" if value is None else str(value)


def _named(values: dict[str, Any], *names: str) -> list[str]:
    return [str(values[name]) for name in names if values.get(name)]


def gap_line(gap: Gap) -> str:
    """One line for rows that could not be had."""
    return f"{_clock(time.time())} gap rows {gap.first} to {gap.last} are missing: {gap.reason}"


def _clock(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _one_line(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else line[:297] + "..."


class Figures:
    """Sums over what was seen, by client and model."""

    TITLES = ("client", "model", "calls", "per min", "errors", "first", "in", "out", "cost")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Sums] = {}

    def add(self, event: wire.Event) -> None:
        """Count a row."""
        values = event.values
        if values.get("kind") in ("call", "cut"):
            client = str(values.get("client", "")).partition("#")[0]
            key = (client, str(values.get("answered_by") or values.get("model")))
            self._rows.setdefault(key, _Sums()).add(values)

    def table(self) -> list[list[str]]:
        """Rows under `TITLES`."""
        return [[*key, *sums.cells()] for key, sums in sorted(self._rows.items())]


class _Sums:
    def __init__(self) -> None:
        self.calls = self.errors = self.prompt = self.completion = 0
        self.cost = 0.0
        self.first: deque[float] = deque(maxlen=100)
        self.times: deque[float] = deque(maxlen=10_000)

    def add(self, values: dict[str, Any]) -> None:
        self.calls += 1
        good = values.get("status") in ("stop", "length", "tool_calls")
        self.errors += 0 if good else 1
        self.prompt += values.get("prompt_tokens") or 0
        self.completion += values.get("completion_tokens") or 0
        self.cost += 0.0 if values.get("from_ledger") else values.get("cost") or 0.0
        self.times.append(values.get("time", 0.0))
        if values.get("time_to_first_token") is not None:
            self.first.append(values["time_to_first_token"])

    def cells(self) -> list[str]:
        recent = sum(1 for moment in self.times if moment > time.time() - MINUTE)
        first = f"{sum(self.first) / len(self.first):.2f}s" if self.first else ""
        cost = f"{self.cost:.4g}" if self.cost else ""
        numbers = [self.calls, recent, self.errors]
        return [*map(str, numbers), first, str(self.prompt), str(self.completion), cost]
