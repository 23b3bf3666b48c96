"""Columns out: the input with its answers beside it, in the input's own kind of frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .kinds import (
    Kind,
    as_cell,
    as_record,
    declared_kind,
    declared_kinds,
    joined,
    kind_of,
    sound_text,
)
from .source import FrameSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engine import RowResult
    from .source import Source

__all__ = ["RESULT_COLUMNS", "Column", "answer_columns", "build_frame", "result_columns"]

RESULT_COLUMNS: dict[str, Kind] = {
    "status": "text",
    "error": "text",
    "tokens": "int",
    "seconds": "float",
    "cost": "float",
    "attempts": "int",
    "from_ledger": "bool",
}
"""What every frame tells of every row, besides the answer."""

PENDING = "pending"
MANY_PARTS = 200
"""A dict whose keys differ from row to row does not become a column for each of them."""


class Column(NamedTuple):
    """A column before it is one of some frame."""

    name: str
    kind: Kind
    values: list[Any]


def answer_columns(
    results: Sequence[RowResult | None], output: str, declared: Any, *, nested: bool
) -> list[Column]:
    """The answers: plain ones in one column, those with named parts in a column for each part.

    Args:
        results: Row by row.
        output: Name of the column for plain answers.
        declared: The type that answers are said to have; None where nothing is said.
        nested: Whether the frame can hold nested values.
    """
    answers = [None if r is None else r.data for r in results]
    records = [as_record(answer) for answer in answers]
    parts = _part_kinds(records, declared_kinds(declared))
    plain = [a if r is None else None for a, r in zip(answers, records, strict=True)]
    columns = []
    if not parts or any(p is not None for p in plain) or len(parts) > MANY_PARTS:
        values = answers if len(parts) > MANY_PARTS else plain
        kind = declared_kind(declared) if declared is not None and not parts else None
        columns.append(_column(output, kind or _found_kind(values), values, nested))
    if len(parts) <= MANY_PARTS:
        for name, kind in parts.items():
            values = [None if record is None else record.get(name) for record in records]
            columns.append(_column(name, kind or _found_kind(values), values, nested))
    return columns


def _part_kinds(
    records: Sequence[dict[str, Any] | None], declared: dict[str, Kind | None] | None
) -> dict[str, Kind | None]:
    """The parts that answers have, declared ones first, in the order in which they appear."""
    parts: dict[str, Kind | None] = dict(declared or {})
    for record in records:
        if record and not record.keys() <= parts.keys():
            parts.update({name: None for name in record if name not in parts})
            if len(parts) > MANY_PARTS:
                break
    return parts


def _found_kind(values: Sequence[Any]) -> Kind:
    found: Kind | None = None
    for kind in {kind_of(value) for value in values}:
        found = joined(found, kind)
    return found or "text"


def _column(name: str, kind: Kind, values: Sequence[Any], nested: bool) -> Column:
    return Column(name, kind, [as_cell(value, kind, nested=nested) for value in values])


def result_columns(results: Sequence[RowResult | None]) -> list[Column]:
    """What became of each row; of the same types always."""
    values: dict[str, list[Any]] = {
        "status": [PENDING if r is None else r.status for r in results],
        "error": [None if r is None or r.error is None else sound_text(r.error) for r in results],
        "from_ledger": [None if r is None else r.from_ledger for r in results],
    }
    for name in ("tokens", "seconds", "cost", "attempts"):
        values[name] = [None if r is None else getattr(r, name) for r in results]
    return [Column(name, kind, values[name]) for name, kind in RESULT_COLUMNS.items()]


def build_frame(
    source: Source, results: Sequence[RowResult | None], output: str, declared: Any
) -> Any:
    """The input's rows, in order, with answers and results beside them."""
    nested = source.kind in ("pandas", "list", "iterator")
    columns = answer_columns(results, output, declared, nested=nested) + result_columns(results)
    columns = _renamed(columns, source.columns, output)
    if isinstance(source, FrameSource):
        return _BUILDERS[source.kind](source.frame.to_native(), columns)
    rows: list[dict[str, Any]] = source.rows  # type: ignore[attr-defined]
    return [
        {**row, **{column.name: column.values[n] for column in columns}}
        for n, row in enumerate(rows[: len(results)])
    ]


def _renamed(columns: list[Column], taken: Sequence[str], output: str) -> list[Column]:
    """Names that the input has already, with the output's name in front."""
    used, renamed = set(taken), []
    for column in columns:
        name = column.name
        while name in used:
            name = f"{output}_{name}"
        used.add(name)
        renamed.append(column._replace(name=name))
    return renamed


def _to_pandas(frame: Any, columns: list[Column]) -> Any:
    import pandas as pd

    kinds = {"text": "string", "int": "Int64", "float": "Float64", "bool": "boolean"}
    arrays = {
        c.name: pd.array(c.values, dtype=kinds[c.kind]) if c.kind in kinds else _objects(c.values)
        for c in columns
    }
    return pd.concat([frame, pd.DataFrame(arrays, index=frame.index)], axis=1)


def _objects(values: list[Any]) -> Any:
    """A column of Python values, which pandas is kept from looking into."""
    import numpy as np

    array = np.empty(len(values), dtype=object)
    for n, value in enumerate(values):
        array[n] = value
    return array


def _to_polars(frame: Any, columns: list[Column]) -> Any:
    import polars as pl

    kinds = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
    return frame.with_columns(
        [pl.Series(c.name, c.values, dtype=kinds.get(c.kind, pl.String)) for c in columns]
    )


def _to_arrow(frame: Any, columns: list[Column]) -> Any:
    import pyarrow as pa

    kinds = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    for c in columns:
        frame = frame.append_column(c.name, pa.array(c.values, kinds.get(c.kind, pa.string())))
    return frame


_BUILDERS = {"pandas": _to_pandas, "polars": _to_polars, "pyarrow": _to_arrow}
