"""Batches in a real kernel: interrupt, Stop, and what stays in the cell."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from jupyter_client.manager import AsyncKernelManager

from ..fake_process import FakeLLMProcess
from .killing import environment, write_project

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]

SETUP = """
import aitoolman
client = aitoolman.connect("llm.toml")
app = aitoolman.LLMApplication(client, aitoolman.load_config("prompts.toml"))
plan = await app["ask"].plan([f"row {n}" for n in range(300)])
"""


class Kernel:
    """A kernel that runs cells and gathers what they show."""

    def __init__(self, manager, client):
        self.manager = manager
        self._client = client

    async def run(self, code):
        """Status, printed text, and the displays in their last state."""
        printed, shown = [], {}

        def take(message):
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown[content.get("transient", {}).get("display_id")] = content["data"]

        reply = await self._client.execute_interactive(code, timeout=40, output_hook=take)
        return reply["content"], "".join(printed).strip(), list(shown.values())


@contextlib.asynccontextmanager
async def kernel_in(folder, **variables):
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(cwd=str(folder), env={**environment(), **variables})
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


@contextlib.asynccontextmanager
async def running_cell(kernel, fake, code, rows):
    """A cell that is under way, and has got so far."""
    goal = fake.stats()["requests_seen"] + rows
    cell = asyncio.create_task(kernel.run(code))
    while fake.stats()["requests_seen"] < goal and not cell.done():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield cell


async def test_an_interrupted_cell_keeps_its_part_and_runs_on_again(tmp_path):
    """The cell fails, so that Run All stops; the requests end; the next run continues."""
    with FakeLLMProcess("--delay", "0.02") as fake:
        write_project(tmp_path, fake, 1)
        async with kernel_in(tmp_path) as kernel:
            assert (await kernel.run(SETUP))[0]["status"] == "ok"
            async with running_cell(kernel, fake, "await plan.run()", 40) as cell:
                await kernel.manager.interrupt_kernel()
                assert (await cell)[0]["status"] == "error"
            fake.wait_for(lambda stats: stats["open_requests"] == 0, timeout=1)
            _, counts, _ = await kernel.run("print(plan.batch.summary()['answered'])")
            assert 0 < int(counts) < 300
            content, printed, _ = await kernel.run("print((await plan.run()).complete)")
            assert (content["status"], printed) == ("ok", "True")
        assert fake.stats()["requests_seen"] <= 330


async def test_the_cell_shows_a_bar_and_keeps_one_line_of_text(tmp_path):
    """The widget goes; the text needs no kernel."""
    with FakeLLMProcess("--delay", "0.005") as fake:
        write_project(tmp_path, fake, 1)
        async with kernel_in(tmp_path) as kernel:
            await kernel.run(SETUP)
            _, _, shown = await kernel.run("batch = await plan.run()")
            (data,) = shown
            assert list(data) == ["text/plain"]
            assert data["text/plain"].startswith("300 of 300 rows in ")
            content, _, shown = await kernel.run("batch")
    assert content["status"] == "ok"


async def test_the_stop_button_returns_the_partial_batch(tmp_path):
    """Pressed while the cell runs, as a click that reaches the kernel."""
    code = """
import asyncio, ipywidgets
async def press():
    while plan.batch.summary()["answered"] < 50:
        await asyncio.sleep(0.01)
    widgets = ipywidgets.widgets.widget._instances.values()
    (button,) = [widget for widget in widgets if isinstance(widget, ipywidgets.Button)]
    button.click()
pressing = asyncio.create_task(press())
batch = await plan.run()
await pressing
print(batch.complete, batch is plan.batch, 50 <= batch.summary()["answered"] < 300)
"""
    with FakeLLMProcess("--delay", "0.02") as fake:
        write_project(tmp_path, fake, 1)
        async with kernel_in(tmp_path) as kernel:
            await kernel.run(SETUP)
            content, printed, shown = await kernel.run(code)
            assert (content["status"], printed) == ("ok", "False True True")
            assert shown[0]["text/plain"].startswith("stopped.")
            fake.wait_for(lambda stats: stats["open_requests"] == 0, timeout=1)


async def test_without_ipywidgets_there_is_a_line_that_is_drawn_anew(tmp_path):
    """No error, and the same text at the end."""
    (tmp_path / "ipywidgets.py").write_text("raise ImportError('not here')\n")
    with FakeLLMProcess("--delay", "0.02") as fake:
        write_project(tmp_path, fake, 1)
        async with kernel_in(tmp_path) as kernel:
            await kernel.run(SETUP)
            content, _, shown = await kernel.run("batch = await plan.run()")
    assert content["status"] == "ok"
    assert shown[0]["text/plain"].startswith("300 of 300 rows in ")


async def test_the_synchronous_twin_works_in_a_cell(tmp_path):
    """The loop of the kernel is left alone."""
    with FakeLLMProcess() as fake:
        write_project(tmp_path, fake, 1)
        async with kernel_in(tmp_path) as kernel:
            await kernel.run(SETUP)
            content, printed, shown = await kernel.run("print(plan.sync.run().complete)")
    assert (content["status"], printed) == ("ok", "True")
    assert shown[0]["text/plain"].startswith("300 of 300 rows in ")
