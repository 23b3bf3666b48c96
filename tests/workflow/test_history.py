"""The record of a workflow: complete, immutable, saved and loaded without executing anything."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import gc
import json
import math
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman import (
    LLMModuleRequest,
    LLMTask,
    ScriptedReply,
    Task,
    TaskDependencyError,
)
from aitoolman._workflow.history import WorkflowHistory
from aitoolman._workflow.jsonable import from_json, to_json
from aitoolman._workflow.snapshots import Unsaved, duplicate, snapshot
from aitoolman._workflow.steps import StepRecord

from .flows import chain, does, flow, gives


async def recorded():
    """A small workflow that has run, with a model's call, a choice and an output."""
    reply = ScriptedReply("yes", prompt_tokens=3, completion_tokens=2, cost=0.5)
    workflow = flow(reply)
    ask = LLMTask(LLMModuleRequest("ask", {}))
    ask.next_task = does(lambda: (1, {2}), name="last")
    workflow.add_task(gives({"text": "hé"}, "first"), ask)
    await workflow.run(ask)
    return workflow


async def test_a_step_tells_all_there_is_to_know():
    """Input, messages, result, tokens, cost, output, choice, times, places."""
    workflow = await recorded()
    first, ask, last = workflow.history
    assert (ask.number, ask.task_name, ask.status) == (2, "LLMTask", "COMPLETED")
    assert ask.input == {"text": "hé"}
    assert ask.calls[0].messages == [{"role": "user", "content": "hé"}]
    assert (ask.calls[0].text, ask.calls[0].model_name, ask.calls[0].module_name) == (
        "yes", "fast", "ask",
    )  # fmt: skip
    assert (ask.tokens, ask.cost, ask.output) == (5, 0.5, "yes")
    assert (ask.next_task, ask.next_name, ask.why) == (last.task_id, "last", "next_task")
    assert ask.parents == (first.task_id,)
    assert first.started <= ask.started <= ask.ended <= last.ended
    assert ask.seconds >= 0
    assert (first.tokens, first.cost, first.calls) == (None, None, ())


async def test_records_do_not_change_when_values_do():
    """Inputs and outputs are copies, and so is what a record gives."""
    data = {"items": [1]}
    workflow, task = flow(), does(lambda items: items, data)
    await workflow.run(task)
    task.output_data.append(2)
    data["items"].append(3)
    record = workflow.history[0]
    assert (record.input, record.output) == ({"items": [1]}, [1])
    record.output.append(4)
    record.input["items"].clear()
    assert (record.input, record.output) == ({"items": [1]}, [1])
    with pytest.raises(AttributeError):
        record.output = 1


async def test_failures_and_those_after_them_are_recorded():
    """With the error's text; what never started has no times."""
    workflow, after = flow(), does(lambda x: x, name="after")
    chain(workflow, does(lambda: 1 / 0, name="bad"), after)
    with pytest.raises(TaskDependencyError):
        await workflow.wait_tasks(after)
    bad, skipped = workflow.history
    assert (bad.status, bad.error) == ("FAILED", "ZeroDivisionError: division by zero")
    assert (skipped.status, skipped.started, skipped.input) == ("DEPENDENCY_FAILED", None, None)


async def test_it_knows_who_added_whom():
    """`inside` is the task whose code added it; what is chosen stands beside who chose it."""

    class Outer(Task):
        async def run(self):
            inner = gives(1, "inner")
            inner.next_task = gives(2, "chosen")
            await self.workflow.wait_tasks(inner)
            self.next_task = gives(3, "after")

    workflow = flow()
    await workflow.run(Outer())
    by_name = {record.task_name: record for record in workflow.history}
    outer = by_name["Outer"].task_id
    inside = {name: record.inside for name, record in by_name.items()}
    assert inside == {"inner": outer, "chosen": outer, "Outer": None, "after": None}


