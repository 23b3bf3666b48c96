"""Columns out: kind of frame, index, order, names and types."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any, Literal, NamedTuple, TypedDict

import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._batch.engine import RowResult
from aitoolman._batch.frame import RESULT_COLUMNS, answer_columns, build_frame
from aitoolman._batch.kinds import as_cell, as_record, declared_kind, joined, kind_of
from aitoolman._batch.source import open_source


def ok(data: Any) -> RowResult:
    return RowResult("stop", data, str(data), None, 3, 2, 5, 0.5, 0.25, 1)


def table(data: Any) -> dict[str, list[Any]]:
    """Any frame as lists."""
    if isinstance(data, pd.DataFrame):
        whole = data.astype(object)
        return {c: [None if v is pd.NA else v for v in whole[c]] for c in data.columns}
    if isinstance(data, list):
        return {c: [row[c] for row in data] for c in data[0]}
    return data.to_dict(as_series=False) if isinstance(data, pl.DataFrame) else data.to_pydict()


MAKERS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "list": lambda d: [dict(zip(d, row, strict=True)) for row in zip(*d.values(), strict=True)],
}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_frame_keeps_its_kind_order_and_length(kind):
    """Rows without a result are pending; nothing of the input changes."""
    data = MAKERS[kind]({"id": [3, 1, 2], "text": ["c", "a", "b"]})
    results = [ok("C"), None, RowResult("error: request", error="no")]
    frame = build_frame(open_source(data, None), results, "ask", None)
    assert type(frame) is type(data)
    assert table(frame) == {
        "id": [3, 1, 2],
        "text": ["c", "a", "b"],
        "ask": ["C", None, None],
        "status": ["stop", "pending", "error: request"],
        "error": [None, None, "no"],
        "tokens": [5, None, None],
        "seconds": [0.5, None, None],
        "cost": [0.25, None, None],
        "attempts": [1, None, 0],
        "from_ledger": [False, None, False],
    }


def test_a_pandas_index_is_kept():
    """Whatever it is, repeated labels included."""
    frame = pd.DataFrame({"t": ["a", "b", "c"]}, index=pd.Index([7, 7, 1], name="key"))
    out = build_frame(open_source(frame, None), [ok("x")] * 3, "ask", None)
    assert out.index.equals(frame.index)
    assert out.index.name == "key"


def test_a_multi_index_is_kept():
    """Levels and all."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
    frame = pd.DataFrame({"t": ["a", "b"]}, index=index)
    out = build_frame(open_source(frame, None), [ok("x")] * 2, "ask", None)
    assert out.index.equals(index)


TYPES = {
    "pandas": ["string", "string", "string", "Int64", "Float64", "Float64", "Int64", "boolean"],
    "polars": [pl.String, pl.String, pl.String, pl.Int64, pl.Float64, pl.Float64, pl.Int64,
               pl.Boolean],
    "pyarrow": ["string", "string", "string", "int64", "double", "double", "int64", "bool"],
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("results", [[None, None], [ok("x"), None], []], ids=len)
def test_types_are_the_same_however_much_is_there(kind, results):
    """Also where every value is missing, and where there is no row."""
    data = MAKERS[kind]({"t": ["a", "b"][: len(results)]})
    frame = build_frame(open_source(data, None), results, "ask", None)
    types = list(frame.schema.types) if kind == "pyarrow" else list(frame.dtypes)
    assert [str(t) for t in types[1:]] == [str(t) for t in TYPES[kind]]


def test_taken_names_get_the_output_name_in_front():
    """Of answers and of results, as often as needed."""
    frame = pd.DataFrame({"status": [1], "ask": [2], "ask_status": [3], "label": [4]})
    out = build_frame(open_source(frame, None), [ok({"label": "x", "more": 1})], "ask", None)
    assert list(out.columns) == [
        "status", "ask", "ask_status", "label", "ask_label", "more", "ask_ask_status", "error",
        "tokens", "seconds", "cost", "attempts", "from_ledger",
    ]  # fmt: skip


class Color(enum.Enum):
    red = "r"
    blue = "b"


@dataclasses.dataclass
class Ticket:
    topic: Literal["a", "b"]
    urgent: bool
    score: float
    count: int | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    anything: Any = None


class AsTuple(NamedTuple):
    topic: str
    count: int


class AsDict(TypedDict):
    topic: str
    count: int


class AsModel(pydantic.BaseModel):
    topic: str
    count: int


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_declared_fields_are_typed_before_the_first_answer(kind):
    """A part and the whole have the same columns of the same types."""
    data = MAKERS[kind]({"t": ["a", "b"]})
    answer = Ticket("a", True, 0.5, None, ["x"], {"k": 1})
    source = open_source(data, None)
    part = build_frame(source, [None, None], "ask", Ticket)
    whole = build_frame(source, [ok(answer), ok(answer)], "ask", Ticket)
    schema = (lambda f: f.schema.types) if kind == "pyarrow" else (lambda f: f.dtypes)
    names = list(part.column_names if kind == "pyarrow" else part.columns)
    assert names == list(whole.column_names if kind == "pyarrow" else whole.columns)
    types = dict(zip(names, map(str, schema(part)), strict=True))
    after = dict(zip(names, map(str, schema(whole)), strict=True))
    del types["anything"], after["anything"]  # said to be of any type
    assert types == after


@pytest.mark.parametrize("spec", [AsTuple, AsDict, AsModel], ids=lambda s: s.__name__)
def test_every_kind_of_record_becomes_columns(spec):
    """Named tuples, typed dicts and pydantic models."""
    columns = answer_columns([ok(spec(topic="x", count=2)), None], "o", spec, nested=True)
    assert [(c.name, c.kind, c.values) for c in columns] == [
        ("topic", "text", ["x", None]),
        ("count", "int", [2, None]),
    ]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (int, "int"),
        (float, "float"),
        (bool, "bool"),
        (str, "text"),
        (Color, "text"),
        (Literal[1, 2], "int"),
        (Literal[1, 2.5], "float"),
        (int | None, "int"),
        (int | str, "text"),
        (list[str], "object"),
        (Any, None),
        (int | Any, None),
    ],
    ids=str,
)
def test_a_declared_type_has_a_kind(spec, kind):
    """None where any value fits."""
    assert declared_kind(spec) == kind


