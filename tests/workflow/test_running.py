"""Workflows: tasks in sequence and as a DAG, started when asked for, settled in order."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import threading

import pytest

import aitoolman
from aitoolman import (
    LLMDirectRequest,
    LLMModuleRequest,
    LLMTask,
    LLMWorkflowError,
    Message,
    ScriptedReply,
    Task,
    TaskDependencyError,
    TaskStatus,
)
from aitoolman._datamodel import ToolCall

from .flows import chain, does, flow, gives, sent, until

pytestmark = pytest.mark.usefixtures("nothing_left")


class Count(Task):
    """A sequence that counts down."""

    async def run(self, n):
        if n:
            self.next_task = Count({"n": n - 1})
        return n


class Ask(LLMTask):
    def __init__(self, text="hi"):
        super().__init__(LLMModuleRequest("ask", {"text": text}))


# Sequences


async def test_run_follows_next_task_and_returns_the_last():
    """`run` goes on as long as a task names a next one."""
    last = await flow().run(Count({"n": 3}))
    assert (last.output_data, last.status) == (0, TaskStatus.COMPLETED)


async def test_a_sequence_of_ten_thousand_steps_needs_no_deep_stack():
    """Sequences are a loop, not a recursion."""
    last = await flow(history=False).run(Count({"n": 10_000}))
    assert last.output_data == 0


async def test_a_next_task_gets_only_its_own_input():
    """In sequence nothing flows but what the code hands on."""
    first, second = gives({"x": 1}), does(lambda x=0: x)
    first.next_task = second
    assert (await flow().run(first)).output_data == 0


async def test_a_task_after_a_sequence_waits_for_its_end():
    """A chain stands in the place of the task that began it, and gives its last output."""
    workflow, end = flow(), does(lambda value: value)
    start = Count({"n": 5})
    workflow.add_task(start, end)
    await workflow.wait_tasks(end)
    assert end.output_data == 0
    assert start.output_data == 5


async def test_a_child_can_also_be_the_next_task():
    """An edge and `next_task` between the same two tasks don't wait for each other."""
    workflow = flow()
    first, second = gives({"x": 7}, "first"), does(lambda x: x + 1, name="second")
    other = does(lambda value: value, name="other")
    workflow.add_task(first, second)
    workflow.add_task(first, other)
    first.next_task = second
    assert await workflow.run(first) is second
    await workflow.wait_tasks(other)
    assert (second.output_data, other.output_data) == (8, 8)


async def test_a_finished_task_does_not_run_again():
    """Waiting for it again returns at once."""
    runs = []
    workflow, task = flow(), does(lambda: runs.append(1))
    await workflow.wait_tasks(task)
    assert await workflow.run(task) is task
    await workflow.wait_tasks(task, task)
    assert runs == [1]


async def test_choosing_a_task_that_has_run_fails_and_names_it():
    """A task runs once."""
    task = gives(1)
    task.next_task = task
    with pytest.raises(TaskDependencyError, match=r"already started.*clone"):
        await flow().run(task)


# DAGs


async def test_nothing_runs_that_nobody_waits_for():
    """Adding starts nothing, and waiting runs only what is needed."""
    workflow, a, b, c = flow(), gives(1), does(lambda x: x), gives(3)
    workflow.add_task(a, b)
    workflow.add_task(c)
    await workflow.wait_tasks(a)
    assert [t.status.name for t in (a, b, c)] == ["COMPLETED", "WAITING", "WAITING"]


async def test_ready_tasks_start_in_the_order_they_were_added():
    """Among equals the order is the program's."""
    order = []
    workflow = flow(max_parallel_tasks=1)
    tasks = [does(lambda i: order.append(i), {"i": i}) for i in range(20)]
    end = does(lambda **_: None)
    for task in tasks:
        workflow.add_task(task, end)
    await workflow.wait_tasks(end)
    assert order == list(range(20))


async def test_independent_tasks_run_at_the_same_time():
    """Two tasks can meet."""
    barrier = asyncio.Barrier(2)
    await flow().wait_tasks(does(barrier.wait), does(barrier.wait))


async def test_an_edge_from_a_finished_task_and_the_same_edge_twice_are_fine():
    """Both change nothing for the worse."""
    workflow, a, b = flow(), gives(4), does(lambda x: x)
    await workflow.wait_tasks(a)
    workflow.add_task(a, b)
    workflow.add_task(a, b)
    await workflow.wait_tasks(b)
    workflow.add_task(a, b)
    assert b.output_data == 4
    assert workflow.parents(b) == [a]


