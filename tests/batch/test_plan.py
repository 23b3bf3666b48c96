"""What a plan shows before anything is sent."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aitoolman
from aitoolman import LLMApplicationError

from ..vendors.reply import Reply

PRICE = {"input": 1.0, "output": 2.0}


async def test_a_plan_counts_and_sends_nothing(make_app, fake_llm):
    """Duplicates, missing values, answered and open rows, without one request."""
    async with make_app() as app:
        await app["ask"].batch([{"text": "known"}], progress=False)
        sent = len(fake_llm.requests)
        plan = await app["ask"].plan([{"text": t} for t in ["a", "a", "known", None, "b"]])
    survey = plan.survey
    counts = (survey.rows, survey.duplicates, survey.answered, survey.missing, survey.to_send)
    assert counts == (5, 1, 1, 1, 2)
    assert len(fake_llm.requests) == sent
    assert "1 duplicate, 1 already answered, 1 with missing values (skip), 2 to send" in repr(plan)


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        pl.DataFrame,
        pa.table,
        lambda d: [{"text": t} for t in d["text"]],
        lambda d: pd.Series(d["text"], name="anything"),
        lambda d: pd.Series(d["text"]),
        lambda d: pl.Series("anything", d["text"]),
        lambda d: d["text"],
    ],
    ids=[
        "pandas",
        "polars",
        "arrow",
        "dicts",
        "series",
        "unnamed series",
        "polars series",
        "texts",
    ],
)
async def test_rows_come_from_every_kind_of_data(make_app, make):
    """A lone column fills the one open variable."""
    async with make_app() as app:
        plan = await app["ask"].plan(make({"text": ["a", "b"]}))
    (_, first), (_, second) = plan.samples()
    assert [m.content for m in (*first, *second)] == ["Q: a", "Q: b"]


@pytest.mark.parametrize("data", [5, "text", {"text": ["a"]}, None, [1, 2]], ids=repr)
async def test_data_that_nothing_reads_is_an_error_that_says_what_is_read(make_app, data):
    """A dict of columns is named with its cure."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match=r"dataframe|rows are dicts"):
            await app["two"].plan(data)


async def test_a_lazy_frame_has_to_be_collected(make_app):
    """The message names the call."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match="collect"):
            await app["ask"].plan(pl.LazyFrame({"text": ["a"]}))


async def test_a_variable_without_a_column_is_found_here(make_app, fake_llm):
    """With the columns there are, and how to say it."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match=r"'text' of module 'ask'.*'body'.*columns="):
            await app["ask"].plan([{"body": "a"}])
    assert not fake_llm.requests


async def test_a_template_with_a_default_needs_no_column(make_app):
    """What the template can do without is no error."""
    prompts = {"module": {"m": {"model": "fast", "template": {"user": "{{ x | default('-') }}"}}}}
    async with make_app(prompts=prompts) as app:
        plan = await app["m"].plan([{"y": 1}])
    assert plan.samples()[0][1][0].content == "-"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"missing": "drop"}, "missing is"),
        ({"colums": {}}, "no option 'colums'.*columns"),
        ({"_modelname": "x"}, "_model_name"),
        ({"columns": {"nope": "text"}}, "no variable 'nope'"),
    ],
    ids=["missing", "misspelt", "call option", "variable"],
)
async def test_an_argument_that_means_nothing_is_an_error(make_app, arguments, message):
    """Nothing misspelt is taken for a template variable."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match=message):
            await app["ask"].plan([{"text": "a"}], **arguments)


async def test_an_unknown_model_is_found_before_anything_is_sent(make_app):
    """The plan asks what the model is."""
    async with make_app() as app:
        with pytest.raises(aitoolman.LLMError, match="nosuch"):
            await app["ask"].plan([{"text": "a"}], _model_name="nosuch")


async def test_missing_values_as_an_error_name_the_row(make_app):
    """With the cure."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match=r"row 1 has no value in 'text'.*skip"):
            await app["ask"].plan([{"text": "a"}, {"text": None}], missing="error")


async def test_what_was_planned_is_sent_whatever_is_edited_meanwhile(make_app, fake_llm):
    """Module, included template, variables, processor and data are frozen."""
    prompts = {
        "template": {"greet": "Hello {{ name }}"},
        "module": {
            "m": {
                "model": "fast",
                "post_processor": "p",
                "template": {"user": "{% include 'greet' %} {{ mood }} {{ text }}"},
            }
        },
    }
    async with make_app(prompts=prompts, processors={"p": str.upper}) as app:
        app.vars.update(name="Anna", mood="gladly")
        frame = pd.DataFrame({"text": ["one"]})
        plan = await app["m"].plan(frame)
        app.vars["name"] = "Eve"
        app.processors["p"] = str.lower
        frame.loc[0, "text"] = "other"
        app.add_module("m", {"model": "fast", "template": {"user": "edited"}})
        batch = await plan.run(progress=False)
    assert fake_llm.requests[0].last_text == "Hello Anna gladly one"
    assert batch.frame["m"].tolist() == ["HELLO ANNA GLADLY ONE"]


async def test_an_unknown_price_stays_unknown(make_app):
    """Never 0."""
    async with make_app() as app:
        plan = await app["ask"].plan(["a"])
    assert plan.estimate.cost == (None, None, None)
    assert "cost       unknown" in repr(plan)


async def test_the_embedded_model_costs_nothing_unless_it_is_priced():
    """Known to be 0: the machine is the user's own."""
    embedded = {"type": "llamacpp", "model": "smollm2-135m"}
    for entry, price in [({}, (0.0, 0.0)), ({"price": {"input": 1.0, "output": 2.0}}, (1.0, 2.0))]:
        client = aitoolman.LLMLocalClient({"api": {"m": embedded | entry}})
        found = (await client.describe("m")).price
        assert (found["input"], found["output"]) == price
        await client.close()


