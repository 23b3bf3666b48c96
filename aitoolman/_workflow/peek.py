"""What a task would receive and send, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError, Message
from .dataflow import bind_inputs
from .facts import Facts, sent_text
from .snapshots import as_text, snapshot
from .tasks import LLMTask

if TYPE_CHECKING:
    from .scheduling import Node
    from .workflow import LLMWorkflow

__all__ = ["Peek", "peek_at"]


class _Fields(NamedTuple):
    task_name: str
    task_id: str
    input: dict[str, Any] | None
    """The arguments it would run with; for an `LLMTask`, the template's variables."""
    messages: list[Message] | None = None
    """What an `LLMTask` would send, to the last byte; None for other tasks."""
    model_name: str | None = None
    tools: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    note: str | None = None
    """What is special about it: it goes on after waiting, or its output is given."""
    error: str | None = None
    """Why it would fail before it starts."""


class Peek(Facts, _Fields):
    """What the next step is about to do."""

    __slots__ = ()

    def _facts(self) -> dict[str, Any]:
        return {
            "next": f"{self.task_name} ({self.task_id})",
            "note": self.note,
            "input": self.input,
            "model": self.model_name,
            "would send": self.messages and sent_text(m._asdict() for m in self.messages),
            "tools": ", ".join(self.tools or ()) or None,
            "options": self.options or None,
            "would fail": self.error,
        }


def peek_at(workflow: LLMWorkflow, node: Node) -> Peek:
    """What a ready node would do."""
    task = node.task
    seen = Peek(task.task_name, task.task_id, None)
    if node.job is not None:
        return seen._replace(note="goes on after waiting for other tasks")
    try:
        inputs = bind_inputs(workflow, node)
        seen = seen._replace(input=snapshot(inputs))
        if node.given is not None:
            return seen._replace(note=f"does not run: its output is {as_text(node.given.output)}")
        if isinstance(task, LLMTask):
            return _with_request(seen, workflow, task, inputs)
    except (TypeError, LLMApplicationError) as exc:
        return seen._replace(error=f"{type(exc).__name__}: {exc}")
    return seen


def _with_request(seen: Peek, workflow: LLMWorkflow, task: LLMTask, inputs: dict[str, Any]) -> Peek:
    request = workflow.prepare(task._request_with(inputs)).request
    return seen._replace(
        messages=request.messages,
        model_name=request.model_name,
        tools=request.tools,
        options=request.options,
    )