async def test_a_cycle_is_refused_at_once_and_named():
    """So is a task before itself; nothing has changed."""
    workflow, a, b, c = flow(), gives(1, "A"), does(lambda x: x, name="B"), gives(1, "C")
    chain(workflow, a, b, c)
    with pytest.raises(LLMWorkflowError, match=r"cycle: A\(.*-> B\(.*-> C\(.*-> A\("):
        workflow.add_task(c, a)
    with pytest.raises(LLMWorkflowError, match="before itself"):
        workflow.add_task(a, a)
    assert workflow.parents(a) == []


async def test_an_edge_into_a_task_that_ran_is_refused():
    """The message names the task."""
    workflow, a = flow(), gives(1, "Early")
    await workflow.wait_tasks(a)
    with pytest.raises(LLMWorkflowError, match=r"Early\(.*has already started"):
        workflow.add_task(gives(2), a)


async def test_a_task_belongs_to_one_workflow():
    """Adding, waiting and drawing edges elsewhere are refused, naming it."""
    one, other, task = flow(), flow(), gives(1, "Mine")
    one.add_task(task)
    for call in (lambda: other.add_task(task), lambda: other.add_task(gives(1), task)):
        with pytest.raises(LLMWorkflowError, match=r"Mine\(.*another workflow; clone"):
            call()
    with pytest.raises(LLMWorkflowError, match="another workflow"):
        await other.wait_tasks(task)
    await other.wait_tasks(task.clone())


async def test_the_constructor_can_add_the_task():
    """`Task(..., workflow)` is `add_task`."""
    workflow = flow()
    task = Task(None, workflow)
    assert workflow.tasks == [task]
    assert (task.workflow, task.status) == (workflow, TaskStatus.WAITING)


async def test_tasks_that_compare_by_value_are_tasks_of_their_own():
    """A dataclass can be a task; two equal ones are two."""

    @dataclasses.dataclass
    class Double(Task):
        x: int

        def __post_init__(self):
            super().__init__({})

        async def run(self):
            return 2 * self.x

    workflow = flow()
    one, other = Double(4), Double(4)
    workflow.add_task(one, other)
    await workflow.debug(other).finish()
    assert (one.output_data, other.output_data, len(workflow.tasks)) == (8, 8, 2)
    fork = workflow.debug(other).fork(one)
    assert (await fork.finish()).output_data == 8


async def test_only_tasks_can_be_added():
    """Anything else is named by its type."""
    with pytest.raises(LLMWorkflowError, match="not a str"):
        flow().add_task("fetch")


async def test_an_edge_added_while_running_is_waited_for():
    """A task that is already waited for also waits for a parent that comes later."""
    workflow, end = flow(), does(lambda first, second: (first, second))

    async def first():
        workflow.add_task(does(lambda: {"second": 2}), end)
        return {"first": 1}

    workflow.add_task(does(first), end)
    await workflow.wait_tasks(end)
    assert end.output_data == (1, 2)


# Tasks that wait


class Tree(Task):
    """Adds two tasks below it, to a depth."""

    async def run(self, depth):
        below = [Tree({"depth": depth - 1}) for _ in range(2)] if depth else []
        await self.workflow.wait_tasks(*below)
        return 1 + sum(task.output_data for task in below)


@pytest.mark.parametrize("limit", [1, 2, 3, None])
async def test_recursion_never_deadlocks_and_the_bound_holds(limit):
    """`max_parallel_tasks` bounds work, not waiting."""
    busy, most = 0, 0

    class Working(Task):
        async def work(self):
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1

        async def run(self, depth):
            await self.work()
            below = [Working({"depth": depth - 1}) for _ in range(3)] if depth else []
            await self.workflow.wait_tasks(*below)
            await self.work()
            return 1 + sum(task.output_data for task in below)

    root = Working({"depth": 4})
    await flow(max_parallel_tasks=limit).wait_tasks(root)
    assert root.output_data == 121
    assert most == limit if limit else most > 3


async def test_a_thousand_nested_waits_run_in_one_slot():
    """Depth costs no stack and no slot."""

    class Deep(Task):
        async def run(self, n):
            if n:
                below = Deep({"n": n - 1})
                await self.workflow.wait_tasks(below)
                return below.output_data
            return "bottom"

    assert (await flow(max_parallel_tasks=1).run(Deep({"n": 1000}))).output_data == "bottom"


