"""Where the boxes of a picture go: layers by longest path, order by barycentre.

The classic scheme of Sugiyama, Tagawa and Toda (1981): break cycles, assign layers, put bends where
an edge passes a layer, order each layer by the mean place of its neighbours, then straighten.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

__all__ = ["Layout", "Spot", "arrange"]

SWEEPS = 8


class Spot(NamedTuple):
    """A place in the picture: along the flow, and across it. In units of boxes."""

    layer: int
    across: float


class Layout(NamedTuple):
    """Where everything is."""

    spots: dict[str, Spot]
    routes: dict[tuple[str, str], list[Spot]]
    """The bends of an edge, its ends included; edges from a node to itself are left out."""
    layers: int
    breadth: float
    """How far `across` reaches, from 0."""


def arrange(names: list[str], edges: list[tuple[str, str]]) -> Layout:
    """Places for `names` so that edges point along the layers wherever they can."""
    forward = _without_cycles(names, [(a, b) for a, b in edges if a != b])
    depth = _layers(names, set(forward.values()))
    routes, rows = _with_bends(names, forward, depth)
    neighbours = _neighbours(routes)
    for sweep in range(SWEEPS):
        _order(rows if sweep % 2 == 0 else rows[::-1], neighbours)
    across = _straightened(rows, neighbours)
    lowest = min(across.values(), default=0.0)
    spots = {
        name: Spot(layer, across[name] - lowest) for layer, row in enumerate(rows) for name in row
    }
    return Layout(
        {name: spots[name] for name in names},
        {edge: [spots[stop] for stop in stops] for edge, stops in routes.items()},
        len(rows),
        max((spot.across for spot in spots.values()), default=0.0),
    )


def _without_cycles(
    names: list[str], edges: list[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Each edge with itself, or turned round where it closes a cycle."""
    following: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:
        following[start].append(end)
    turned: set[tuple[str, str]] = set()
    state: dict[str, int] = {}  # 1: on the path that is followed, 2: done
    for root in names:
        path = [(root, iter(following[root]))] if root not in state else []
        state.setdefault(root, 1)
        while path:
            node, rest = path[-1]
            child = next(rest, None)
            if child is None:
                state[node] = 2
                path.pop()
            elif child not in state:
                state[child] = 1
                path.append((child, iter(following[child])))
            elif state[child] == 1:
                turned.add((node, child))
    return {(a, b): (b, a) if (a, b) in turned else (a, b) for a, b in edges}


def _layers(names: list[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """The length of the longest way to each node."""
    before: dict[str, int] = dict.fromkeys(names, 0)
    following: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:  # a set, but the longest way does not depend on its order
        before[end] += 1
        following[start].append(end)
    depth = dict.fromkeys(names, 0)
    ready = [name for name in names if not before[name]]
    while ready:
        node = ready.pop()
        for child in following[node]:
            depth[child] = max(depth[child], depth[node] + 1)
            before[child] -= 1
            if not before[child]:
                ready.append(child)
    return depth


def _with_bends(
    names: list[str], forward: dict[tuple[str, str], tuple[str, str]], depth: dict[str, int]
) -> tuple[dict[tuple[str, str], list[str]], list[list[str]]]:
    """The stops of each edge, one in every layer it passes; and what each layer holds."""
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in names:
        rows[depth[name]].append(name)
    routes = {}
    for number, (edge, (start, end)) in enumerate(forward.items()):
        bends = []
        for layer in range(depth[start] + 1, depth[end]):
            bends.append(f"\0{number}/{layer}")
            rows[layer].append(bends[-1])
        stops = [start, *bends, end]
        routes[edge] = stops if edge == (start, end) else stops[::-1]
    return routes, rows


def _neighbours(routes: dict[tuple[str, str], list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stops in routes.values():
        for one, other in itertools.pairwise(stops):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found


def _order(rows: list[list[str]], neighbours: dict[str, list[str]]) -> None:
    """Order each row by the mean place of its neighbours in the row before, in place."""
    for fixed, row in itertools.pairwise(rows):
        place = {name: index for index, name in enumerate(fixed)}
        own = {name: index for index, name in enumerate(row)}

        def mean(name: str, place: dict[str, int] = place, own: dict[str, int] = own) -> float:
            places = [place[other] for other in neighbours.get(name, ()) if other in place]
            return sum(places) / len(places) if places else own[name]

        row.sort(key=lambda name: (mean(name), own[name]))


def _straightened(rows: list[list[str]], neighbours: dict[str, list[str]]) -> dict[str, float]:
    """A place across for each stop, near its neighbours' and one unit from the next."""
    widest = max((len(row) for row in rows), default=0)
    across = {
        name: index + (widest - len(row)) / 2 for row in rows for index, name in enumerate(row)
    }
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_mean_place(name, neighbours, across) for name in row]
            across.update(zip(row, _spread(wanted), strict=True))
    return across


def _mean_place(name: str, neighbours: dict[str, list[str]], across: dict[str, float]) -> float:
    places = [across[other] for other in neighbours.get(name, ())]
    return sum(places) / len(places) if places else across[name]


def _spread(wanted: list[float]) -> list[float]:
    """The places nearest to those wanted, in the same order, at least one unit apart.

    Stops that would be too near are put in a block around the mean of what they want.
    """
    blocks: list[list[float]] = []  # start of the block, how many stops, sum of starts wanted
    for place in wanted:
        blocks.append([place, 1, place])
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] > blocks[-1][0]:
            _, count, total = blocks.pop()
            before = blocks[-1]
            before[2] += total - count * before[1]
            before[1] += count
            before[0] = before[2] / before[1]
    return [start + index for start, count, _ in blocks for index in range(int(count))]
