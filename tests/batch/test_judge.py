"""Answers against labels, and one batch against another."""

from __future__ import annotations

import math

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aitoolman
from aitoolman import LLMApplicationError
from aitoolman._batch.compare import mcnemar
from aitoolman._batch.judge import NO_ANSWER, wilson

from ..vendors.reply import Reply

PRICE = {"input": 1.0, "output": 1.0}


@pytest.fixture
def labelled(make_app, fake_llm):
    """Runs rows whose answers are given, with labels beside them."""

    async def run(answers, labels, kind=list, limit=None, module="ask"):
        fake_llm.script(lambda seen: answers[int(seen.last_text.split()[-1])])
        rows = [{"text": f"row {n}", "label": label} for n, label in enumerate(labels)]
        data = rows if kind is list else kind(rows)
        async with make_app(price=PRICE) as app:
            plan = await app[module].plan(data, ledger="off")
            return await plan.run(limit=limit, progress=False)

    return run


async def test_accuracy_classes_and_confusion(labelled):
    """Numbers that can be checked by hand."""
    batch = await labelled(["a", "a", "b", "b", "a"], ["a", "b", "b", "b", "a"])
    judgement = batch.judge("label")
    assert (judgement.correct, judgement.accuracy) == (4, 0.8)
    assert judgement.confusion == {("a", "a"): 2, ("b", "a"): 1, ("b", "b"): 2}
    a, b = judgement.classes
    assert a == ("a", 2, 2 / 3, 1.0, 0.8)
    assert b == ("b", 3, 1.0, 2 / 3, 0.8)
    total = batch.summary()["cost"]
    assert judgement.cost_per_correct == pytest.approx(total / 4)
    assert "accuracy 80.0% (4 of 5; 95 % interval" in repr(judgement)


async def test_the_rows_that_disagree_come_as_a_frame(labelled):
    """In the input's own kind, with the index it had."""
    batch = await labelled(["a", "b"], ["a", "a"], pd.DataFrame)
    wrong = batch.judge("label").disagreements
    assert wrong.index.tolist() == [1]
    assert wrong["ask"].tolist() == ["b"]
    batch = await labelled(["a", "b"], ["a", "a"], pl.DataFrame)
    assert batch.judge("label").disagreements["ask"].to_list() == ["b"]


async def test_an_answer_that_could_not_be_used_is_wrong(labelled):
    """A row whose request failed says nothing about the model, and is left out."""
    answers = ["a", Reply("a", finish="length"), Reply(status=400)]
    judgement = (await labelled(answers, ["a", "a", "a"])).judge("label")
    assert len(judgement.rows) == 2
    assert judgement.confusion == {("a", "a"): 1, ("a", NO_ANSWER): 1}
    assert "1 without label or answer" in judgement.first_line()


async def test_an_incomplete_batch_says_so_in_the_first_line(labelled):
    """Also where it is compared."""
    part = await labelled(["a"] * 4, ["a"] * 4, limit=2)
    judgement = part.judge("label")
    assert repr(judgement).splitlines()[0].startswith("INCOMPLETE batch: 2 of 4")
    assert "INCOMPLETE" in aitoolman.compare(part, part, "label").first_line()


async def test_rows_without_a_label_are_left_out(labelled):
    """Missing labels are no class of their own."""
    judgement = (await labelled(["a", "a", "a"], ["a", None, float("nan")])).judge("label")
    assert len(judgement.rows) == 1


async def test_labels_can_be_given_beside_the_frame(labelled):
    """One for each row, no fewer."""
    batch = await labelled(["a", "b"], ["", ""])
    assert batch.judge(["a", "b"]).accuracy == 1
    with pytest.raises(LLMApplicationError, match="1 labels for 2 rows"):
        batch.judge(["a"])
    with pytest.raises(LLMApplicationError, match=r"no column 'lable'.*label"):
        batch.judge("lable")