async def test_subtasks_of_one_task_can_wait_for_several_things_at_once():
    """The slot comes back once, however many of them waited; in one slot nothing deadlocks."""
    busy, most = 0, 0

    def leaf():
        return gives(1)

    class Gathering(Task):
        async def wait(self, times):
            nonlocal busy, most
            for _ in range(times):
                await self.workflow.wait_tasks(leaf())
                await asyncio.sleep(0)

        async def run(self):
            nonlocal busy, most
            await asyncio.gather(*(self.wait(n) for n in (1, 3, 2)))
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1

    await flow(max_parallel_tasks=1).wait_tasks(*(Gathering() for _ in range(5)))
    assert most == 1


async def test_waiting_for_itself_is_refused_and_named():
    """Directly, and through a task after it."""
    workflow = flow()
    seen = []

    async def selfish():
        for target in (me, after):
            with pytest.raises(LLMWorkflowError, match="wait for itself"):
                await workflow.wait_tasks(target)
            seen.append(target)

    me, after = does(selfish), does(lambda _: None)
    workflow.add_task(me, after)
    await workflow.wait_tasks(me)
    assert seen == [me, after]


async def test_two_tasks_that_wait_for_each_other_are_refused():
    """The second wait closes the circle and fails."""
    workflow = flow()
    one = does(lambda: workflow.wait_tasks(other), name="one")
    other = does(lambda: workflow.wait_tasks(one), name="other")
    with pytest.raises(TaskDependencyError, match="wait for itself"):
        await workflow.wait_tasks(one)


async def test_a_task_can_wait_in_another_workflow():
    """The inner workflow may even wait for the outer one's tasks, in one slot each."""
    outer, inner = flow(max_parallel_tasks=1), flow(max_parallel_tasks=1)
    leaf = gives("leaf")
    middle = does(lambda: outer.wait_tasks(leaf))
    await outer.wait_tasks(does(lambda: inner.wait_tasks(middle)))
    assert leaf.output_data == "leaf"


async def test_after_a_timeout_of_its_own_wait_a_task_holds_a_slot_again():
    """A task that goes on after TimeoutError counts as working."""
    workflow = flow(max_parallel_tasks=1)
    busy, most = 0, 0

    async def impatient():
        nonlocal busy, most
        with pytest.raises(asyncio.TimeoutError):
            await workflow.wait_tasks(does(asyncio.Event().wait), timeout=0.001)
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1

    await workflow.wait_tasks(*(does(impatient) for _ in range(4)))
    assert most == 1


async def test_context_variables_reach_tasks_from_whoever_waits():
    """A task sees the context of the wait that it runs for, not that of another task."""
    from contextvars import ContextVar

    who = ContextVar("who", default="nobody")

    def first():
        who.set("first")
        return {}

    workflow, a, b = flow(), does(first), does(lambda: who.get())
    workflow.add_task(a, b)
    who.set("caller")
    await workflow.wait_tasks(b)
    assert b.output_data == "caller"


# Failures


async def test_a_failure_reaches_those_after_it_and_others_go_on():
    """Dependents never start; an independent branch ends well in the same wait."""
    workflow = flow()
    bad, after, later = does(lambda: 1 / 0, name="bad"), does(lambda x: x), does(lambda x: x)
    good = does(lambda: asyncio.sleep(0.001, "fine"))
    chain(workflow, bad, after, later)
    with pytest.raises(TaskDependencyError) as caught:
        await workflow.wait_tasks(later, good)
    assert [t.status.name for t in (bad, after, later, good)] == [
        "FAILED",
        "DEPENDENCY_FAILED",
        "DEPENDENCY_FAILED",
        "COMPLETED",
    ]
    assert caught.value.failed_tasks == [bad]
    assert caught.value.__cause__ is bad.error


async def test_all_failures_are_told_with_their_causes():
    """Several causes come as a group, and the message names each task."""
    workflow, end = flow(), does(lambda **_: None)
    tasks = [does(lambda: [][0], name="index"), does(lambda: {}["k"], name="key")]
    for task in tasks:
        workflow.add_task(task, end)
    with pytest.raises(
        TaskDependencyError, match=r"2 tasks failed: index \(.*key \(.*'k'"
    ) as caught:
        await workflow.wait_tasks(end)
    assert caught.value.failed_tasks == tasks
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(caught.value.__cause__.exceptions) == 2