async def test_the_table_also_shows_what_runs():
    """As a sequence the history has only what has ended."""
    import asyncio

    workflow, gate = flow(), asyncio.Event()
    changes = []
    workflow.history.on_change.append(lambda: changes.append(len(workflow.history)))
    waiting = asyncio.create_task(workflow.wait_tasks(does(gate.wait, name="slow")))
    await asyncio.sleep(0.001)
    assert len(workflow.history) == 0
    assert "slow" in repr(workflow.history)
    assert "RUNNING" in workflow.history._repr_html_()
    gate.set()
    await waiting
    assert "COMPLETED" in repr(workflow.history)
    assert changes == [0, 0, 1]


async def test_tables_and_frames():
    """One row per step, with tokens and cost summed."""
    pd = pytest.importorskip("pandas")
    history = (await recorded()).history
    frame = history.frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["task_name"]) == ["first", "LLMTask", "last"]
    assert frame["tokens"][1] == 5
    assert repr(WorkflowHistory()) == "no steps"
    assert repr(history).splitlines()[0].split()[:3] == ["step", "task", "status"]
    assert len(history[1:]) == 2


# Files


async def test_a_saved_history_reads_the_same(tmp_path):
    """All fields come back, and saving again gives the same bytes."""
    history = (await recorded()).history
    history.save(tmp_path / "run.json")
    loaded = WorkflowHistory.load(tmp_path / "run.json")
    assert list(loaded) == list(history)
    assert [type(record) for record in loaded] == [StepRecord] * 3
    assert loaded[2].output == (1, {2})
    assert loaded.to_json() == history.to_json()
    assert repr(loaded) == repr(history)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: object


async def test_what_json_has_no_word_for_is_marked():
    """The type and its repr; dataclasses and named tuples are dicts of their fields."""
    values = [Colour.RED, datetime.date(2025, 1, 2), Point(1, threading.Lock()), 3 + 4j]
    workflow = flow()
    await workflow.run(gives(values))
    loaded = WorkflowHistory.from_json(workflow.history.to_json())[0].output
    assert loaded[0].text == repr(Colour.RED)
    assert loaded[1] == Unsaved("datetime.date", "datetime.date(2025, 1, 2)")
    assert loaded[2]["x"] == 1
    assert loaded[2]["y"].type == "_thread.lock"
    assert loaded[3].text == "(3+4j)"


class Bomb:
    def __repr__(self):
        raise RuntimeError("boom")

    def __deepcopy__(self, memo):
        raise RuntimeError("boom")


async def test_values_that_cannot_be_shown_do_not_break_the_table():
    """A huge number has no text; the row says so."""
    workflow = flow()
    await workflow.run(gives(10**6000))
    assert "no text: ValueError" in repr(workflow.history)
    assert "no text: ValueError" in str(workflow.history[0])


def test_a_value_that_defends_itself_is_marked():
    """No repr, no copy, no end: the record does not care."""
    circle = []
    circle.append(circle)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert snapshot(Bomb()).text == "<repr failed: RuntimeError>"
    assert snapshot({"a": Bomb(), "b": 1})["b"] == 1
    assert snapshot(circle)[0][0][0] is not circle
    assert json.dumps(to_json(snapshot(circle)))
    assert isinstance(snapshot(deep), Unsaved)
    assert duplicate(deep) is deep
    while deep:
        deep = deep.pop()


