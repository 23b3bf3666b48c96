"""``kill -9`` loses no answer and repeats none but those under way."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from jupyter_client.manager import AsyncKernelManager

from ..fake_process import FakeLLMProcess
from .killing import (
    WINDOW,
    assert_whole,
    environment,
    kill,
    random_rows,
    repeated,
    run_on,
    start,
    write_project,
)  # fmt: skip

KILLS = [pytest.param(3, id="3"), pytest.param(20, id="20", marks=pytest.mark.long)]
ROWS = 5000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kills", KILLS)
def test_the_command_goes_on_after_kills(tmp_path, kills):
    """The same command again; the file is whole and in order at the end."""
    with FakeLLMProcess() as fake:
        write_project(tmp_path, fake, ROWS)
        for rows in random_rows(ROWS, kills):
            process = start(tmp_path, "-o", "out.csv")
            run_on(process, fake, rows)
            kill(process)
            assert not (tmp_path / "out.csv").exists()
        process = start(tmp_path, "-o", "out.csv")
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        assert repeated(fake, ROWS) <= kills * WINDOW
    assert_whole(tmp_path / "out.csv", ROWS)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".out")) == []


@pytest.mark.timeout(60)
def test_two_processes_share_one_ledger(tmp_path):
    """Each row is asked once by either; one is killed, the other's file is whole."""
    rows = 600
    with FakeLLMProcess("--delay", "0.005") as fake:
        write_project(tmp_path, fake, rows)
        one, other = start(tmp_path, "-o", "one.csv"), start(tmp_path, "-o", "other.csv")
        run_on(one, fake, rows // 3)
        kill(one)
        assert other.communicate(timeout=50) is not None
        one = start(tmp_path, "-o", "one.csv")
        one.communicate(timeout=50)
        assert (one.returncode, other.returncode) == (0, 0)
        assert repeated(fake, rows) <= WINDOW
    assert_whole(tmp_path / "one.csv", rows)
    assert_whole(tmp_path / "other.csv", rows)


CELL = """
import aitoolman, pandas as pd
client = aitoolman.connect("llm.toml")
app = aitoolman.LLMApplication(client, aitoolman.load_config("prompts.toml"))
frame = pd.read_csv("in.csv")
plan = await app["ask"].plan(frame, columns={"text": "body"})
batch = await plan.run()
batch.frame.to_csv("out.csv", index=False)
"""


async def run_cell(manager: AsyncKernelManager, code: str, timeout: float) -> str:
    """The status that a kernel gives a cell; ``"dead"`` where it died."""
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        reply = await client.execute_interactive(
            code, timeout=timeout, output_hook=lambda message: None
        )
        return reply["content"]["status"]
    except (RuntimeError, TimeoutError):
        return "dead"
    finally:
        client.stop_channels()


@pytest.mark.timeout(150)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kills", KILLS)
async def test_a_notebook_goes_on_after_its_kernel_was_killed(tmp_path, kills):
    """The same cell in a new kernel; the frame is whole and in order at the end."""
    with FakeLLMProcess() as fake:
        write_project(tmp_path, fake, ROWS)
        for rows in [*random_rows(ROWS, kills), None]:
            manager = AsyncKernelManager(kernel_name="python3")
            await manager.start_kernel(cwd=str(tmp_path), env=environment())
            cell = asyncio.create_task(run_cell(manager, CELL, timeout=90))
            if rows is None:
                assert await cell == "ok"
                await manager.shutdown_kernel(now=True)
                break
            goal = fake.stats()["requests_seen"] + rows
            while not cell.done() and fake.stats()["requests_seen"] < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            os.kill(manager.provisioner.process.pid, signal.SIGKILL)
            cell.cancel()
            await asyncio.wait({cell})
            await manager.shutdown_kernel(now=True)
        assert repeated(fake, ROWS) <= kills * WINDOW
    assert_whole(tmp_path / "out.csv", ROWS)