async def test_a_failure_inside_a_waiting_task_is_told_with_the_innermost_cause():
    """The chain of waits loses no task that failed."""
    workflow, bad = flow(), does(lambda: 1 / 0, name="inner")
    outer = does(lambda: workflow.wait_tasks(bad), name="outer")
    with pytest.raises(TaskDependencyError, match="ZeroDivisionError") as caught:
        await workflow.run(outer)
    assert caught.value.failed_tasks == [bad, outer]


async def test_a_task_may_handle_the_failure_of_what_it_waits_for():
    """`wait_tasks` raises in the task's code, which may go on."""
    workflow, bad = flow(), does(lambda: 1 / 0)

    async def careful():
        with pytest.raises(TaskDependencyError):
            await workflow.wait_tasks(bad)
        return bad.status

    task = does(careful)
    await workflow.wait_tasks(task)
    assert task.output_data is TaskStatus.FAILED


async def test_an_edge_from_a_failed_task_fails_the_child_at_once():
    """It can never run."""
    workflow, bad, child = flow(), does(lambda: 1 / 0), does(lambda x: x)
    with pytest.raises(TaskDependencyError):
        await workflow.wait_tasks(bad)
    workflow.add_task(bad, child)
    assert child.status is TaskStatus.DEPENDENCY_FAILED
    with pytest.raises(TaskDependencyError):
        await workflow.wait_tasks(child)


async def test_the_error_survives_pickling_with_its_tasks():
    """A process pool can hand it on; the tasks stand alone then."""
    workflow = flow()
    bad = Count({"n": "three"})
    with pytest.raises(TaskDependencyError) as caught:
        await workflow.run(bad)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value)
    assert copied.failed_tasks[0].status is TaskStatus.FAILED
    assert copied.failed_tasks[0].workflow is None
    with pytest.raises(LLMWorkflowError, match=r"copy of a task that has run; clone\(\)"):
        await workflow.run(copied.failed_tasks[0])


async def test_a_task_without_anything_to_run_says_so():
    """The plain Task has no run."""
    with pytest.raises(TaskDependencyError, match=r"override run\(\) or call set_func"):
        await flow().run(Task())


# Timeout, cancel


async def test_a_timeout_cancels_what_runs_for_this_wait_alone():
    """What somebody else waits for goes on; what never started stays waiting."""
    workflow, gate = flow(), asyncio.Event()
    shared, mine = does(gate.wait, name="shared"), does(asyncio.Event().wait, name="mine")
    after = does(lambda x: x)
    workflow.add_task(mine, after)
    other = asyncio.create_task(workflow.wait_tasks(shared))
    with pytest.raises(asyncio.TimeoutError):
        await workflow.wait_tasks(shared, after, timeout=0.01)
    assert mine.status is TaskStatus.FAILED
    assert isinstance(mine.error, asyncio.CancelledError)
    assert shared.status is TaskStatus.RUNNING
    gate.set()
    await other
    assert shared.status is TaskStatus.COMPLETED


async def test_a_timeout_reaches_into_nested_waits():
    """Everything below ends before the error is raised."""
    workflow, ended = flow(), []

    async def leaf():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    class Nested(Task):
        async def run(self, n):
            await self.workflow.wait_tasks(Nested({"n": n - 1}) if n else does(leaf))

    with pytest.raises(asyncio.TimeoutError):
        await workflow.wait_tasks(Nested({"n": 5}), timeout=0.01)
    assert ended == [True]
    assert {task.status for task in workflow.tasks} == {TaskStatus.FAILED}


async def test_a_task_cancelled_before_its_first_step_can_run_later():
    """It is as if it had never been asked for."""
    workflow, task = flow(max_parallel_tasks=1), does(lambda x: x)

    def parent():
        waiting.cancel()  # takes effect right after this task has ended and launched the next
        return 5

    workflow.add_task(does(parent), task)
    waiting = asyncio.create_task(workflow.wait_tasks(task))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.status is TaskStatus.WAITING
    await workflow.wait_tasks(task)
    assert task.output_data == 5


async def test_a_task_that_swallows_its_cancellation_is_seen_to_its_end():
    """The wait returns when nothing of it runs any more."""
    workflow = flow()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return "done anyway"

    task = does(stubborn)
    with pytest.raises(asyncio.TimeoutError):
        await workflow.wait_tasks(task, timeout=0.01)
    assert (task.status, task.output_data) == (TaskStatus.COMPLETED, "done anyway")


