"""The specification's workflows 3.2.4, 8.4, 8.5 and 8.6, run as files in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import aitoolman
from aitoolman import LLMScriptedClient, LLMWorkflow

from ..fake_llm import Call, Reply
from ..fake_process import FakeLLMProcess

PROJECT = Path(__file__).parent / "project" / "workflows"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def project(tmp_path):
    """The example project in a folder of its own."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=ignore))


@pytest.fixture
def run_example(project, run_script, fake_llm):
    """Run a program of ``src/`` in the project's folder and give the lines it prints."""

    def run(name, *arguments):
        env = {"VENDOR_URL": fake_llm.openai_url, "VENDOR_KEY": "sk-example"}
        done = run_script(project / "src" / name, *arguments, cwd=project, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


def example(name):
    """The program as a module."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "src" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_3_2_4_branches_by_tool_call(run_example, fake_llm):
    """The arguments of the call fill the next task's template."""
    fake_llm.script([Reply(tool_calls=[Call("refine", {"translation": "你好"})]), "您好"])
    assert run_example("translation.py") == ["refine 您好", "3"]
    assert fake_llm.requests[1].last_text == "Make this sound natural: 你好"


def test_8_4_runs_as_printed(run_example, fake_llm):
    """The data flows by name, then as a whole."""
    lines = run_example("data_pipeline.py")
    assert lines[0] == "Analysis report generated successfully:"
    assert "- Total Sales: 600" in lines
    assert "- Average Sales: 200.0" in lines


REVIEW = {
    "complete": {"status": "valid", "reason": ""},
    "Rate": {"risk_level": 3, "risk_details": "rumours"},
    "Approve": {"approved": False, "feedback": "name your sources"},
}


def judged(text, answers):
    return json.dumps(next(value for key, value in answers.items() if key in text))


@pytest.mark.parametrize(
    ("change", "last", "result", "asked"),
    [
        ({}, "RevisionTask", "'feedback': 'name your sources'", 3),
        ({"Approve": {"approved": True}}, "PublishTask", "'status': 'published'", 3),
        ({"Rate": {"risk_level": 0}}, "PublishTask", "'content': 'Article content", 2),
        ({"complete": {"status": "no", "reason": "too short"}}, "RejectionTask", "'too short'", 1),
    ],
)
def test_8_6_decides_step_by_step(run_example, fake_llm, change, last, result, asked):
    """Each answer leads to its own end."""
    fake_llm.script(lambda seen: judged(seen.last_text, REVIEW | change))
    status, output = run_example("content_review.py")
    assert status == f"Process completed, final status: {last}"
    assert result in output
    assert len(fake_llm.requests) == asked
    assert "a complete article?" in fake_llm.requests[0].last_text


def grow(folder, levels=6, files=300):
    """A folder tree, `levels` deep, with `files` text files in it."""
    folders = [folder]
    for level in range(levels):
        folder = folder / f"level{level}"
        folders += [folder, folder.with_name(f"side{level}")]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        path = folders[number % len(folders)] / f"file{number}.txt"
        path.write_text(f"text number {number}", encoding="utf-8")
    (folders[-1] / "picture.png").write_bytes(b"\x89PNG")
    return len(folders)


def test_8_5_analyzes_a_folder_tree(run_example, fake_llm, tmp_path):
    """300 files on 6 levels; each file is asked about once, each folder after what is in it."""
    folders = grow(tmp_path / "tree")

    def answer(seen):
        if "What is the folder" in seen.last_text:
            return "a folder of " + str(seen.last_text.count("\n- "))
        kind = "even" if int(seen.last_text.split()[-1]) % 2 == 0 else "odd"
        return json.dumps({"summary": "text", "kind": kind})

    fake_llm.script(answer)
    first, *kinds = run_example("folder_analysis.py", str(tmp_path / "tree"))
    assert kinds == ["even 150", "odd 150"]
    assert first == f"a folder of {300 // folders + 1 + 2}"
    assert len(fake_llm.requests) == 300 + folders
    assert run_example("folder_analysis.py", str(tmp_path / "tree")) == [first, *kinds]
    assert len(fake_llm.requests) == 300 + folders  # the ledger had every answer


@pytest.mark.timeout(60)
def test_8_5_killed_and_run_again_sends_only_what_was_unanswered(project, tmp_path):
    """SIGKILL in the middle; the second run asks for the rest and ends well."""
    folders = grow(tmp_path / "tree")
    with FakeLLMProcess() as server:
        server.script(Reply('{"summary": "text", "kind": "note"}', delay=0.02))
        env = {
            **os.environ,
            "VENDOR_URL": server.openai_url,
            "VENDOR_KEY": "sk-example",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "src/folder_analysis.py", str(tmp_path / "tree")]
        first = subprocess.Popen(command, cwd=project, env=env)
        server.wait_for(lambda stats: stats["requests_seen"] >= 120)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        before = Counter(_texts(server.requests()))
        done = subprocess.run(
            command, cwd=project, env=env, capture_output=True, text=True, timeout=40
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1:] == ["note 300"]
        asked = Counter(_texts(server.requests()))
    twice = [text for text, count in asked.items() if count > 1]
    assert set(asked.values()) <= {1, 2}
    assert len(asked) == 300 + folders
    # What was under way at the moment of the kill (max_parallel_tasks = 16) is all that was asked
    # again: 8 at the vendor, and answers on their way into the ledger, whose slots are free.
    assert len(twice) <= 16 < len(before) < 300


def _texts(requests):
    return [request["body"]["messages"][-1]["content"] for request in requests]


async def test_the_examples_can_be_stepped_unchanged(tmp_path):
    """Only the line in main differs."""
    prompts = aitoolman.load_config(PROJECT / "config" / "app_prompt.toml")

    pipeline = example("data_pipeline")
    workflow = LLMWorkflow(LLMScriptedClient("unused"), prompts)
    report = pipeline.ReportGenerationTask({"format": "markdown"})
    analysis = pipeline.DataAnalysisTask()
    workflow.add_task(pipeline.DataFetchTask({"query": "q"}), analysis)
    workflow.add_task(analysis, report)
    run = workflow.debug(report)
    assert [(await run.step()).task_name for _ in range(3)] == [
        "DataFetchTask", "DataAnalysisTask", "ReportGenerationTask",
    ]  # fmt: skip

    review = example("content_review")
    client = LLMScriptedClient(lambda request: judged(request.messages[-1].content, REVIEW))
    start = review.ContentSubmitTask({"content": "text", "type": "article"})
    run = LLMWorkflow(client, prompts).debug(start)
    assert isinstance(await run.until("AIAuditTask"), review.AIAuditTask)
    assert "Rate the risk" in run.peek().messages[-1].content
    fork = run.fork("ContentSubmitTask", output_data={"status": "no", "reason": "changed"})
    assert (await fork.finish()).output_data == {"status": "rejected", "reason": "changed"}
    assert (await run.finish()).task_name == "RevisionTask"
    assert len(client.requests) == 3

    folders = grow(tmp_path / "tree", levels=2, files=10)
    client = LLMScriptedClient('{"summary": "s", "kind": "k"}')
    root = example("folder_analysis").FolderTask({"path": tmp_path / "tree"})
    run = LLMWorkflow(client, prompts).debug(root)
    statuses = Counter()
    while run.ready:
        statuses[(await run.step()).status] += 1
    assert statuses == {"WAITING": folders, "COMPLETED": 10 + 10 + folders}
    assert root.output_data["kinds"] == {"k": 10}


@pytest.mark.model
@pytest.mark.timeout(180)
async def test_a_workflow_runs_on_the_embedded_model():
    """A function, a model's step and a function after it, stepped and forked."""
    prompts = {
        "module": {
            "describe": {
                "model": "Fast-Model",
                "template": {"user": "In one short sentence: what is {{ thing }}?"},
                "options": {"max_tokens": 200, "temperature": 0},
            }
        }
    }

    class Pick(aitoolman.Task):
        async def run(self, things):
            return {"thing": things[0]}

    class Describe(aitoolman.LLMTask):
        def __init__(self):
            super().__init__(aitoolman.LLMModuleRequest("describe", {}))

    class Count(aitoolman.Task):
        async def run(self, text):
            return len(text.split())

    async with aitoolman.connect("demo") as client:
        workflow = LLMWorkflow(client, prompts)
        pick, describe, count = Pick({"things": ["tea", "milk"]}), Describe(), Count()
        workflow.add_task(pick, describe)
        workflow.add_task(describe, count)
        run = workflow.debug(count)
        await run.until(Describe)
        assert run.peek().messages[-1].content == "In one short sentence: what is tea?"
        await run.finish()
        assert count.output_data > 2
        assert run.history[1].tokens > 10
        fork = run.fork("Pick", output_data={"thing": "milk"})
        await fork.finish()
        assert "milk" in fork.history.of(describe).calls[0].messages[-1]["content"]
        assert "✓ completed" in workflow.svg()
