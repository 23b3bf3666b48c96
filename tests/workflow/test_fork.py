"""Forks: another way to go on from a step, sharing what came before and repeating nothing."""

from __future__ import annotations

import pytest

from aitoolman import (
    LLMDirectRequest,
    LLMModuleRequest,
    LLMTask,
    LLMWorkflowError,
    Message,
    ScriptedReply,
    Task,
    TaskDependencyError,
)

from .flows import chain, does, flow, gives, sent
from .test_debug import Judge, Publish, Reject, Tree, names, pipeline

pytestmark = pytest.mark.usefixtures("nothing_left")


async def finished(replies="good"):
    """The pipeline run to its end, with the run that looks at it."""
    workflow, judge = pipeline(replies)
    await workflow.run(judge)
    return workflow.debug(judge)


async def test_a_fork_is_paused_before_its_step_and_shares_what_came_before():
    """It knows its parent; nothing was run or sent for it."""
    run = await finished()
    fork = run.fork("Judge")
    assert (fork.parent, names(fork.ready)) == (run, ["Judge"])
    assert list(fork.history) == [run.history[0]]
    assert fork.peek().input == {"text": "about tea"}
    assert sent(run.workflow) == ["about tea"]
    assert fork.workflow.context_id == f"{run.workflow.context_id}/1"


async def test_a_fork_runs_the_step_and_what_follows_and_nothing_else():
    """As the client saw it; the parent stays as it was."""
    run = await finished(["good", "bad"])
    fork = run.fork(2)
    assert (await fork.finish()).output_data == "rejected, so"
    assert sent(run.workflow) == ["about tea", "about tea"]
    assert names(run.workflow.tasks) == ["Fetch", "Judge", "Publish"]
    assert run.last_task.output_data == "published, so"
    assert [record.number for record in fork.history] == [1, 2, 3]


@pytest.mark.parametrize("by", ["number", "record", "task", "name", "id"])
async def test_a_step_can_be_named_in_five_ways(by):
    """All mean the same step."""
    run = await finished()
    record = run.history[1]
    task = run.workflow.tasks[1]
    which = {"number": 2, "record": record, "task": task, "name": "Judge", "id": task.task_id}[by]
    assert names(run.fork(which).ready) == ["Judge"]


async def test_an_edited_template_is_used():
    """Modules are live: the point of going back."""
    run = await finished()
    run.workflow.add_module("ask", {"model": "fast", "template": {"user": "NEW {{ text }}"}})
    fork = run.fork("Judge")
    assert fork.peek().messages[-1].content == "NEW about tea"
    await fork.finish()
    assert sent(run.workflow) == ["about tea", "NEW about tea"]


async def test_a_changed_input_wins_over_what_flows():
    """Arguments of a function; template parameters of a model's task; a whole request."""
    run = await finished()
    fork = run.fork("Fetch", input_data={"query": "coffee"})
    await fork.finish()
    fork = run.fork("Judge", input_data={"text": "given"})
    await fork.finish()
    request = LLMDirectRequest("fast", [Message("user", "whole")])
    await run.fork("Judge", input_data=request).finish()
    assert sent(run.workflow)[1:] == ["about coffee", "given", "whole"]
    assert (
        await run.fork("Publish", input_data={"why": "y"}).finish()
    ).output_data == "published, y"
    assert sent(run.workflow)[4:] == []


async def test_a_changed_input_keeps_the_other_arguments():
    """Only what is given changes."""
    workflow, task = flow(), does(lambda a, b: (a, b), {"a": 1, "b": 2}, "pair")
    run = workflow.debug(task)
    await run.finish()
    assert (await run.fork(task, input_data={"b": 3}).finish()).output_data == (1, 3)


async def test_a_given_output_stands_in_for_running_the_step():
    """The function does not run; those after it get what was given."""
    runs = []
    workflow = flow()
    first, second = does(lambda: runs.append(1), name="first"), does(lambda x: x, name="second")
    chain(workflow, first, second)
    run = workflow.debug(second)
    await run.finish()
    fork = run.fork(first, output_data={"x": 9})
    assert "its output is {'x': 9}" in fork.peek().note
    record = await fork.step()
    assert (record.output, record.calls) == ({"x": 9}, ())
    assert (await fork.finish()).output_data == 9
    assert runs == [1]


async def test_a_given_answer_lets_the_task_choose_again():
    """`post_process` sees the data; nothing is sent."""
    run = await finished()
    fork = run.fork("Judge", output_data="bad")
    assert (await fork.finish()).output_data == "rejected, so"
    assert isinstance(fork.last_task, Reject)
    assert sent(run.workflow) == ["about tea"]


