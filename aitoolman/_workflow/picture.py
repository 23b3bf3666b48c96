"""A workflow's graph as an SVG picture, drawn here: no service, browser or other program.

It reads in light and dark surroundings: boxes have their own pale fill and dark text, arrows take
the middle of the grey scale. Statuses are told by sign and word, colour only repeats them.
"""

from __future__ import annotations

import html
import itertools
from typing import NamedTuple

from .graph import MAX_NODES, Edge, Graph, Place, grouped
from .layout import Layout, Spot, arrange

__all__ = ["figures", "heading", "status_text", "svg"]


class _Look(NamedTuple):
    sign: str
    word: str
    fill: str
    line: str


_LOOKS = {
    "COMPLETED": _Look("✓", "completed", "#e3f4e6", "#2f8f46"),
    "RUNNING": _Look("►", "running", "#e0edfb", "#2a6fc0"),
    "WAITS": _Look("…", "waits for tasks", "#e0edfb", "#2a6fc0"),
    "WAITING": _Look("○", "not started", "#f1f2f4", "#7b838c"),
    "INIT": _Look("○", "not started", "#f1f2f4", "#7b838c"),
    "FAILED": _Look("✗", "failed", "#fbe3e3", "#c0322b"),
    "DEPENDENCY_FAILED": _Look("⊘", "dependency failed", "#fcefd9", "#b97509"),
}
_UNKNOWN = _Look("?", "unknown", "#f1f2f4", "#7b838c")
_WORST_FIRST = ["FAILED", "DEPENDENCY_FAILED", "RUNNING", "WAITS", "WAITING", "INIT", "COMPLETED"]

_WIDTH, _HEIGHT = 176, 58
_GAP_ALONG, _GAP_ACROSS, _MARGIN = 44, 18, 16
_FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"
_GREY = "#808890"
_DASHES = {"data": "", "next": " stroke-dasharray='6 4'", "inside": " stroke-dasharray='1 4'"}


def svg(graph: Graph) -> str:
    """The picture as text that stands alone in a file or in a page."""
    if len(graph.places) > MAX_NODES:
        graph = grouped(graph)
    names = [place.id for place in graph.places]
    layout = arrange(names, [(edge.start, edge.end) for edge in graph.edges])
    canvas = _Canvas(layout)
    parts = [canvas.arrow(edge) for edge in graph.edges]
    parts += [_box(place, *canvas.corner(layout.spots[place.id])) for place in graph.places]
    kinds = {edge.kind for edge in graph.edges}
    width, height = canvas.size
    legend, wide, extra = _legend(kinds, height)
    width, height = max(width, wide, _WIDTH), height + extra
    label = f"Workflow of {sum(place.size for place in graph.places)} tasks"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        f" viewBox='0 0 {width} {height}' role='img' aria-label='{label}' {_FONT}>"
        f"<title>{label}</title>{_MARKER}{''.join(parts)}{legend}</svg>"
    )


_MARKER = (
    "<defs><marker id='aitoolman-arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8'"
    " markerHeight='8' markerUnits='userSpaceOnUse' orient='auto'>"
    f"<path d='M0,0.5 L8,4 L0,7.5 z' fill='{_GREY}'/></marker></defs>"
)


class _Canvas:
    """Turns spots into points; the flow goes down, or to the right where that is narrower."""

    def __init__(self, layout: Layout) -> None:
        self._across = (_WIDTH + _GAP_ACROSS, _HEIGHT + _GAP_ACROSS)
        self._along = (_WIDTH + _GAP_ALONG, _HEIGHT + _GAP_ALONG)
        breadth, layers = layout.breadth + 1, layout.layers
        self._down = breadth * self._across[0] <= max(1000, layers * self._along[0])
        self._layout = layout
        step = (self._across[not self._down], self._along[self._down])
        reach = (breadth * step[0] - _GAP_ACROSS, layers * step[1] - _GAP_ALONG)
        wide, high = reach if self._down else reach[::-1]
        self.size = (max(0, round(wide)) + 2 * _MARGIN, max(0, round(high)) + 2 * _MARGIN)

    def corner(self, spot: Spot) -> tuple[float, float]:
        """The upper left corner of a box."""
        if self._down:
            x, y = spot.across * self._across[0], float(spot.layer * self._along[1])
        else:
            x, y = float(spot.layer * self._along[0]), spot.across * self._across[1]
        return x + _MARGIN, y + _MARGIN

    def arrow(self, edge: Edge) -> str:
        if edge.start == edge.end:
            return self._loop(edge)
        spots = self._layout.routes[edge.start, edge.end]
        points = [self._port(spots[0], spots[1].layer > spots[0].layer)]
        for spot in spots[1:-1]:
            points += self._bend(spot, spots[-1].layer > spots[0].layer)
        points.append(self._port(spots[-1], spots[-2].layer > spots[-1].layer))
        return _path(_smooth(points, self._down), edge)

    def _port(self, spot: Spot, forward: bool) -> tuple[float, float]:
        """Where an arrow leaves a box, or comes in."""
        x, y = self.corner(spot)
        if self._down:
            return x + _WIDTH / 2, y + _HEIGHT * forward
        return x + _WIDTH * forward, y + _HEIGHT / 2

    def _bend(self, spot: Spot, forward: bool) -> list[tuple[float, float]]:
        """An arrow goes straight past the boxes of a layer."""
        ends = [self._port(spot, False), self._port(spot, True)]
        return ends if forward else ends[::-1]

    def _loop(self, edge: Edge) -> str:
        x, y = self.corner(self._layout.spots[edge.start])
        right, top = x + _WIDTH, y + _HEIGHT / 2
        curve = f"C{right + 26:g},{top - 20:g} {right + 26:g},{top + 20:g} {right:g},{top + 10:g}"
        return _path(f"M{right:g},{top - 10:g} {curve}", edge)


