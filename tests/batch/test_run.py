"""Runs: limits, failures, what ends a run, and what can be done about rows that failed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

import pandas as pd
import pytest

import aitoolman
from aitoolman import LLMApplicationError, LLMBatchError

from ..vendors.reply import Reply

PRICE = {"input": 1.0, "output": 1.0}


def texts(count):
    return [{"text": f"row {n}"} for n in range(count)]


def refusing(*refused, status=400, **reply):
    """A vendor that refuses some rows."""

    def answer(seen):
        number = int(seen.last_text.split()[-1])
        return Reply(status=status, **reply) if number in refused else f"answer {number}"

    return answer


async def test_a_trial_and_the_rest_make_the_whole(make_app, fake_llm):
    """The rest asks only what the trial left; the batch is one and the same."""
    async with make_app() as app:
        plan = await app["ask"].plan(texts(30))
        trial = await plan.run(limit=10, progress=False)
        assert not trial.complete
        assert len(fake_llm.requests) == 10
        assert "INCOMPLETE, 10 of 30" in repr(trial)
        batch = await plan.run(progress=False)
    assert batch is trial is plan.batch
    assert batch.complete
    assert [row["ask"] for row in batch.frame] == [f"Q: row {n}" for n in range(30)]
    assert len(fake_llm.requests) == 30


async def test_no_more_rows_are_under_way_than_the_window(make_app, fake_llm):
    """The limit, and a little to fill a free slot at once."""
    async with make_app(parallel=4) as app:
        fake_llm.script(lambda seen: Reply("x", delay=0.01))
        plan = await app["ask"].plan(texts(40))
        running = asyncio.create_task(plan.run(progress=False))
        await fake_llm.reaches(lambda fake: fake.open_requests == 4)
        assert plan._runner._engine.active <= 8
        await running
    assert fake_llm.max_concurrent <= 4


async def test_another_call_is_not_behind_the_rows_of_a_batch(make_app, fake_llm):
    """A cell's own call gets its turn while thousands of rows wait."""
    async with make_app(parallel=2) as app:
        fake_llm.script(lambda seen: Reply("x", delay=0.02))
        plan = await app["ask"].plan(texts(2000))
        running = asyncio.create_task(plan.run(progress=False))
        await fake_llm.reaches(lambda fake: fake.requests_seen >= 4)
        before = fake_llm.requests_seen
        await app["ask"](text="mine")
        assert fake_llm.requests_seen - before <= 8
        plan.stop()
        await running


async def test_bad_rows_cost_no_other_row(make_app, fake_llm):
    """Refused, unreadable and unrenderable rows stand in the frame with their reason."""
    fake_llm.script(refusing(3))
    async with make_app() as app:
        batch = await app["ask"].batch(texts(6), progress=False)
    frame = batch.frame
    assert [row["status"] for row in frame].count("stop") == 5
    assert "400" in frame[3]["error"]
    assert [row["text"] for row in batch.failed] == ["row 3"]
    assert batch.summary()["failed"] == 1
    assert batch.complete


async def test_on_error_stop_ends_at_the_first_failed_row(make_app, fake_llm):
    """One sentence names it, and what was answered is kept."""
    fake_llm.script(refusing(3))
    async with make_app(parallel=1) as app:
        plan = await app["ask"].plan(texts(50))
        with pytest.raises(LLMBatchError, match="row 3 failed") as caught:
            await plan.run(on_error="stop", progress=False)
    assert caught.value.batch is plan.batch
    assert caught.value._render_traceback_() == [f"LLMBatchError: {caught.value}"]
    assert 4 <= plan.batch.summary()["answered"] + 1 < 50


