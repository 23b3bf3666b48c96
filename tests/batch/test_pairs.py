"""Every kind of input, mode, failure, missing value and interrupt, each pair of them together."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aitoolman import LLMApplicationError

from ..vendors.reply import Reply
from .pairs import pairwise

ROWS, BAD, GAP = 24, (7, 11), 5
AXES = {
    "input": ["pandas", "polars", "arrow", "dicts", "iterator"],
    "mode": ["run", "batch", "trial", "sync"],
    "failure": ["none", "refused", "unreadable", "unrenderable", "filtered", "429", "503", "drop"],
    "missing": ["none", "skip", "empty", "error"],
    "interrupt": ["none", "stop", "cancel"],
}
CASES = pairwise(AXES)
PROMPTS = {
    "module": {
        "m": {
            "model": "fast",
            "post_processor": "parse_json",
            "template": {"user": "{{ text }}{% if 1 // d %}{% endif %} of row {{ id }}"},
        }
    }
}
MAKERS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "dicts": lambda d: [dict(zip(d, r, strict=True)) for r in zip(*d.values(), strict=True)],
    "iterator": lambda d: (dict(zip(d, r, strict=True)) for r in zip(*d.values(), strict=True)),
}
FINAL = {"refused": "error: request", "unreadable": "error: format",
         "unrenderable": "error: application", "filtered": "content_filter"}  # fmt: skip


def test_the_table_holds_every_pair():
    """And is much shorter than all combinations."""
    for a, b in itertools.combinations(AXES, 2):
        seen = {(case[a], case[b]) for case in CASES}
        assert seen == set(itertools.product(AXES[a], AXES[b]))
    assert len(CASES) < 60


def data_for(case):
    columns = {
        "id": list(range(100, 100 + ROWS)),
        "text": [f"text {n}" for n in range(ROWS)],
        "d": [0 if case["failure"] == "unrenderable" and n in BAD else 1 for n in range(ROWS)],
    }
    if case["missing"] != "none":
        columns["text"][GAP] = None
    return MAKERS[case["input"]](columns)


def vendor(case):
    """Answers with the row's number; fails on the bad rows, some failures only once."""
    times = Counter()

    def answer(seen):
        n = int(seen.last_text.split()[-1]) - 100
        times[n] += 1
        first, good = times[n] == 1, Reply(f'{{"n": {n}}}', delay=0.003)
        if n not in BAD:
            return good
        always = {"refused": Reply(status=400), "unreadable": Reply("no json"),
                  "filtered": Reply("", finish="content_filter")}  # fmt: skip
        once = {"429": Reply(status=429, headers={"retry-after": "0"}), "503": Reply(status=503),
                "drop": Reply(drop_after=-1)}  # fmt: skip
        return always.get(case["failure"]) or (once.get(case["failure"]) if first else None) or good

    return answer


async def ended_early(start, plan, how, fake_llm):
    """Run, and end it in the middle as the case says."""
    task = asyncio.create_task(start())
    if how == "none":
        return await task
    half = asyncio.create_task(fake_llm.reaches(lambda fake: fake.requests_seen >= 6))
    await asyncio.wait({task, half}, return_when=asyncio.FIRST_COMPLETED)
    half.cancel()
    if how == "stop" and plan is not None:
        plan.stop()
    else:
        task.cancel()
    await asyncio.wait({task, half})
    return task.cancelled() or task.exception()


async def run_case(app, case, fake_llm):
    module, options = app["m"], {}
    if case["missing"] != "none":
        options["missing"] = case["missing"]
    if case["mode"] == "batch":
        await ended_early(
            lambda: module.batch(data_for(case), progress=False, **options),
            None, case["interrupt"], fake_llm,
        )  # fmt: skip
        return await module.batch(data_for(case), progress=False, **options)
    if case["mode"] == "sync":
        plan = await asyncio.to_thread(app.sync["m"].plan, data_for(case), **options)
        how = "none" if case["interrupt"] == "none" else "stop"
        await ended_early(
            lambda: asyncio.to_thread(plan.sync.run, progress=False), plan, how, fake_llm
        )
        return await asyncio.to_thread(plan.sync.run, progress=False)
    plan = await module.plan(data_for(case), **options)
    if case["mode"] == "trial":
        await plan.run(limit=5, progress=False)
    await ended_early(lambda: plan.run(progress=False), plan, case["interrupt"], fake_llm)
    return await plan.run(progress=False)


def as_rows(frame):
    if isinstance(frame, pd.DataFrame):
        frame = frame.astype(object).where(frame.notna(), None)
        return frame.to_dict("records")
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    return frame if isinstance(frame, list) else frame.to_pylist()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
async def test_the_frame_is_right(make_app, fake_llm, case):
    """Whole, in order, each row with its own answer or its own reason."""
    fake_llm.script(vendor(case))
    async with make_app(prompts=PROMPTS, parallel=3, max_retries=2, retry_duration=0.01) as app:
        if case["missing"] == "error":
            with pytest.raises(LLMApplicationError, match=f"row {GAP} has no value in 'text'"):
                await run_case(app, case, fake_llm)
            assert fake_llm.requests_seen <= GAP
            return
        batch = await run_case(app, case, fake_llm)
    assert batch.complete
    rows = as_rows(batch.frame)
    assert [row["id"] for row in rows] == list(range(100, 100 + ROWS))
    for n, row in enumerate(rows):
        status = FINAL.get(case["failure"], "stop") if n in BAD else "stop"
        if n == GAP and case["missing"] == "skip":
            status = "skipped"
        assert row["status"] == status, (n, row)
        assert row["n"] == (n if status == "stop" else None)
        assert (row["error"] is not None) == (status not in ("stop", "content_filter"))
