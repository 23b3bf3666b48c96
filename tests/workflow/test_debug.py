"""Stepping: one task at a time, seen before and after, interrupted without harm."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aitoolman import (
    LLMModuleRequest,
    LLMTask,
    LLMWorkflowError,
    Task,
    TaskDependencyError,
    TaskStatus,
)

from .flows import chain, does, flow, gives, sent, until

pytestmark = pytest.mark.usefixtures("nothing_left")


class Fetch(Task):
    async def run(self, query):
        return {"text": f"about {query}"}


class Judge(LLMTask):
    def __init__(self):
        super().__init__(LLMModuleRequest("ask", {}))

    async def post_process(self, module_result):
        self.next_task = (Publish if module_result.data == "good" else Reject)({"why": "so"})


class Publish(Task):
    async def run(self, why):
        return f"published, {why}"


class Reject(Task):
    async def run(self, why):
        return f"rejected, {why}"


class Tree(Task):
    """Waits for two tasks below it, then asks the model."""

    async def run(self, depth, name="root"):
        below = [Tree({"depth": depth - 1, "name": f"{name}/{i}"}) for i in range(2 * bool(depth))]
        if below:
            await self.workflow.wait_tasks(*below)
        answer = await self.workflow["ask"](text=name)
        return [answer.data, *(task.output_data for task in below)]


def pipeline(replies="good"):
    """A workflow whose DAG leads to a judge, which chooses what follows."""
    workflow, fetch, judge = flow(replies), Fetch({"query": "tea"}), Judge()
    workflow.add_task(fetch, judge)
    return workflow, judge


def names(tasks):
    return [task.task_name for task in tasks]


async def test_nothing_runs_before_the_first_step():
    """`debug` needs no loop either, and shows what is ready."""
    workflow, judge = pipeline()
    run = await asyncio.to_thread(workflow.debug, judge)
    assert names(run.ready) == ["Fetch"]
    assert len(run.history) == 0


async def test_a_step_runs_one_task_and_gives_its_record():
    """The model is asked in its own step, and not before."""
    workflow, judge = pipeline()
    run = workflow.debug(judge)
    record = await run.step()
    assert (record.task_name, record.output) == ("Fetch", {"text": "about tea"})
    assert sent(workflow) == []
    record = await run.step()
    assert (record.output, record.next_name, record.why) == ("good", "Publish", "next_task")
    assert sent(workflow) == ["about tea"]
    assert names(run.ready) == ["Publish"]
    assert not run.done
    assert (await run.step()).output == "published, so"
    assert run.done
    assert run.last_task.output_data == "published, so"


async def test_peek_shows_the_exact_messages_and_sends_nothing():
    """What the client gets then is what was shown, byte for byte."""
    workflow, judge = pipeline()
    run = workflow.debug(judge)
    assert run.peek().input == {"query": "tea"}
    await run.step()
    peek = run.peek()
    assert sent(workflow) == []
    assert (peek.task_name, peek.model_name, peek.input) == ("Judge", "fast", {"text": "about tea"})
    await run.step()
    assert workflow.client.requests[0].messages == peek.messages
    await run.finish()
    assert run.peek() is None


async def test_peek_tells_why_a_task_would_fail():
    """Its input does not fit."""
    workflow, child = flow(), does(lambda x: x, name="child")
    workflow.add_task(gives({"x": 1}), child)
    workflow.add_task(gives({"x": 2}), child)
    run = workflow.debug(child)
    await run.step()
    await run.step()
    assert "'x' comes from both" in run.peek().error
    assert (await run.step()).status == "FAILED"


async def test_until_stops_before_a_name_a_class_a_task_or_a_condition():
    """The next task is the one that was asked for, not yet run."""
    for stop in ("Judge", Judge, lambda task: isinstance(task, LLMTask)):
        workflow, judge = pipeline()
        run = workflow.debug(judge)
        assert await run.until(stop) is judge
        assert sent(workflow) == []
        assert await run.until(stop) is judge
    assert isinstance(await run.until("Publish"), Publish)
    assert await run.until("Nowhere") is None
    assert run.done


async def test_a_ready_task_can_be_chosen_by_name_class_or_itself():
    """The order is in the developer's hands."""
    workflow = flow()
    a, b, c = gives(1, "a"), Fetch({"query": 1}), gives(3, "c")
    run = workflow.debug(a, b, c)
    for choice in ("c", Fetch, a):
        await run.step(choice)
    assert [record.task_name for record in run.history] == ["c", "Fetch", "a"]


