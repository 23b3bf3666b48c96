"""Workflows over real HTTP: what the vendor saw when they were cut, stepped and forked."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from aitoolman import (
    LLMModuleRequest,
    LLMTask,
    LLMWorkflow,
    Task,
    TaskDependencyError,
    WorkflowHistory,
    connect,
)

from ..fake_llm import Gate, Reply
from .flows import PROMPTS, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("nothing_left")


class Ask(LLMTask):
    def __init__(self, text):
        super().__init__(LLMModuleRequest("ask", {"text": text}))


class Fan(Task):
    """Waits for questions of its own."""

    async def run(self, texts):
        below = [Ask(text) for text in texts]
        await self.workflow.wait_tasks(*below)
        return [task.output_data for task in below]


@pytest.fixture
async def workflow(provider_config):
    async with connect(provider_config) as client:
        yield LLMWorkflow(client, PROMPTS)


@pytest.mark.parametrize("way", ["timeout", "cancel"])
async def test_cutting_a_wait_ends_its_requests_at_the_vendor(workflow, fake_llm, way):
    """Inside of nested waits too; nothing of them stays open."""
    fake_llm.script(lambda seen: Reply("never", gate=Gate()))
    fan = Fan({"texts": ["a", "b", "c"]})
    waiting = asyncio.create_task(
        workflow.wait_tasks(fan, timeout=0.5 if way == "timeout" else None)
    )
    await until(lambda: len(fake_llm.requests) == 3)
    if way == "cancel":
        waiting.cancel()
    with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
        await waiting
    await until(lambda: all(seen.closed_early for seen in fake_llm.requests))
    assert {task.status.name for task in workflow.tasks} == {"FAILED"}


async def test_a_timeout_ends_the_requests_of_this_wait_alone(workflow, fake_llm):
    """The other wait gets its answer."""
    gate = Gate()
    fake_llm.script(lambda seen: Reply("late", gate=gate))
    other, mine = Ask("other"), Ask("mine")
    waiting = asyncio.create_task(workflow.wait_tasks(other))
    await until(lambda: len(fake_llm.requests) == 1)
    with pytest.raises(asyncio.TimeoutError):
        await workflow.wait_tasks(mine, timeout=0.3)
    await until(lambda: any(seen.closed_early for seen in fake_llm.requests))
    gate.open()
    await waiting
    cut = {seen.last_text: seen.closed_early for seen in fake_llm.requests}
    assert cut == {"other": False, "mine": True}
    assert other.output_data == "late"


async def test_stepping_sends_one_request_at_a_time(workflow, fake_llm):
    """The vendor sees exactly what `peek` showed, when it is stepped and not before."""
    fake_llm.script(lambda seen: f"re: {seen.last_text}")
    run = workflow.debug(Fan({"texts": ["a", "b"]}))
    await run.step()
    assert fake_llm.requests == []
    for number, text in enumerate("ab", 1):
        shown = [{"role": m.role, "content": m.content} for m in run.peek().messages]
        await run.step()
        assert len(fake_llm.requests) == number
        assert fake_llm.requests[-1].messages == shown
        assert fake_llm.requests[-1].last_text == text
    assert (await run.step()).output == ["re: a", "re: b"]


async def test_an_interrupted_step_ends_its_request_and_can_be_repeated(workflow, fake_llm):
    """The vendor sees the first one closed, and a second one."""
    fake_llm.script([Reply("never", gate=Gate()), "answer"])
    run = workflow.debug(Ask("hello"))
    step = asyncio.create_task(run.step())
    await until(lambda: fake_llm.requests)
    step.cancel()
    await asyncio.wait([step])
    await until(lambda: fake_llm.requests[0].closed_early)
    assert (await run.step()).output == "answer"
    assert len(fake_llm.requests) == 2


async def test_a_vendor_s_failure_reaches_the_error(workflow, fake_llm):
    """The task's error is the call's, with the result attached."""
    fake_llm.script(Reply(status=400, error="no such thing"))
    with pytest.raises(TaskDependencyError, match="no such thing") as caught:
        await workflow.run(Ask("x"))
    assert caught.value.failed_tasks[0].error.result.exchange.status == 400
    assert workflow.history[0].calls[0].attempts[0]["status"] == 400


async def test_a_fork_with_a_ledger_asks_only_what_changed(provider_config, fake_llm, tmp_path):
    """Inside of a waiting task its functions run again, and answered questions cost nothing."""
    fake_llm.script(lambda seen: f"re: {seen.last_text}")
    table = {"mode": "read_write", "path": str(tmp_path / "ledger.db")}
    async with connect(provider_config, ledger=table) as client:
        workflow = LLMWorkflow(client, PROMPTS)
        run = workflow.debug(Fan({"texts": ["a", "a", "b"]}))
        await run.finish()
        assert len(fake_llm.requests) == 3
        same = run.fork(run.history[0])
        await same.finish()
        assert len(fake_llm.requests) == 3
        other = run.fork("Fan", input_data={"texts": ["a", "a", "c"]})
        assert (await other.finish()).output_data == ["re: a", "re: a", "re: c"]
        assert [seen.last_text for seen in fake_llm.requests] == ["a", "a", "b", "c"]
        assert other.history[0].calls[0].from_ledger


async def test_until_fork_save_and_load_as_the_vendor_saw_them(workflow, fake_llm, tmp_path):
    """The record of each request is what arrived, also after a trip through a file."""
    fake_llm.script(lambda seen: f"re: {seen.last_text}")
    first, second, third = Ask("one"), LLMTask(LLMModuleRequest("ask", {})), Ask("three")
    workflow.add_task(first, second)
    workflow.add_task(second, third)
    run = workflow.debug(third)
    assert await run.until(lambda task: task is third) is third
    assert [seen.last_text for seen in fake_llm.requests] == ["one", "re: one"]
    fork = run.fork(second, input_data={"text": "other"})
    await fork.finish()
    assert [seen.last_text for seen in fake_llm.requests[2:]] == ["other", "three"]
    fork.history.save(tmp_path / "run.json")
    loaded = WorkflowHistory.load(tmp_path / "run.json")
    recorded = [record.calls[0].messages for record in loaded]
    assert recorded == [fake_llm.requests[i].messages for i in (0, 2, 3)]


INTERRUPTED = """
import asyncio, sys
import aitoolman

