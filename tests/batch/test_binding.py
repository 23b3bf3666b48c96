"""Columns to variables, and cells that are missing."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import LLMApplicationError
from aitoolman._batch.binding import bind, is_missing


def test_a_variable_takes_the_column_of_its_own_name():
    """Nothing has to be said where names agree."""
    assert bind(["text"], ["id", "text"], None, None, {}).columns == {"text": "text"}


def test_columns_maps_variable_to_column_and_wins_over_equal_names():
    """An explicit mapping is obeyed."""
    binding = bind(["text"], ["text", "body"], {"text": "body"}, None, {})
    assert binding.columns == {"text": "body"}


def test_a_reversed_mapping_is_turned_round_and_said():
    """Column to variable works as well, with a note."""
    binding = bind(["text"], ["body"], {"body": "text"}, None, {})
    assert binding.columns == {"text": "body"}
    assert "turned round" in binding.notes[0]


def test_a_constant_wins_over_a_column_and_over_application_variables():
    """What is given for this batch is used."""
    binding = bind(["lang"], ["lang"], None, {"lang": "en"}, {"lang": "de"})
    assert binding.columns == {}
    assert binding.constants == {"lang": "en"}


def test_a_column_wins_over_application_variables():
    """As an argument of a call would."""
    assert bind(["lang"], ["lang"], None, None, {"lang": "de"}).columns == {"lang": "lang"}


def test_variables_that_nothing_fills_are_listed():
    """They are found before anything is sent."""
    assert bind(["a", "b"], ["a"], None, None, {}).unfilled == ["b"]


@pytest.mark.parametrize(
    ("columns", "constants", "message"),
    [
        ({"txt": "body"}, None, "no variable 'txt'.*text"),
        ({"text": "bodi"}, None, "no column 'bodi'.*body"),
        ({"text": "body"}, {"text": "x"}, "both columns and constants"),
        ({"text": "body"}, {"txt": "x"}, "constants: .*no variable 'txt'.*text"),
    ],
    ids=["unknown variable", "unknown column", "twice", "unknown constant"],
)
def test_a_mapping_that_cannot_be_is_an_error_with_a_hint(columns, constants, message):
    """Misspelt names come with the nearest known ones."""
    with pytest.raises(LLMApplicationError, match=message):
        bind(["text"], ["body"], columns, constants, {})


MISSING = [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "ns"), np.float32("nan"),
           decimal.Decimal("NaN")]  # fmt: skip


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_every_kind_of_missing_value_is_recognized(value):
    """None, NaN, NaT and NA, of whichever library."""
    assert is_missing(value)


class Odd:
    def __ne__(self, other):
        raise RuntimeError("compare me not")

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError


@pytest.mark.parametrize("value", ["", "nan", 0, False, [], np.array([np.nan, 1]), Odd()], ids=str)
def test_what_only_looks_missing_is_not(value):
    """Empty texts, zeros and containers are values."""
    assert not is_missing(value)


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.none()), st.binary()))
def test_values_are_never_missing(value):
    """Whatever they are."""
    assert not is_missing(value)
