"""A workflow's graph as Mermaid text, which GitHub and many editors draw."""

from __future__ import annotations

from .graph import MAX_NODES, Graph, Place, grouped
from .picture import figures, heading, status_text

__all__ = ["mermaid"]

_PLAIN = " _.,:\u00d7✓✗►○…⊘"
_ARROWS = {"data": "-->", "next": "-.->", "inside": "-. adds .->"}


def mermaid(graph: Graph) -> str:
    """``flowchart`` source; statuses are words, so that it needs no colours."""
    if len(graph.places) > MAX_NODES:
        graph = grouped(graph)
    number = {place.id: f"n{index}" for index, place in enumerate(graph.places)}
    boxes = [f'    {number[place.id]}["{_label(place)}"]' for place in graph.places]
    arrows = [f"    {number[e.start]} {_ARROWS[e.kind]} {number[e.end]}" for e in graph.edges]
    return "\n".join(["flowchart TD", *boxes, *arrows]) + "\n"


def _label(place: Place) -> str:
    lines = [heading(place), status_text(place), figures(place)]
    return "<br>".join(_escaped(line) for line in lines if line)


def _escaped(text: str) -> str:
    """Mermaid's own way to write characters that would mean something to it."""
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in text)