class Ask(aitoolman.LLMTask):
    def __init__(self, text):
        super().__init__(aitoolman.LLMModuleRequest("ask", {"text": text}))

class Fan(aitoolman.Task):
    async def run(self):
        await self.workflow.wait_tasks(*(Ask(text) for text in "abc"))

config = {"api": {"fast": {"url": sys.argv[1], "model": "fast-1"}}}
prompts = {"module": {"ask": {"model": "fast", "template": {"user": "{{ text }}"}}}}

async def main():
    async with aitoolman.connect(config) as client:
        workflow = aitoolman.LLMWorkflow(client, prompts, max_parallel_tasks=2)
        if sys.argv[2] == "free":
            await workflow.run(Fan())
        else:
            await workflow.debug(Fan()).finish()

def waiting():
    client = aitoolman.connect(config)
    workflow = aitoolman.LLMWorkflow(client, prompts)
    run = workflow.debug(Fan())
    run.sync.step()
    try:
        run.sync.step()
    except KeyboardInterrupt:
        print(len(run.ready), [record.error for record in run.history])
    run.sync.close()
    client.sync.close()

if sys.argv[2] == "sync":
    waiting()
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["free", "stepped", "sync"])
async def test_ctrl_c_ends_the_requests_and_leaves_no_complaint(way, fake_llm, tmp_path):
    """A real SIGINT to a real process: one traceback of KeyboardInterrupt, nothing else."""
    fake_llm.script(lambda seen: Reply("never", gate=Gate()))
    script = tmp_path / "program.py"
    script.write_text(INTERRUPTED)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "dev", str(script), fake_llm.openai_url, way),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: len(fake_llm.requests) == 1 or process.returncode is not None)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    assert all(seen.closed_early for seen in fake_llm.requests)
    if way == "sync":
        assert out.decode().split("\n")[0] == "3 ['CancelledError']"
        assert "Traceback" not in err.decode()
    else:
        assert err.decode().rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in err.decode()
    assert "was destroyed" not in err.decode()