async def test_cancelling_the_wait_ends_the_model_s_call():
    """The client is told."""
    never = asyncio.Event()

    async def answer(request):
        await never.wait()

    workflow = flow(answer)
    waiting = asyncio.create_task(workflow.run(Ask()))
    await until(lambda: sent(workflow))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert workflow.client.requests[0].is_cancelled


async def test_an_interrupt_in_a_task_settles_it():
    """KeyboardInterrupt passes through the loop; a later wait does not hang."""
    workflow = flow()

    def interrupt():
        raise KeyboardInterrupt

    task = does(interrupt)

    def run_loop():
        loop = asyncio.new_event_loop()
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(workflow.wait_tasks(task))
            for left in asyncio.all_tasks(loop):
                left.cancel()
                loop.run_until_complete(asyncio.wait([left]))
        finally:
            loop.close()

    await asyncio.to_thread(run_loop)
    assert task.status is TaskStatus.FAILED
    with pytest.raises(TaskDependencyError, match="KeyboardInterrupt"):
        await workflow.wait_tasks(task)


async def test_a_workflow_runs_on_one_loop_at_a_time():
    """While tasks run, a wait on another loop is refused; afterwards it is fine."""
    workflow, gate = flow(), asyncio.Event()
    waiting = asyncio.create_task(workflow.wait_tasks(does(gate.wait)))
    await asyncio.sleep(0.001)
    with pytest.raises(LLMWorkflowError, match="another event loop"):
        await asyncio.to_thread(workflow.sync.wait_tasks, gives(1))
    gate.set()
    await waiting
    await asyncio.to_thread(workflow.sync.wait_tasks, gives(1))


async def test_a_sync_task_may_add_and_wait_from_its_worker_thread():
    """On the background loop plain functions run in threads, and may use `.sync` there."""
    workflow, threads = flow(max_parallel_tasks=1), []

    def leaf():
        threads.append(threading.current_thread())
        return 2

    def root():
        below = does(leaf)
        workflow.add_task(below)
        workflow.sync.wait_tasks(below)
        return below.output_data + 1

    last = await asyncio.to_thread(workflow.sync.run, does(root))
    assert last.output_data == 3
    assert threads[0] is not threading.current_thread()


async def test_a_broken_observer_breaks_nothing(caplog):
    """It is logged, and the workflow goes on."""

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("no")

    workflow = flow()
    stop = workflow.observe(Broken())
    await workflow.wait_tasks(gives(1))
    assert "observer of the workflow failed" in caplog.text
    stop()


# LLM tasks


async def test_an_llm_task_s_output_is_the_data_of_its_answer():
    """And `module_result` is the whole result."""
    task = await flow("hello").run(Ask())
    assert task.output_data == "hello"
    assert task.module_result.response_text == "hello"


async def test_post_process_may_set_the_output():
    """Sync or async, what it leaves in `output_data` counts."""

    class Shout(Ask):
        def post_process(self, module_result):
            self.output_data = module_result.text.upper()

    assert (await flow("hello").run(Shout())).output_data == "HELLO"


async def test_a_bad_status_fails_the_task_with_its_error():
    """The error carries the result."""
    workflow = flow(ScriptedReply("cut", finish_reason="length"))
    task = Ask()
    with pytest.raises(TaskDependencyError):
        await workflow.run(task)
    assert isinstance(task.error, aitoolman.LLMLengthLimitError)
    assert task.module_result.response_text == "cut"


async def test_a_direct_request_is_sent_as_it_stands():
    """No module is needed."""
    workflow = flow("yes")
    request = LLMDirectRequest("fast", [Message("user", "Really?")])
    assert (await workflow.run(LLMTask(request))).output_data == "yes"
    assert sent(workflow) == ["Really?"]


async def test_an_llm_task_without_a_request_says_so():
    """The message says what to give."""
    with pytest.raises(TaskDependencyError, match="give it an LLMModuleRequest"):
        await flow().run(LLMTask())


def calls(name, **arguments):
    import json

    text = json.dumps(arguments)
    return ScriptedReply(tool_calls=[ToolCall(name, text, arguments, "c1")])