def test_found_kinds_widen_to_hold_every_answer():
    """int to float, anything else to text."""
    columns = answer_columns(
        [ok({"n": 1, "m": 1}), ok({"n": 2.5, "m": "x"})], "o", None, nested=True
    )
    assert [(c.name, c.kind, c.values) for c in columns] == [
        ("n", "float", [1.0, 2.5]),
        ("m", "text", ["1", "x"]),
    ]


def test_plain_and_named_answers_can_be_mixed():
    """Plain ones stay in the output's column."""
    columns = answer_columns([ok("plain"), ok({"k": 1})], "o", None, nested=True)
    assert [(c.name, c.values) for c in columns] == [("o", ["plain", None]), ("k", [None, 1])]


def test_a_model_that_invents_keys_makes_no_thousand_columns():
    """Then the whole answer stands in the output's column."""
    results = [ok({f"key {n}": n}) for n in range(1000)]
    (column,) = answer_columns(results, "o", None, nested=False)
    assert column.kind == "object"
    assert json.loads(column.values[7]) == {"key 7": 7}


def test_nested_values_are_objects_in_pandas_and_json_elsewhere():
    """A list in a cell survives both ways."""
    results = [ok({"tags": ["x", "y"]})]
    data = {"t": ["a"]}
    assert build_frame(open_source(pd.DataFrame(data), None), results, "o", None)["tags"][0] == [
        "x",
        "y",
    ]
    out = build_frame(open_source(pl.DataFrame(data), None), results, "o", None)
    assert out["tags"].to_list() == ['["x", "y"]']


def test_numbers_beyond_64_bits_are_text():
    """No frame can hold them otherwise."""
    frame = pl.DataFrame({"t": ["a", "b"]})
    out = build_frame(open_source(frame, None), [ok({"n": 2**70}), ok({"n": 1})], "o", None)
    assert out["n"].to_list() == [str(2**70), "1"]


TEXT = st.text(st.characters(exclude_categories=()), max_size=5)  # half characters included
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, min_size=1, max_size=6), st.sampled_from(sorted(MAKERS)))
def test_any_answers_fit_any_frame(answers, kind):
    """Whatever a model says, there is a frame of the right length with the result columns."""
    data = MAKERS[kind]({"t": ["x"] * len(answers)})
    frame = build_frame(open_source(data, None), [ok(a) for a in answers], "ask", None)
    assert len(frame) == len(answers)
    if kind != "list":
        names = frame.column_names if kind == "pyarrow" else frame.columns
        assert len(set(names)) == len(names) >= 1 + len(RESULT_COLUMNS)


@given(JSON, JSON)
def test_a_cell_of_the_joined_kind_loses_nothing_but_form(one, other):
    """Both values have a cell in the column that holds both."""
    kind = joined(kind_of(one), kind_of(other)) or "text"
    for value in (one, other):
        assert (as_cell(value, kind, nested=True) is None) == (value is None)


def test_texts_and_types_are_no_records():
    """Only values with named parts are."""
    assert [as_record(v) for v in ("x", 1, None, [1], Ticket, Color.red)] == [None] * 6