async def test_a_plan_that_has_run_says_what_is_left(make_app):
    """Looked at again after a trial, it counts on."""
    async with make_app() as app:
        plan = await app["ask"].plan(["a", "b", "c"])
        assert "nothing is sent yet" in repr(plan)
        await plan.run(limit=1, progress=False)
        assert "nothing is sent yet" not in repr(plan)
        assert "3 rows: 1 done, 2 to send" in repr(plan)
        assert "1 done" in plan._repr_html_()


async def test_cost_and_time_are_known_after_a_trial(make_app, fake_llm):
    """The trial's answers tell how long and how slow the others are."""
    fake_llm.script(lambda seen: Reply("four words of answer", delay=0.02))
    async with make_app(price=PRICE, parallel=1) as app:
        plan = await app["ask"].plan([f"row {n}" for n in range(100)])
        assert plan.estimate.cost.expected is None
        assert "try run(limit=20)" in plan.estimate.advice
        await plan.run(limit=4, progress=False)
        known = plan.estimate
        again = await app["ask"].plan([f"other {n}" for n in range(100)])
    assert known.rows == 96
    assert known.cost.low <= known.cost.expected
    assert known.limit == "parallel"
    assert "parallel = 1" in known.advice
    assert "[api.fast] parallel" in known.advice
    assert known.seconds > 96 * 0.02
    assert again.estimate.cost.expected is not None


async def test_high_cost_comes_from_the_longest_answer_allowed(make_app):
    """The request's own limit of tokens."""
    async with make_app(price=PRICE) as app:
        plan = await app["ask"].plan(["a", "b"], _options={"max_tokens": 100})
    assert plan.estimate.completion_tokens.high == 200
    assert plan.estimate.cost.high == pytest.approx((plan.estimate.prompt_tokens + 400) / 1_000_000)


async def test_requests_a_minute_can_be_what_decides(make_app):
    """The slowest limit is named, with its key."""
    async with make_app(parallel=10, rpm=60) as app:
        await app["ask"].batch(["warm"], progress=False)
        plan = await app["ask"].plan([str(n) for n in range(600)])
    assert plan.estimate.limit == "rpm"
    assert plan.estimate.seconds == pytest.approx(600)
    assert "rpm = 60: 10 min 0 s" in plan.estimate.advice


async def test_an_iterator_is_not_read_to_its_end(make_app):
    """A plan over it says that it does not know."""
    pulled = []

    def rows():
        for n in range(10**9):
            pulled.append(n)
            yield {"text": f"row {n}"}

    async with make_app() as app:
        plan = await app["ask"].plan(rows())
        assert "unknown" in repr(plan)
        await plan.run(limit=30, progress=False)
    assert len(pulled) <= 31


async def test_rows_that_cannot_be_rendered_are_counted_and_shown(make_app):
    """A filter that fails on one row's value costs no other row."""
    prompts = {"module": {"m": {"model": "fast", "template": {"user": "{{ 10 // n }}"}}}}
    async with make_app(prompts=prompts) as app:
        plan = await app["m"].plan([{"n": 1}, {"n": 0}])
        batch = await plan.run(progress=False)
    assert plan.survey.unrenderable == 1
    assert "row 1" in repr(plan)
    assert [row["status"] for row in batch.frame] == ["stop", "error: application"]


async def test_everything_a_plan_shows_is_escaped(make_app):
    """Model and data cannot put markup into a notebook."""
    async with make_app() as app:
        plan = await app["ask"].plan(["<script>alert(1)</script>"])
        batch = await plan.run(progress=False)
    assert "<script>" not in plan._repr_html_()
    assert "<script>" not in batch._repr_html_()


async def test_the_ledger_can_be_left_out_or_put_elsewhere(make_app, fake_llm, tmp_path):
    """``off`` sends duplicates again and says so; a path is used."""
    async with make_app() as app:
        plan = await app["ask"].plan(["a", "a"], ledger="off")
        await plan.run(progress=False)
        assert len(fake_llm.requests) == 2
        assert "off" in repr(plan)
        assert not (tmp_path / ".aitoolman").exists()
        await app["ask"].batch(["b", "b"], ledger=tmp_path / "own.db", progress=False)
    assert len(fake_llm.requests) == 3
    assert (tmp_path / "own.db").exists()


@pytest.mark.parametrize(
    "data",
    [pd.DataFrame({"text": []}), pl.DataFrame({"text": []}), pa.table({"text": []}), [], iter([]),
     pd.DataFrame()],
    ids=["pandas", "polars", "arrow", "list", "iterator", "no columns"],
)  # fmt: skip
async def test_no_rows_are_a_complete_batch(make_app, fake_llm, data):
    """Nothing to do is done, and the frame has its columns."""
    async with make_app() as app:
        batch = await app["ask"].batch(data, progress=False)
    assert batch.complete
    assert len(batch.frame) == 0
    assert not fake_llm.requests


async def test_a_frame_with_two_columns_of_one_name_is_an_error(make_app):
    """Nobody could say which is meant."""
    async with make_app() as app:
        with pytest.raises(LLMApplicationError, match=r"(?s)cannot be read.*'text'"):
            await app["ask"].plan(pd.DataFrame([["a", "b"]], columns=["text", "text"]))


async def test_columns_need_not_have_names_of_text(make_app):
    """As frames without a header have them."""
    async with make_app() as app:
        frame = pd.DataFrame([["a", "b"]])
        batch = await app["ask"].batch(frame, columns={"text": 1}, progress=False)
    assert batch.frame["ask"].tolist() == ["Q: b"]
    assert batch.frame[0].tolist() == ["a"]