async def test_a_tool_call_chooses_the_next_task():
    """Its arguments become the input, its name the task's, and the rest is skipped."""
    went_on = []

    class Refine(Task):
        async def run(self, style, level=1):
            return style, level

    class Start(Ask):
        async def post_process(self, module_result):
            self.on_tool_call_goto(refine=Refine, finish=Task)
            went_on.append(True)

    workflow = flow([calls("refine", style="dry"), "no call"])
    last = await workflow.run(Start())
    assert (last.output_data, last.task_name) == (("dry", 1), "refine")
    assert went_on == []
    assert workflow.history[0].why == "tool call refine"
    await workflow.run(Start())
    assert went_on == [True]


async def test_a_tool_call_s_arguments_fill_the_template_of_an_llm_task():
    """They are added to the template parameters."""

    class Start(Ask):
        async def post_process(self, module_result):
            self.on_tool_call_goto(go=lambda: LLMTask(LLMModuleRequest("both", {"a": 1})))

    workflow = flow([calls("go", b=2), "end"])
    await workflow.run(Start())
    assert sent(workflow) == ["hi", "1 and 2"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (calls("unheard"), "called 'unheard', but no task is given"),
        (ScriptedReply(tool_calls=[ToolCall("go", "{no", None, "c")]), "are no JSON object: {no"),
    ],
)
async def test_a_tool_call_that_leads_nowhere_fails_the_task(reply, message):
    """The message names the tool or shows its arguments."""

    class Start(Ask):
        async def post_process(self, module_result):
            self.on_tool_call_goto(go=Task)

    with pytest.raises(TaskDependencyError, match=message):
        await flow(reply).run(Start())


async def test_tool_results_go_back_in_a_clone_of_the_task():
    """The dialogue goes on until the model calls no tool."""

    class Talk(Ask):
        async def post_process(self, module_result):
            await self.run_tool_calls(weather=lambda city: f"sun in {city}")
            self.output_data = f"final: {module_result.text}"

    workflow = flow([calls("weather", city="Oslo"), "It is sunny."])
    last = await workflow.run(Talk())
    assert last.output_data == "final: It is sunny."
    assert type(last) is Talk
    assert [m.role for m in workflow.client.requests[1].messages] == ["user", "assistant", "tool"]
    assert workflow.client.requests[1].messages[-1].content == "sun in Oslo"


async def test_a_clone_is_fresh_whatever_the_constructor_wants():
    """Same input and function, new id, no output, next task or workflow."""

    class Odd(Task):
        def __init__(self, left, right):
            super().__init__({"value": left + right})

        async def run(self, value):
            self.next_task = gives(1)
            return value

    odd = Odd(1, 2)
    await flow().run(odd)
    twin = odd.clone()
    assert twin.input_data == {"value": 3}
    assert (twin.status, twin.output_data, twin.next_task, twin.workflow, twin.error) == (
        TaskStatus.INIT, None, None, None, None,
    )  # fmt: skip
    assert twin.task_id != odd.task_id
    assert (await flow().run(twin)).output_data == 1


async def test_identical_requests_of_one_workflow_ask_for_samples_in_turn():
    """A run repeated with a ledger finds the same answers; other requests count apart."""
    workflow = flow()
    for text in ("a", "a", "b", "a"):
        await workflow.run(Ask(text))
    assert [request.call.sample for request in workflow.client.requests] == [0, 1, 0, 2]
    await flow().run(Ask("a"))


async def test_app_workflow_shares_client_modules_and_vars():
    """Modules are live, and the context is below the application's."""
    client = aitoolman.LLMScriptedClient("ok")
    app = aitoolman.LLMApplication(client, {})
    workflow = app.workflow(max_parallel_tasks=2)
    app.add_module("late", {"model": "fast", "template": {"user": "{{ greeting }}"}})
    app.vars["greeting"] = "Moin"
    await workflow.run(LLMTask(LLMModuleRequest("late", {})))
    assert sent(workflow) == ["Moin"]
    assert client.requests[0].context_id == f"{app.context_id}/1"


async def test_reprs_are_short():
    """They name what people look for, and no data."""
    workflow, task = flow(), gives("x" * 1000, "Fetch")
    workflow.add_task(task)
    assert repr(workflow).endswith(", 1 task)")
    assert repr(task) == f"Fetch({task.task_id}, WAITING)"


def test_a_bound_below_one_is_refused():
    """It could never run anything."""
    with pytest.raises(ValueError, match="at least 1"):
        flow(max_parallel_tasks=0)