async def test_a_task_that_is_not_ready_is_refused_with_what_is():
    """The message helps."""
    workflow, judge = pipeline()
    run = workflow.debug(judge)
    with pytest.raises(LLMWorkflowError, match="'Fecth' is not ready; did you mean 'Fetch'"):
        await run.step("Fecth")
    await run.finish()
    with pytest.raises(LLMWorkflowError, match="the run has ended"):
        await run.step()


async def test_a_step_ends_where_its_task_waits_for_others():
    """They are ready then; going on is a step of its own."""
    workflow = flow("ok", max_parallel_tasks=1)
    run = workflow.debug(Tree({"depth": 1}))
    record = await run.step()
    assert (record.status, record.ended, len(record.waits_for)) == ("WAITING", None, 2)
    assert [t.input_data["name"] for t in run.ready] == ["root/0", "root/1"]
    await run.step()
    await run.step()
    assert sent(workflow) == ["root/0", "root/1"]
    assert run.peek().note.startswith("goes on")
    record = await run.step()
    assert (record.number, record.output) == (1, ["ok", ["ok"], ["ok"]])
    assert [record.number for record in run.history] == [2, 3, 1]


async def test_a_failing_step_is_a_record_and_finish_raises():
    """Looking at a failure is what stepping is for."""
    workflow, bad, after = flow(), does(lambda: 1 / 0, name="bad"), does(lambda x: x)
    chain(workflow, bad, after)
    run = workflow.debug(after)
    record = await run.step()
    assert (record.status, record.error) == ("FAILED", "ZeroDivisionError: division by zero")
    with pytest.raises(LLMWorkflowError, match=r"bad\(.*failed; fork"):
        await run.step()
    with pytest.raises(TaskDependencyError, match="ZeroDivisionError"):
        await run.finish()


async def test_finish_runs_the_rest_from_anywhere():
    """Half-way, inside of waiting tasks, at the end."""
    for steps in (0, 1, 2, 5):
        workflow = flow()
        run = workflow.debug(Tree({"depth": 2}))
        for _ in range(steps):
            await run.step()
        assert (await run.finish()).output_data[0] == "ok"
        assert len(sent(workflow)) == 7
        await run.finish()
        assert len(sent(workflow)) == 7


async def test_the_same_program_gives_the_same_as_a_free_run():
    """Only the line in main differs."""
    workflow, judge = pipeline()
    free = await workflow.run(judge)
    workflow, judge = pipeline()
    stepped = await workflow.debug(judge).finish()
    assert free.output_data == stepped.output_data


async def test_a_cancelled_step_is_taken_back_and_can_be_done_again():
    """The request has ended; the task is ready as it was."""
    gate = asyncio.Event()

    async def answer(request):
        await gate.wait()
        return "good"

    workflow, judge = pipeline(answer)
    run = workflow.debug(judge)
    await run.step()
    step = asyncio.create_task(run.step())
    await until(lambda: sent(workflow))
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert workflow.client.requests[0].is_cancelled
    assert run.ready == [judge]
    assert judge.status is TaskStatus.WAITING
    assert run.history[-1].error == "CancelledError"
    gate.set()
    assert (await run.step()).output == "good"
    assert [request.call.sample for request in workflow.client.requests] == [0, 0]


async def test_an_interrupted_finish_pauses_the_run_where_it_was():
    """What worked is ready again; what waited still waits, and nothing is lost."""
    gate = asyncio.Event()

    async def answer(request):
        if request.messages[-1].content == "root/1":
            await gate.wait()
        return "ok"

    workflow = flow(answer)
    run = workflow.debug(Tree({"depth": 1}))
    finishing = asyncio.create_task(run.finish())
    await until(lambda: "root/1" in sent(workflow) and run.history)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert [task.input_data.get("name") for task in run.ready] == ["root/1"]
    gate.set()
    await run.step()
    assert (await run.step()).output == ["ok", ["ok"], ["ok"]]
    assert sent(workflow) == ["root/0", "root/1", "root/1", "root"]


async def test_attributes_changed_by_an_interrupted_step_are_restored():
    """The task is as it was before it ran."""

    class Keeps(Task):
        def __init__(self):
            super().__init__({"items": [1]})
            self.seen = []

        async def run(self, items):
            self.seen.append(1)
            self.extra = items.pop()
            await asyncio.Event().wait()

    task = Keeps()
    run = flow().debug(task)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(run.step(), 0.01)
    assert (task.seen, task.input_data, hasattr(task, "extra")) == ([], {"items": [1]}, False)
    await run.close()


