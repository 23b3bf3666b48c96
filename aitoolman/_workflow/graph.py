"""The graph of a workflow as plain values, for pictures: from live tasks or from a record."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .tasks import LLMTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .scheduling import Node
    from .steps import StepRecord
    from .workflow import LLMWorkflow

__all__ = ["MAX_NODES", "Edge", "Graph", "Place", "graph_of", "graph_of_steps", "grouped"]

MAX_NODES = 60
"""A picture of more tasks shows one box for all tasks of a name."""


class Place(NamedTuple):
    """A box of the picture: a task, or all tasks of one name."""

    id: str
    name: str
    statuses: Mapping[str, int]
    """How many tasks have which status; ``"WAITS"`` is inside of `wait_tasks`."""
    seconds: float | None = None
    tokens: int | None = None
    description: str = ""
    asks_model: bool = False

    @property
    def size(self) -> int:
        return sum(self.statuses.values())


class Edge(NamedTuple):
    """An arrow of the picture."""

    start: str
    end: str
    kind: str
    """``"data"``, ``"next"`` (chosen as next task) or ``"inside"`` (added while running)."""


class Graph(NamedTuple):
    """What there is to draw, in the order the tasks came."""

    places: list[Place]
    edges: list[Edge]


def graph_of(workflow: LLMWorkflow) -> Graph:
    """All tasks of a workflow as they are now."""
    nodes = list(workflow._engine.nodes)
    records = {record.task_id: record for record in workflow.history.with_running()}
    places = [_place(node, records.get(node.task.task_id)) for node in nodes]
    edges: list[Edge] = []
    for node in nodes:
        own = node.task.task_id
        edges += [Edge(parent.task.task_id, own, "data") for parent in node.parents]
        if node.follower is not None:
            edges.append(Edge(own, node.follower.task.task_id, "next"))
        if node.inside is not None:
            edges.append(Edge(node.inside.task.task_id, own, "inside"))
    return _tidy(places, edges)


def _place(node: Node, record: StepRecord | None) -> Place:
    task = node.task
    status = "WAITS" if node.waiting_for and not task.status.is_final else task.status.name
    return Place(
        task.task_id,
        task.task_name,
        {status: 1},
        record.seconds if record and record.status == task.status.name else None,
        record.tokens if record else None,
        task.description,
        isinstance(task, LLMTask),
    )


def graph_of_steps(records: Iterable[StepRecord]) -> Graph:
    """The steps of a record, for example one that was loaded from a file."""
    steps = {record.task_id: record for record in records}
    places, edges = [], list[Edge]()
    for step in steps.values():
        status = "WAITS" if step.waits_for else step.status
        places.append(
            Place(
                step.task_id,
                step.task_name,
                {status: 1},
                step.seconds,
                step.tokens,
                step.description,
                bool(step.calls),
            )
        )
        edges += [Edge(parent, step.task_id, "data") for parent in step.parents]
        if step.next_task is not None:
            edges.append(Edge(step.task_id, step.next_task, "next"))
        if step.inside is not None:
            edges.append(Edge(step.inside, step.task_id, "inside"))
    return _tidy(places, edges)


def _tidy(places: list[Place], edges: list[Edge]) -> Graph:
    """Without arrows to nowhere, and with one arrow between two places.

    Of the tasks that one task added, only those get its arrow that no other of them leads to.
    """
    known = {place.id for place in places}
    kept: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        if edge.start in known and edge.end in known:
            kept.setdefault((edge.start, edge.end), edge)
    inside = {edge.end: edge.start for edge in kept.values() if edge.kind == "inside"}
    beside: dict[str, set[str | None]] = {}  # who added the tasks that lead to a task
    for edge in kept.values():
        if edge.kind != "inside":
            beside.setdefault(edge.end, set()).add(inside.get(edge.start))
    shown = [
        edge
        for edge in kept.values()
        if edge.kind != "inside" or edge.start not in beside.get(edge.end, ())
    ]
    return Graph(places, shown)


def grouped(graph: Graph) -> Graph:
    """One place for all tasks of a name, in the order the names came."""
    members: dict[str, list[Place]] = {}
    for place in graph.places:
        members.setdefault(place.name, []).append(place)
    name_of = {place.id: place.name for place in graph.places}
    merged: dict[tuple[str, str], Edge] = {}
    for edge in graph.edges:
        start, end = name_of[edge.start], name_of[edge.end]
        merged.setdefault((start, end), Edge(start, end, edge.kind))
    return Graph([_group(name, places) for name, places in members.items()], [*merged.values()])


def _group(name: str, places: list[Place]) -> Place:
    statuses: Counter[str] = Counter()
    for place in places:
        statuses.update(place.statuses)
    seconds = [place.seconds for place in places if place.seconds is not None]
    tokens = [place.tokens for place in places if place.tokens is not None]
    return Place(
        name,
        name,
        statuses,
        sum(seconds) if seconds else None,
        sum(tokens) if tokens else None,
        places[0].description,
        any(place.asks_model for place in places),
    )
