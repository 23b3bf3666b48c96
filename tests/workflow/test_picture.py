"""Pictures of workflows: layered, honest about statuses, escaped, the same every time."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import TaskDependencyError
from aitoolman._workflow.graph import graph_of, graph_of_steps
from aitoolman._workflow.history import WorkflowHistory
from aitoolman._workflow.layout import arrange

from .flows import chain, does, flow, gives
from .test_debug import Tree, pipeline

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    """All that a person reads in the picture."""
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg):
    """Corners of the boxes."""
    return [(float(r.get("x")), float(r.get("y"))) for r in ET.fromstring(svg).iter(f"{SVG}rect")]


async def test_a_picture_tells_names_statuses_durations_and_tokens():
    """In words and signs, not in colours alone."""
    workflow, judge = pipeline()
    await workflow.run(judge)
    shown = texts(workflow.svg())
    assert shown[:2] == ["Fetch", "✓ completed"]
    assert re.fullmatch(r"\d+ ms", shown[2])
    assert re.fullmatch(r"\d+ ms, \d+ tokens", shown[5])
    assert {"data", "next task"} <= set(shown)


async def test_every_status_has_a_word_of_its_own():
    """Also of what fails, waits, runs and has not begun."""
    workflow, after, late = flow(), does(lambda x: x, name="after"), gives(1, "late")
    chain(workflow, does(lambda: 1 / 0, name="bad"), after)
    workflow.add_task(late)
    with pytest.raises(TaskDependencyError):
        await workflow.wait_tasks(after)
    words = set(texts(workflow.svg()))
    assert {"✗ failed", "⊘ dependency failed", "○ not started"} <= words
    async with flow().debug(Tree({"depth": 1})) as run:
        await run.step()
        assert "… waits for tasks" in texts(run.svg())


async def test_no_two_boxes_overlap():
    """However the tasks are connected."""
    workflow = flow()
    tasks = [gives(i, f"t{i}") for i in range(40)]
    for i, task in enumerate(tasks):
        workflow.add_task(task)
        for j in {i // 2, i // 3, i - 1} - {i, -1}:
            workflow.add_task(tasks[j], task)
    corners = boxes(workflow.svg())
    assert len(corners) == 40
    for i, (x, y) in enumerate(corners):
        for other_x, other_y in corners[:i]:
            assert abs(x - other_x) >= 176 or abs(y - other_y) >= 58


async def test_above_sixty_tasks_there_is_one_box_per_name():
    """With how many there are, and how many have which status."""
    workflow = flow()
    await workflow.run(Tree({"depth": 6}))
    shown = texts(workflow.svg())
    assert shown[:2] == ["Tree \u00d7127", "✓ all completed"]
    assert len(boxes(workflow.svg())) == 1
    workflow.add_task(Tree({"depth": 0}))
    assert "✓ 127  ○ 1" in " ".join(texts(workflow.svg())).replace("○ 1  ✓ 127", "✓ 127  ○ 1")
    assert workflow.mermaid().count("[") == 1


async def test_names_are_text_and_never_markup():
    """In the picture and in Mermaid."""
    name = '<script>alert("1")</script>]-->'
    workflow = flow()
    workflow.add_task(gives(1, name))
    assert texts(workflow.svg())[0].startswith("<script>")
    assert "<script>" not in workflow.svg() + workflow.mermaid()
    assert "]--" not in workflow.mermaid()


async def test_mermaid_has_a_node_per_task_and_an_arrow_per_edge():
    """Data solid, next tasks dotted."""
    workflow, judge = pipeline()
    await workflow.run(judge)
    text = workflow.mermaid()
    assert text.startswith("flowchart TD\n")
    assert text.count('["') == 3
    assert "n0 --> n1" in text
    assert "n1 -.-> n2" in text


async def test_a_record_draws_the_same_graph_as_the_workflow():
    """So does one that was loaded from a file."""
    workflow = flow()
    await workflow.run(Tree({"depth": 2}))
    loaded = WorkflowHistory.from_json(workflow.history.to_json())
    live, read = graph_of(workflow), graph_of_steps(loaded)
    assert sorted(live.edges) == sorted(read.edges)
    assert {p.id: (p.name, p.tokens) for p in live.places} == {
        p.id: (p.name, p.tokens) for p in read.places
    }
    assert loaded.svg().startswith("<svg")


async def test_the_picture_is_the_same_every_time():
    """Nothing of it depends on memory addresses or random ids."""
    pictures = set()
    for _ in range(3):
        workflow = flow()
        tasks = [gives(i, f"t{i}") for i in range(12)]
        for i in range(11):
            workflow.add_task(tasks[i // 2], tasks[i + 1])
        pictures.add(workflow.svg())
    assert len(pictures) == 1


def test_an_empty_workflow_has_a_picture():
    """Before the first task."""
    ET.fromstring(flow().svg())
    assert flow().mermaid() == "flowchart TD\n"
    ET.fromstring(WorkflowHistory().svg())


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60))
def test_any_graph_can_be_laid_out(count, pairs):
    """Cycles included: no two spots are nearer than a box, and every edge has its route."""
    names = [f"n{i}" for i in range(count)]
    edges = list(dict.fromkeys((names[a % count], names[b % count]) for a, b in pairs))
    layout = arrange(names, edges)
    assert set(layout.spots) == set(names)
    for (start, end), route in layout.routes.items():
        assert (route[0], route[-1]) == (layout.spots[start], layout.spots[end])
        assert all(abs(a.layer - b.layer) == 1 for a, b in itertools.pairwise(route))
    spots = list(layout.spots.values())
    for i, one in enumerate(spots):
        for other in spots[:i]:
            assert one.layer != other.layer or abs(one.across - other.across) > 0.999
    assert all(0 <= s.across <= layout.breadth and 0 <= s.layer < layout.layers for s in spots)


def test_the_pictures_of_the_docs_are_up_to_date():
    """They are what the library draws; ``python -m tests.pictures`` draws them anew."""
    from ..pictures import FOLDER, drawn

    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("workflow-*")}
    assert committed == drawn()