async def test_timeouts_inside_of_tasks_stand_still_while_stepping():
    """A person's thinking time is not the program's."""
    workflow = flow()

    async def root():
        below = gives(1)
        await workflow.wait_tasks(below, timeout=0.001)
        return below.output_data

    run = workflow.debug(does(root))
    await run.step()
    await asyncio.sleep(0.005)
    await run.step()
    assert (await run.step()).output == 1


async def test_steps_of_two_tasks_can_overlap():
    """Each ends by itself."""
    barrier = asyncio.Barrier(2)
    run = flow().debug(does(barrier.wait, name="a"), does(barrier.wait, name="b"))
    records = await asyncio.gather(run.step("a"), run.step("b"))
    assert [record.status for record in records] == ["COMPLETED", "COMPLETED"]


async def test_a_plain_wait_beside_a_stepped_run_is_free():
    """Stepping holds back what runs for the run alone."""
    workflow, shared = flow(), gives(1)
    run = workflow.debug(shared, gives(2, "held"))
    await workflow.wait_tasks(shared)
    assert names(run.ready) == ["held"]


async def test_closing_ends_what_waits():
    """As a context manager, too; a closed run refuses to go on."""
    workflow = flow()
    async with workflow.debug(Tree({"depth": 2})) as run:
        await run.step()
        await run.step()
    with pytest.raises(LLMWorkflowError, match="closed; fork"):
        await run.step()
    await run.close()
    assert {record.error for record in run.history} == {"CancelledError"}


async def test_a_run_that_is_dropped_leaves_nothing(caplog):
    """No asyncio task stays, and no destroyed one is complained about."""
    run = flow().debug(Tree({"depth": 2}))
    await run.step()
    await run.step()
    del run
    gc.collect()
    await asyncio.sleep(0.001)
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert caplog.text == ""


def test_stepping_without_awaiting():
    """`.sync` has the same names."""
    workflow = flow("good")
    run = workflow.debug(Tree({"depth": 1})).sync
    assert run.step().status == "WAITING"
    assert run.peek().input["name"] == "root/0"
    assert run.finish().output_data == ["good", ["good"], ["good"]]
    run.close()


async def test_stepping_needs_a_history_and_tasks():
    """The messages say what to do."""
    with pytest.raises(LLMWorkflowError, match="history=True"):
        flow(history=False).debug(gives(1))
    with pytest.raises(LLMWorkflowError, match=r"give debug\(\) the tasks"):
        flow().debug()


async def test_calls_of_any_application_in_a_task_belong_to_its_step():
    """A module of the parent application is recorded and numbered, too."""
    import aitoolman

    client = aitoolman.LLMScriptedClient("ok")
    app = aitoolman.LLMApplication(
        client, {"module": {"m": {"model": "x", "template": {"user": "q"}}}}
    )

    async def twice():
        await app["m"]()
        await asyncio.gather(app["m"](), app["m"]())

    workflow = app.workflow()
    record = await workflow.debug(does(twice)).step()
    assert sorted(call.sample for call in record.calls) == [0, 1, 2]
    assert record.calls[0].messages == [{"role": "user", "content": "q"}]
    await app["m"]()
    assert len(workflow.history[0].calls) == 3


async def test_a_step_shows_its_output_where_it_is_another_than_the_answer():
    """What a model said is shown once; what was made of it, below."""

    class Louder(LLMTask):
        async def post_process(self, result):
            self.output_data = result.text.upper()

    ask = LLMModuleRequest("ask", {"text": "x"})
    record = await flow("said").debug(LLMTask(ask)).step()
    assert "output:" not in str(record)
    record = await flow("said").debug(Louder(ask)).step()
    assert "answer: said\noutput: SAID" in str(record)


async def test_text_of_runs_steps_and_peeks():
    """Honest plain text, and HTML in which nothing of the data is markup."""
    workflow = flow("<b>")
    run = workflow.debug(LLMTask(LLMModuleRequest("ask", {"text": "<script>"})))
    assert repr(run) == "DebugRun(0 steps, next: LLMTask)"
    peek = run.peek()
    assert "would send: [user] <script>" in str(peek)
    record = await run.step()
    assert repr(record) == "StepRecord(1, 'LLMTask', COMPLETED)"
    assert "answer: <b>" in str(record)
    for shown in (peek, record, run, run.history, workflow):
        html = shown._repr_html_()
        assert "<script>" not in html
        assert "<b>" not in html
    assert repr(run) == "DebugRun(1 steps, ended)"