async def test_one_part_of_an_answer_is_judged_by_its_name(labelled):
    """Several parts need a word on which."""
    answers = ['{"kind": "a", "sure": true}', '{"kind": "b", "sure": true}']
    batch = await labelled(answers, ["a", "a"], module="parts")
    assert batch.judge("label", answer="kind").accuracy == 0.5
    with pytest.raises(LLMApplicationError, match="answer= one of kind, sure"):
        batch.judge("label")
    with pytest.raises(LLMApplicationError, match="no answer 'kin'"):
        batch.judge("label", answer="kin")


async def test_two_batches_are_compared_row_by_row(labelled):
    """Only the rows that flip say which is better."""
    labels = ["a"] * 6
    before = await labelled(["a", "b", "b", "b", "b", "a"], labels)
    after = await labelled(["a", "a", "a", "a", "b", "b"], labels)
    comparison = aitoolman.compare(before, after, labels="label")
    assert (comparison.gained, comparison.lost) == (3, 1)
    assert comparison.difference == pytest.approx(2 / 6)
    assert [(f.position, f.before, f.after) for f in comparison.flips] == [
        (1, "b", "a"), (2, "b", "a"), (3, "b", "a"), (5, "a", "b"),
    ]  # fmt: skip
    assert comparison.p_value == pytest.approx(0.625)
    assert [row["text"] for row in comparison.changed] == ["row 1", "row 2", "row 3", "row 5"]
    assert "3 rows became right, 1 became wrong" in repr(comparison)


async def test_batches_over_different_rows_are_not_compared(labelled):
    """By number, and by their labels."""
    one, two = await labelled(["a"], ["a"]), await labelled(["a", "a"], ["a", "a"])
    with pytest.raises(LLMApplicationError, match="different rows: 1 and 2"):
        aitoolman.compare(one, two, "label")
    other = await labelled(["a"], ["b"])
    with pytest.raises(LLMApplicationError, match="different labels"):
        aitoolman.compare(one, other, "label")


async def test_a_judgement_of_nothing_still_shows_itself(labelled):
    """No division by zero, whatever is asked."""
    batch = await labelled(["a"], [None])
    judgement = batch.judge("label")
    assert "nothing to judge" in repr(judgement)
    assert judgement.accuracy is None
    assert judgement.cost_per_correct is None
    assert "nothing to compare" in repr(aitoolman.compare(batch, batch, "label"))
    assert judgement._repr_html_()


async def test_everything_shown_is_escaped(labelled):
    """Labels and answers are the model's and the data's."""
    batch = await labelled(["<i>x"], ["<b>y"])
    other = await labelled(["<b>y"], ["<b>y"])
    shown = batch.judge("label")._repr_html_()
    shown += aitoolman.compare(batch, other, "label")._repr_html_()
    assert "<i>" not in shown
    assert "<b>y" not in shown


@pytest.mark.filterwarnings("ignore")
async def test_the_picture_shows_the_confusion_matrix(labelled):
    """Labels down, answers across, the accuracy above."""
    import matplotlib as mpl

    mpl.use("Agg")
    batch = await labelled(["a", "b"], ["a", "a"])
    axes = batch.judge("label").plot()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    assert "50.0%" in axes.get_title()
    assert sorted(t.get_text() for t in axes.texts) == ["1", "1"]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(28, 40, 0.5457, 0.8193), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilsons_interval_has_its_published_values(k, n, low, high):
    """As R's ``prop.test(correct=FALSE)`` gives them."""
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-3)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_p_is_the_two_sided_binomial(gained, lost):
    """Symmetric, within 0 and 1, and what summing up the tail gives."""
    p = mcnemar(gained, lost)
    assert 0 < p <= 1
    assert p == mcnemar(lost, gained)
    n, k = gained + lost, min(gained, lost)
    tail = math.fsum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
                              - n * math.log(2)) for i in range(k + 1))  # fmt: skip
    assert p == pytest.approx(min(1.0, 2 * tail), rel=1e-6)