def _smooth(points: list[tuple[float, float]], down: bool) -> str:
    parts = [f"M{points[0][0]:g},{points[0][1]:g}"]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        if down:
            middle = (y + to_y) / 2
            parts.append(f"C{x:g},{middle:g} {to_x:g},{middle:g} {to_x:g},{to_y:g}")
        else:
            middle = (x + to_x) / 2
            parts.append(f"C{middle:g},{y:g} {middle:g},{to_y:g} {to_x:g},{to_y:g}")
    return " ".join(parts)


def _path(d: str, edge: Edge) -> str:
    return (
        f"<path d='{d}' fill='none' stroke='{_GREY}' stroke-width='1.5' stroke-linecap='round'"
        f"{_DASHES[edge.kind]} marker-end='url(#aitoolman-arrow)'/>"
    )


def _box(place: Place, x: float, y: float) -> str:
    look = _look(place)
    hint = html.escape(": ".join(part for part in (place.name, place.description) if part))
    texts = [
        _text(x + 12, y + 21, _short(heading(place), 23), "#1b1f24", 13, "600"),
        _text(x + 12, y + 38, _short(status_text(place), 29), look.line, 11),
        _text(x + 12, y + 51, figures(place), "#57606a", 10),
    ]
    return (
        f"<g><title>{hint}</title><rect x='{x:g}' y='{y:g}' width='{_WIDTH}' height='{_HEIGHT}'"
        f" rx='8' fill='{look.fill}' stroke='{look.line}' stroke-width='1.5'/>{''.join(texts)}</g>"
    )


def _text(x: float, y: float, text: str, fill: str, size: int, weight: str = "400") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size}' font-weight='{weight}' fill='{fill}'>"
        f"{html.escape(text)}</text>"
    )


def heading(place: Place) -> str:
    return place.name if place.size == 1 else f"{_short(place.name, 17)} \u00d7{place.size}"


def _look(place: Place) -> _Look:
    worst = next((s for s in _WORST_FIRST if place.statuses.get(s)), "")
    return _LOOKS.get(worst, _UNKNOWN)


def status_text(place: Place) -> str:
    """The status with its sign; of several tasks, how many have which."""
    if place.size == 1:
        look = _look(place)
        return f"{look.sign} {look.word}"
    found = [(s, place.statuses[s]) for s in _WORST_FIRST[::-1] if place.statuses.get(s)]
    if len(found) == 1:
        look = _LOOKS[found[0][0]]
        return f"{look.sign} all {look.word}"
    return "  ".join(f"{_LOOKS[status].sign} {count}" for status, count in found)


def figures(place: Place) -> str:
    """Duration and tokens, as far as known."""
    known = []
    if place.seconds is not None:
        known.append(("" if place.size == 1 else "sum ") + _duration(place.seconds))
    if place.tokens is not None:
        known.append(f"{place.tokens:,} tokens")
    return ", ".join(known)


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_MEANINGS = {"data": "data", "next": "next task", "inside": "added while running"}


def _legend(kinds: set[str], y: float) -> tuple[str, int, int]:
    """What the lines mean, where there are several kinds; and the width and height it takes."""
    if kinds <= {"data"}:
        return "", 0, 0
    parts, x = list[str](), _MARGIN
    for kind, meaning in _MEANINGS.items():
        if kind in kinds:
            line = f"M{x},{y + 4:g} h28"
            parts.append(_path(line, Edge("", "", kind)))
            parts.append(_text(x + 35, y + 8, meaning, _GREY, 11))
            x += 50 + 7 * len(meaning)
    return "".join(parts), x, 20
