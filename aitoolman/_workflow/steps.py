"""One step of a workflow as it was when it ended: what went in, what came out, what it chose."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from .facts import Facts, sent_text
from .snapshots import snapshot

Number = TypeVar("Number", int, float)

__all__ = ["StepCall", "StepRecord"]


class StepCall(NamedTuple):
    """One call of a model that a step made."""

    model_name: str
    module_name: str | None
    messages: list[dict[str, Any]]
    """As sent, fields that are not set left out."""
    status: str
    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = []  # noqa: RUF012 - never changed
    error: str | None = None
    attempts: list[dict[str, Any]] = []  # noqa: RUF012 - never changed
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    from_ledger: bool = False
    sample: int = 0
    """The n-th identical request of the workflow asks for sample n, counted from 0."""
    tools: dict[str, Any] = {}  # noqa: RUF012 - never changed
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


class _Fields(NamedTuple):
    number: int
    """Counts the steps in the order they started, from 1."""
    task_id: str
    task_name: str
    description: str
    status: str
    """Name of a `TaskStatus`; ``"WAITING"`` for a step that waits in `wait_tasks`."""
    started: float | None
    """Unix time; None for a step that never started."""
    ended: float | None
    """Unix time; None while it runs or waits."""
    seconds: float | None
    parents: tuple[str, ...]
    """Task ids of the tasks before it."""
    inside: str | None
    """Task id of the step that added it while running, if any."""
    input: Any
    """The arguments it ran with; None where it never started."""
    calls: tuple[StepCall, ...]
    output: Any
    next_task: str | None
    """Task id of what follows in sequence."""
    next_name: str | None
    why: str
    """How the next task was chosen: ``"next_task"``, or ``"tool call"`` with the tool's name."""
    error: str | None
    waits_for: tuple[str, ...] = ()
    """Task ids of what a waiting step waits for."""


class StepRecord(Facts, _Fields):
    """One step. Never changes: what it gives of inputs, calls and outputs are copies."""

    __slots__ = ()

    @property
    def input(self) -> Any:
        """The arguments it ran with; None where it never started."""
        return snapshot(super().input)

    @property
    def calls(self) -> tuple[StepCall, ...]:
        """The calls of models that it made, in order."""
        copies: tuple[StepCall, ...] = snapshot(super().calls)
        return copies

    @property
    def output(self) -> Any:
        """What `run` returned, or the answer's data."""
        return snapshot(super().output)

    @property
    def tokens(self) -> int | None:
        """Tokens of all calls; None where there was no call or a vendor did not say."""
        counts = [n for c in super().calls for n in (c.prompt_tokens, c.completion_tokens)]
        return _total(counts)

    @property
    def cost(self) -> float | None:
        """Money of all calls; None where there was no call or a price is missing."""
        return _total([call.cost for call in super().calls])

    def __repr__(self) -> str:
        return f"StepRecord({self.number}, {self.task_name!r}, {self.status})"

    def _facts(self) -> dict[str, Any]:
        facts = {
            "step": f"{self.number} {self.task_name} ({self.task_id})",
            "status": self.status,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "tokens": self.tokens,
            "input": super().input,
        }
        for index, call in enumerate(super().calls, 1):
            which = "" if len(super().calls) == 1 else f" {index}"
            facts[f"sent{which}"] = sent_text(call.messages)
            facts[f"answer{which}"] = call.text or call.tool_calls or call.error
        facts |= {"output": self._new_output(), "next": self._next(), "error": self.error}
        facts["waits for"] = len(self.waits_for) or None
        return facts

    def _new_output(self) -> Any:
        """The output, unless an answer says the same already."""
        output = super().output
        said = isinstance(output, str) and any(call.text == output for call in super().calls)
        return None if said else output

    def _next(self) -> str | None:
        return self.next_name and f"{self.next_name} ({self.why})"


def _total(values: list[Number | None]) -> Number | None:
    """The sum, None where there is nothing to sum or a part of it is unknown."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(values) else None