async def test_a_given_output_keeps_the_choice_of_a_plain_task():
    """It chose its next task in code that does not run again."""

    class Choose(Task):
        async def run(self):
            self.next_task = Publish({"why": "chosen"})
            return 1

    run = flow().debug(Choose())
    await run.finish()
    fork = run.fork("Choose", output_data=2)
    assert (await fork.step()).next_name == "Publish"
    assert (await fork.finish()).output_data == "published, chosen"
    assert [record.output for record in fork.history] == [2, "published, chosen"]


async def test_none_can_be_given_as_output():
    """None is a value."""
    run = await finished()
    assert (await run.fork("Fetch", output_data=None).step()).output is None


async def test_another_task_can_take_the_step_s_place():
    """It gets what the old one got, and those after it wait for it."""
    workflow, end = flow(), does(lambda x: x, name="end")
    first, middle = gives({"text": "t"}, "first"), does(lambda text: {"x": text}, name="middle")
    chain(workflow, first, middle, end)
    run = workflow.debug(end)
    await run.finish()
    loud = does(lambda text: {"x": text.upper()}, name="loud")
    fork = run.fork(middle, task=loud)
    assert names(fork.ready) == ["loud"]
    assert (await fork.finish()).output_data == "T"
    assert end.output_data == "t"


async def test_branches_beside_the_step_are_shared():
    """Only what comes after the step runs again."""
    runs = []

    def note(name):
        return does(lambda **_: runs.append(name), name=name)

    workflow = flow()
    top, left, right, end = note("top"), note("left"), note("right"), note("end")
    for parent, child in [(top, left), (top, right), (left, end), (right, end)]:
        workflow.add_task(parent, child)
    run = workflow.debug(end)
    await run.finish()
    runs.clear()
    fork = run.fork("left")
    assert names(fork.ready) == ["left"]
    await fork.finish()
    assert runs == ["left", "end"]
    assert [record.task_name for record in fork.history] == ["top", "right", "left", "end"]


async def test_outputs_are_shared_as_they_were():
    """A later step that changed an earlier output does not reach into the fork."""
    workflow, first = flow(), gives({"items": [1]}, "first")
    second = does(lambda items: items.append(2) or list(items), name="second")
    chain(workflow, first, second)
    run = workflow.debug(second)
    await run.finish()
    assert (await run.fork(second).finish()).output_data == [1, 2]
    assert run.history[0].output == {"items": [1]}


async def test_what_cannot_be_copied_is_shared_as_it_is():
    """A lock, a connection: the very object."""
    import threading

    lock = threading.Lock()
    workflow, first, second = flow(), gives({"x": lock}, "first"), does(lambda x: x, name="second")
    chain(workflow, first, second)
    run = workflow.debug(second)
    await run.finish()
    assert (await run.fork(second).finish()).output_data is lock


async def test_failed_tasks_run_again_in_a_fork():
    """A fork of a failed run goes on where it failed; what had succeeded is shared."""
    workflow, judge = pipeline([ScriptedReply(error_text="busy"), "good"])
    with pytest.raises(TaskDependencyError):
        await workflow.run(judge)
    run = workflow.debug(judge)
    fork = run.fork(judge)
    assert names(fork.ready) == ["Judge"]
    assert (await fork.finish()).output_data == "published, so"
    assert len(sent(workflow)) == 2


async def test_a_run_that_is_half_way_can_be_forked():
    """Before a step that is done, and before one that is not."""
    workflow, judge = pipeline()
    run = workflow.debug(judge)
    await run.step()
    for step in ("Fetch", "Judge"):
        fork = run.fork(step)
        assert names(fork.ready) == [step]
        assert (await fork.finish()).output_data == "published, so"
    assert names(run.ready) == ["Judge"]


async def test_forks_can_be_forked():
    """Each knows its parent, and steps keep their ids."""
    run = await finished()
    one = run.fork("Judge", output_data="bad")
    await one.finish()
    two = one.fork("Reject", input_data={"why": "third"})
    assert (await two.finish()).output_data == "rejected, third"
    three = two.fork("Fetch", input_data={"query": "cake"})
    assert three.parent.parent.parent is run
    await three.finish()
    assert three.history.of(run.workflow.tasks[0]).output == {"text": "about cake"}


async def test_inside_of_a_waiting_task_a_fork_starts_at_the_outermost():
    """Its functions run again; nothing is left half-way."""
    workflow = flow()
    run = workflow.debug(Tree({"depth": 2}))
    await run.finish()
    inner = next(r for r in run.history if r.input["name"] == "root/0/1")
    fork = run.fork(inner)
    assert [task.input_data["name"] for task in fork.ready if "name" in task.input_data] == []
    assert names(fork.ready) == ["Tree"]
    assert len(fork.history) == 0
    await fork.finish()
    assert len(fork.history) == 7


