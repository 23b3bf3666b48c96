"""Many rows: memory, resuming, and an iterator without end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import aitoolman

from ..fake_process import ROOT, FakeLLMProcess


def measured(rows, tmp_path):
    with FakeLLMProcess() as fake:
        fake.set(keep=10)
        done = subprocess.run(
            [sys.executable, "-m", "tests.batch.scale", fake.openai_url, str(rows), str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(6_000, marks=pytest.mark.timeout(60)),
        pytest.param(50_000, marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
def test_memory_and_resuming_stay_within_their_bounds(tmp_path, rows):
    """200 MB and 3 s for 50,000 rows; the time with a margin, since machines are shared."""
    found = measured(rows, tmp_path)
    assert found["megabytes"] < 200 * rows / 50_000 + 20
    assert found["resume"] < 10 * 3 * rows / 50_000 + 1


async def test_a_run_over_an_endless_iterator_reads_what_it_needs(make_app):
    """Rows are read a window at a time."""
    read = 0

    def rows():
        nonlocal read
        while True:
            read += 1
            yield {"text": f"row {read}"}

    async with make_app() as app:
        plan = await app["ask"].plan(rows())
        for limit in (10, 700):
            await plan.run(limit=limit, progress=False)
    assert read == 710
    assert not plan.batch.complete
    assert len(plan.batch.frame) == 710


async def test_results_can_be_streamed_and_forgotten(make_app):
    """A generator of any length in bounded memory: rows come in order and are not kept."""
    async with make_app() as app:
        plan = await app["ask"].plan({"text": f"row {n}"} for n in range(1500))
        seen = [row async for row in plan.rows()]
    assert [row["ask"] for row in seen] == [f"Q: row {n}" for n in range(1500)]
    assert {row["status"] for row in seen} == {"stop"}
    assert not any(plan.source.rows)
    assert len({id(result) for result in plan.state.results}) == 1


async def test_a_stream_of_rows_can_be_left_early(make_app, fake_llm):
    """What was under way ends; what was not reached is not asked."""
    async with make_app() as app:
        plan = await app["ask"].plan({"text": f"row {n}"} for n in range(10**6))
        rows = plan.rows()
        async for row in rows:
            if row["text"] == "row 20":
                break
        await rows.aclose()
    assert fake_llm.requests_seen < 2000
    with pytest.raises(aitoolman.LLMApplicationError, match="streamed"):
        await plan.run(progress=False)