@pytest.mark.parametrize(("most", "failed"), [(2, 3), (0.2, None)], ids=["count", "share"])
async def test_max_errors_is_a_count_or_a_share(make_app, fake_llm, most, failed):
    """One more ends the run."""
    fake_llm.script(refusing(*range(0, 200, 2)))
    async with make_app(parallel=1) as app:
        plan = await app["ask"].plan(texts(200))
        with pytest.raises(LLMBatchError, match="more than max_errors"):
            await plan.run(max_errors=most, progress=False)
    seen = plan.batch.summary()
    assert seen["answered"] + seen["failed"] < 100
    if failed:
        assert failed <= seen["failed"] <= failed + 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401), "refuses the key"),
        (Reply(status=429, error_code="insufficient_quota"), "quota"),
        (Reply(status=404), "no such model"),
    ],
    ids=["key", "quota", "model"],
)
async def test_what_no_row_can_survive_stops_at_once(make_app, fake_llm, reply, said):
    """One sentence, few requests, and those rows are open again for the next run."""
    fake_llm.script(lambda seen: reply)
    async with make_app(parallel=3, max_retries=3) as app:
        plan = await app["ask"].plan(texts(500))
        with pytest.raises(LLMBatchError, match=said):
            await plan.run(progress=False)
        assert len(fake_llm.requests) <= 10
        assert plan.batch.summary()["pending"] == 500
        fake_llm.script(lambda seen: "fine")
        await plan.run(progress=False)
    assert plan.batch.complete
    assert plan.batch.summary()["answered"] == 500


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "llamacpp", "model": "smollm2-135m"}, r"pip install 'aitoolman\[local\]'"),
        ({"url": "http://127.0.0.1:9/v1", "model": "m", "api_key": "${NO_SUCH}"}, "NO_SUCH is not"),
    ],
    ids=["package", "variable"],
)
async def test_a_model_that_cannot_be_used_at_all_stops_the_run(entry, said, monkeypatch):
    """A missing package or key is no row's fault: the first row ends it, and all stay open."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    prompts = {"module": {"ask": {"model": "m", "template": {"user": "{{ text }}"}}}}
    async with aitoolman.LLMLocalClient({"api": {"m": entry}}) as client:
        app = aitoolman.LLMApplication(client, prompts)
        plan = await app["ask"].plan(texts(300), ledger="off")
        with pytest.raises(LLMBatchError, match=said):
            await plan.run(progress=False)
    assert plan.batch.summary()["pending"] == 300
    assert "cost saved" not in repr(plan.batch)
    assert plan.batch.summary()["failed"] == 0


async def test_max_cost_ends_before_the_money_is_spent(make_app, fake_llm):
    """Rows under way count; the rest can be run later."""
    async with make_app(price=PRICE, parallel=4) as app:
        plan = await app["ask"].plan(texts(200))
        batch = await plan.run(max_cost=0.0005, progress=False)
        assert 0 < batch.summary()["cost"] <= 0.0005
        assert not batch.complete
        await plan.run(progress=False)
    assert batch.complete
    assert len(fake_llm.requests) == 200


async def test_max_cost_without_prices_is_an_error(make_app):
    """It says which key is missing."""
    async with make_app() as app:
        plan = await app["ask"].plan(texts(2))
        with pytest.raises(LLMApplicationError, match=r"price = .*\[api.fast\]"):
            await plan.run(max_cost=1.0, progress=False)


@pytest.mark.parametrize(
    "limits", [{"limit": -1}, {"max_cost": -1.0}, {"max_errors": -2}, {"on_error": "ignore"}]
)
async def test_a_limit_that_means_nothing_is_an_error(make_app, limits):
    """Before anything is sent."""
    async with make_app(price=PRICE) as app:
        plan = await app["ask"].plan(texts(2))
        with pytest.raises(LLMApplicationError, match=next(iter(limits))):
            await plan.run(progress=False, **limits)


async def test_two_runs_of_one_plan_at_once_are_an_error(make_app, fake_llm):
    """The second is told, the first goes on."""
    fake_llm.script(lambda seen: Reply("x", delay=0.05))
    async with make_app() as app:
        plan = await app["ask"].plan(texts(5))
        first = asyncio.create_task(plan.run(progress=False))
        await asyncio.sleep(0)
        with pytest.raises(LLMApplicationError, match="running already"):
            await plan.run(progress=False)
        assert (await first).complete


async def test_a_second_batch_over_the_same_rows_costs_nothing(make_app, fake_llm):
    """Cost now and cost saved are two numbers."""
    async with make_app(price=PRICE) as app:
        first = await app["ask"].batch(texts(8), progress=False)
        second = await app["ask"].batch(texts(8), progress=False)
    assert len(fake_llm.requests) == 8
    assert first.summary()["cost"] == pytest.approx(second.summary()["cost_saved"])
    assert first.summary()["cost"] > 0
    assert second.summary()["cost"] == 0
    assert all(row["from_ledger"] for row in second.frame)
    keep = ("ask", "status", "tokens", "cost", "attempts")
    assert [[r[k] for k in keep] for r in first.frame] == [
        [r[k] for k in keep] for r in second.frame
    ]


async def test_identical_rows_are_sent_once_even_at_the_same_time(make_app, fake_llm):
    """All of them get the answer."""
    async with make_app() as app:
        batch = await app["ask"].batch([{"text": "same"}] * 40, progress=False)
    assert len(fake_llm.requests) == 1
    assert {row["ask"] for row in batch.frame} == {"Q: same"}


async def test_a_failed_request_is_retried_and_a_bad_answer_asked_anew(make_app, fake_llm):
    """The ledger would give the bad answer again: the next sample is another."""
    answers = {"row 0": ["no json", '{"n": 1}'], "row 1": [Reply(status=400), '{"n": 2}'],
               "row 2": ['{"n": 3}']}  # fmt: skip
    fake_llm.script(lambda seen: answers[seen.last_text].pop(0))
    async with make_app() as app:
        plan = await app["parts"].plan(texts(3))
        batch = await plan.run(progress=False)
        statuses = [row["status"] for row in batch.frame]
        assert statuses == ["error: format", "error: request", "stop"]
        assert await batch.retry_failed(progress=False) is batch
    assert [row["n"] for row in batch.frame] == [1, 2, 3]
    assert len(fake_llm.requests) == 5
    assert batch.summary()["failed"] == 0
    async with make_app() as app:  # a new process: every paid answer is found again
        plan = await app["parts"].plan(texts(3))
        fake_llm.script(lambda seen: pytest.fail("asked again"))
        batch = await plan.run(limit=1, progress=False)
        await batch.retry_failed(progress=False)
    assert batch.frame[0]["n"] == 1


async def test_reprocess_reads_kept_answers_again_without_asking(make_app, fake_llm):
    """A mended processor, or another one."""
    fake_llm.script(lambda seen: "YES")
    async with make_app(
        processors={"p": json.loads},
        prompts={"module": {"m": {"model": "fast", "post_processor": "p",
                                  "template": {"user": "{{ text }}"}}}},
    ) as app:  # fmt: skip
        batch = await app["m"].batch(texts(4), progress=False)
        assert batch.summary()["failed"] == 4
        sent = len(fake_llm.requests)
        app.processors["p"] = str.lower
        assert [row["m"] for row in batch.reprocess().frame] == ["yes"] * 4
        assert [row["m"] for row in batch.reprocess(len).frame] == [3] * 4

        async def later(text):
            await asyncio.sleep(0)
            return text * 2

        assert [row["m"] for row in batch.reprocess(later).frame] == ["YESYES"] * 4
    assert len(fake_llm.requests) == sent
    assert batch.summary()["failed"] == 0


async def test_an_async_processor_runs_on_its_users_own_loop(make_app, fake_llm):
    """It may use what belongs to that loop."""
    seen = set()

    async def process(text):
        seen.add(asyncio.get_running_loop())
        return text

    client = aitoolman.connect(
        {"api": {"fast": {"url": fake_llm.openai_url, "model": "m", "parallel": 3}}}
    )
    app = aitoolman.LLMApplication(
        client,
        {"module": {"m": {"model": "fast", "post_processor": "p", "template": {"user": "{{t}}"}}}},
        {"p": process},
    )
    for _ in range(2):  # the second time from the ledger
        batch = await app["m"].batch(["a", "b", "c"], progress=False)
        assert [row["m"] for row in batch.frame] == ["a", "b", "c"]
    assert seen == {asyncio.get_running_loop()}
    await client.close()


def test_the_synchronous_twins_do_the_same(fake_llm):
    """``app.sync[...].plan``, ``.batch``, ``plan.sync.run`` and ``batch.sync.retry_failed``."""
    client = aitoolman.connect({"api": {"fast": {"url": fake_llm.openai_url, "model": "m"}}})
    app = aitoolman.LLMApplication(
        client, {"module": {"ask": {"model": "fast", "template": {"user": "Q: {{ text }}"}}}}
    )
    fake_llm.script(refusing(1))
    plan = app.sync["ask"].plan(texts(3))
    batch = plan.sync.run(limit=2, progress=False)
    assert batch.summary()["failed"] == 1
    fake_llm.script(refusing())
    batch.sync.retry_failed(progress=False)
    plan.sync.run(progress=False)
    assert [row["ask"] for row in batch.frame] == [f"answer {n}" for n in range(3)]
    assert app.sync["ask"].batch(texts(3), progress=False).complete
    client.sync.close()


async def test_any_client_can_run_a_batch(tmp_path):
    """A scripted one has no limits and no prices; it gets a ledger, and is not closed."""
    client = aitoolman.LLMScriptedClient(lambda request: request.messages[-1].content.upper())
    app = aitoolman.LLMApplication(
        client, {"module": {"m": {"model": "x", "template": {"user": "{{ t }}"}}}}
    )
    plan = await app["m"].plan(pd.DataFrame({"t": ["a", "b"]}))
    batch = await plan.run(progress=False)
    assert batch.frame["m"].tolist() == ["A", "B"]
    assert (tmp_path / ".aitoolman" / "ledger.db").exists()
    assert (await app["m"](t="still open")).text == "STILL OPEN"
    assert "unknown" in repr(plan)


async def test_a_recorded_ledger_replays_a_batch(make_app, fake_llm, tmp_path):
    """No request, the same frame."""
    async with make_app() as app:
        first = await app["ask"].batch(texts(5), ledger=tmp_path / "a.db", progress=False)
    sent = len(fake_llm.requests)
    dead = aitoolman.LLMScriptedClient(lambda request: pytest.fail("asked"))
    async with aitoolman.LLMLedgerClient(dead, tmp_path / "a.db", mode="replay") as client:
        app = aitoolman.LLMApplication(client, {"module": {"ask": {
            "model": "fast", "template": {"user": "Q: {{ text }}"}}}})  # fmt: skip
        plan = await app["ask"].plan(texts(5))
        again = await plan.run(progress=False)
    assert [row["ask"] for row in again.frame] == [row["ask"] for row in first.frame]
    assert len(fake_llm.requests) == sent


@dataclasses.dataclass
class Point:
    x: int
    y: float


async def test_a_processors_declared_type_makes_the_columns(make_app, fake_llm):
    """Also where it is a function that says what it returns, and every row failed."""

    def parse(text: str) -> Point:
        return Point(**json.loads(text))

    fake_llm.script(lambda seen: "no json")
    prompts = {
        "module": {"m": {"model": "fast", "post_processor": "p", "template": {"user": "{{t}}"}}}
    }
    for processor in (Point, parse):
        async with make_app(prompts=prompts, processors={"p": processor}) as app:
            batch = await app["m"].batch(pd.DataFrame({"t": ["a", "b"]}), progress=False)
        assert [str(t) for t in batch.frame[["x", "y"]].dtypes] == ["Int64", "Float64"]


async def test_format_retries_work_in_batches_and_when_resumed(make_app, fake_llm):
    """A kept bad answer is not the end of its row: the conversation goes on as it did."""
    module = {"model": "fast", "post_processor": "parse_json", "format_retries": 1}
    prompts = {"module": {"m": {**module, "template": {"user": "{{ text }}"}}}}
    fake_llm.script(lambda seen: '{"n": 1}' if len(seen.messages) > 1 else "what?")
    for _ in range(2):
        async with make_app(prompts=prompts) as app:
            batch = await app["m"].batch(texts(3), progress=False)
        assert [row["n"] for row in batch.frame] == [1, 1, 1]
    assert len(fake_llm.requests) == 6


async def test_an_error_of_the_data_ends_the_run_and_keeps_what_was_answered(make_app):
    """An iterator that raises is the user's own exception."""

    def rows():
        yield from texts(30)
        raise KeyError("the file broke off")

    async with make_app(parallel=2) as app:
        plan = await app["ask"].plan(rows())
        with pytest.raises(KeyError, match="broke off"):
            await plan.run(progress=False)


async def test_keys_are_in_no_result(make_app, fake_llm):
    """Not in the frame, the summary or the error."""
    fake_llm.script(lambda seen: Reply(status=401))
    async with make_app() as app:
        plan = await app["ask"].plan(texts(3))
        with pytest.raises(LLMBatchError) as caught:
            await plan.run(progress=False)
    shown = f"{plan!r} {plan.batch!r} {plan.batch.frame} {plan.batch.summary()} {caught.value}"
    assert "sk-test-key" not in shown


@pytest.mark.usefixtures("nothing_left")
async def test_a_run_leaves_no_task_and_no_thread(make_app):
    """The ledger that was put around the client is closed with the run."""
    async with make_app() as app:
        await app["ask"].batch(texts(10), progress=False)