async def test_a_change_inside_of_a_waiting_task_is_refused():
    """The step will be made anew; the message says which task to change."""
    run = flow().debug(Tree({"depth": 1}))
    await run.finish()
    inner = run.history[0]
    with pytest.raises(LLMWorkflowError, match=r"made anew by Tree\("):
        run.fork(inner, input_data={"depth": 0})


async def test_a_task_added_but_not_waited_for_can_be_repeated_alone():
    """Nobody's code depends on it."""
    workflow, end = flow(), does(lambda x: x, name="end")

    async def planner():
        workflow = planning.workflow
        workflow.add_task(does(lambda: {"x": len(runs)}, name="late"), end)
        runs.append(1)

    runs = []
    planning = does(planner, name="planning")
    workflow.add_task(planning, end)
    run = workflow.debug(end)
    await run.finish()
    fork = run.fork("late")
    assert names(fork.ready) == ["late"]
    assert (await fork.finish()).output_data == 1
    assert runs == [1]


async def test_sample_numbers_go_on_as_before_the_step():
    """Repeated requests find the same answers in a ledger, in the fork as in the parent."""

    def asks():
        return LLMTask(LLMModuleRequest("ask", {"text": "same"}))

    workflow = flow()
    tasks = [asks() for _ in range(3)]
    chain(workflow, *tasks)
    run = workflow.debug(tasks[-1])
    await run.finish()
    await run.fork(tasks[1]).finish()
    samples = [request.call.sample for request in workflow.client.requests]
    assert samples == [0, 1, 2, 1, 2]


async def test_sample_numbers_of_parallel_branches_stay_apart():
    """The repeated branch gets its own number again, not its neighbour's."""
    workflow = flow()
    tasks = [LLMTask(LLMModuleRequest("ask", {"text": "same"})) for _ in range(3)]
    run = workflow.debug(*tasks)
    await run.finish()
    await run.fork(tasks[1]).finish()
    assert [request.call.sample for request in workflow.client.requests] == [0, 1, 2, 1]


async def test_tasks_in_attributes_are_those_of_the_fork():
    """References between tasks lead to the twins; preset next tasks run apart in each run."""

    class Reads(Task):
        def __init__(self, source, after):
            super().__init__({})
            self.sources = [source]
            self.next_task = after

        async def run(self):
            return self.sources[0].output_data

    workflow = flow()
    source, after = gives(1, "source"), does(lambda: "end", name="after")
    reads = Reads(source, after)
    workflow.add_task(source, reads)
    run = workflow.debug(reads)
    await run.finish()
    fork = run.fork(source, output_data=2)
    await fork.finish()
    assert fork.task(reads).output_data == 2
    assert fork.task(reads).sources == [fork.task(source)]
    assert fork.last_task is not after
    assert (run.last_task, fork.last_task.output_data) == (after, "end")


async def test_attributes_are_as_they_were_before_the_step():
    """What a task wrote into itself while it ran is not there when it runs again."""

    class Counts(Task):
        def __init__(self):
            super().__init__({"items": [1, 2]})
            self.runs = []

        async def run(self, items):
            self.runs.append(items.pop())
            return list(self.runs)

    task = Counts()
    run = flow().debug(task)
    await run.finish()
    assert (await run.fork(task).finish()).output_data == [2]


@pytest.mark.parametrize(
    ("step", "change", "message"),
    [
        ("Jugde", {}, "'Jugde' is no step of this run; did you mean 'Judge'"),
        (99, {}, "there is no step 99; 3 have ended"),
        (2.5, {}, "a step is a record"),
        ("Judge", {"output_data": 1, "input_data": {}}, "change nothing else"),
        ("Judge", {"task": Judge}, ""),
    ],
)
async def test_a_fork_that_makes_no_sense_is_refused(step, change, message):
    """Each says why."""
    run = await finished()
    if "task" in change:
        change, message = {"task": run.last_task}, "has run or belongs to a workflow; clone"
    with pytest.raises(LLMWorkflowError, match=message):
        run.fork(step, **change)


async def test_a_name_of_several_tasks_is_ambiguous():
    """The message lists their ids."""
    run = flow().debug(Tree({"depth": 1}))
    await run.finish()
    with pytest.raises(LLMWorkflowError, match="names several tasks; say which"):
        run.fork("Tree")


async def test_processors_channels_and_vars_are_shared():
    """The fork is the same application in all but its tasks."""
    run = await finished()
    run.workflow.vars["text"] = "var"
    fork = run.fork("Judge").workflow
    assert fork.channels is run.workflow.channels
    assert fork.vars is run.workflow.vars
    assert type(fork) is type(run.workflow)