async def test_tasks_and_applications_in_outputs_are_not_copied():
    """They are marked: a record does not hold clients and sockets."""
    workflow = flow()
    task = does(lambda: {"task": Task(), "app": workflow})
    await workflow.run(task)
    output = workflow.history[0].output
    assert output["task"].type == "aitoolman._workflow.tasks.Task"
    assert output["app"].type == "aitoolman._workflow.workflow.LLMWorkflow"


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.text(alphabet=st.characters(categories=["Cs", "L"])), st.builds(lambda: 10**6000),
)  # fmt: skip
KEYS = st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.text()), st.just("$aitoolman"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner),
        st.sets(st.one_of(st.integers(), st.text())),
        st.frozensets(st.integers()),
    ),
    max_leaves=12,
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_plain_value_comes_back_from_json(value):
    """The same type and content, through the file's own encoding."""
    text = json.dumps(to_json(value), ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert same(from_json(json.loads(text)), value)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_a_snapshot_equals_the_value(value):
    """And shares no container with it."""
    assert same(snapshot(value), value)
    if isinstance(value, list | dict | set):
        assert snapshot(value) is not value


HOSTILE = [
    "", "null", "[]", "{}", "5", '"x"', "{", "[" * 100_000,
    '{"aitoolman": "workflow history"}',
    '{"aitoolman": "workflow history", "version": "1", "steps": []}',
    '{"aitoolman": "workflow history", "version": 99, "steps": []}',
    '{"aitoolman": "workflow history", "version": 1, "steps": 5}',
    '{"aitoolman": "workflow history", "version": 1, "steps": [5]}',
    '{"aitoolman": "workflow history", "version": 1, "steps": [{"number": 1}]}',
    '{"aitoolman": "other", "version": 1, "steps": []}',
    "1" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_a_value_error(text, tmp_path):
    """Whatever is wrong with it; the message names the file."""
    path = tmp_path / "evil.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"evil\.json"):
        WorkflowHistory.load(path)


async def _saved():
    return json.loads((await recorded()).history.to_json())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_broken_step_is_refused_or_can_be_shown(data):
    """Any value in any field: loading fails with ValueError, or table and picture work."""
    import asyncio

    content = asyncio.run(_saved())
    step = content["steps"][1]
    target = data.draw(st.sampled_from([step, step["calls"]["value"][0]]))
    marks = st.sampled_from(["repr", "float", "dict", "set", "tuple", "bytes", "text", "int", "os"])
    broken = st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.integers()),
        st.fixed_dictionaries(
            {"$aitoolman": marks, "value": st.one_of(st.text(), st.lists(st.lists(st.integers())))}
        ),
    )
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(broken)
    try:
        history = WorkflowHistory.from_json(json.dumps(content))
    except ValueError:
        return
    assert history.svg()
    assert history.mermaid()
    assert history._repr_html_()
    assert repr(history)
    assert history.dicts()
    for record in history:
        assert str(record)
        assert record._repr_html_()


# Memory


class Item(Task):
    async def run(self, n):
        self.payload = bytes(10_000)
        return bytes(10_000)


class Batch(Task):
    async def run(self, n):
        for _ in range(n):
            below = Item({"n": 1})
            await self.workflow.wait_tasks(below)


async def _grown(workflow, count):
    """Bytes that `count` tasks of each kind leave behind."""

    async def work(count):
        for _ in range(count):
            await workflow.run(Item({"n": 1}))
            last = Item({"n": 1})
            chain(workflow, Item({"n": 1}), does(lambda **_: {}), last)
            await workflow.wait_tasks(last)
        await workflow.run(Batch({"n": count}))

    await work(20)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await work(count)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before


async def test_without_a_history_memory_stays_flat():
    """Tasks that ended are let go, however long the workflow lives."""
    workflow = flow(history=False)
    assert await _grown(workflow, 150) < 300_000
    assert workflow.tasks == []
    assert len(workflow.history) == 0
    assert workflow.history.to_json()


async def test_without_a_history_finished_tasks_still_have_their_place():
    """An edge from one is fine, failures are told, nothing runs twice."""
    workflow, runs = flow(history=False), []
    first = does(lambda: runs.append(1) or {"x": 5}, name="first")
    await workflow.wait_tasks(first)
    child = does(lambda x: x)
    workflow.add_task(first, child)
    await workflow.wait_tasks(first, child)
    assert (child.output_data, runs) == (5, [1])
    bad, after = does(lambda: 1 / 0, name="bad"), does(lambda x: x)
    chain(workflow, bad, after)
    for _ in range(2):
        with pytest.raises(TaskDependencyError) as caught:
            await workflow.wait_tasks(after)
        assert caught.value.failed_tasks == [bad]


def test_the_table_of_a_long_record_is_short():
    """The last hundred steps, and how many came before."""
    import asyncio

    async def many():
        workflow = flow()
        await workflow.wait_tasks(*(gives(i) for i in range(250)))
        return workflow.history

    history = asyncio.run(many())
    lines = repr(history).splitlines()
    assert lines[0] == "the last 100 steps, after 150 earlier ones:"
    assert len(lines) == 102
    assert history._repr_html_().count("<tr>") == 101
