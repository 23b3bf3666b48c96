"""Examples 3.2.4, 8.4, 8.5 and 8.6 with the one line changed that makes the client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from ..examples.test_workflow_examples import PROJECT, ROOT, grow
from ..fake_llm import Reply
from .served import rerun, served_project

LEFT_OUT = [
    # its vendor is another one; see below
    "test_8_5_killed_and_run_again_sends_only_what_was_unanswered",
    # scripted clients, in process
    "test_the_examples_can_be_stepped_unchanged",
    "test_a_workflow_runs_on_the_embedded_model",
]

globals().update(rerun("tests.examples.test_workflow_examples", LEFT_OUT))
project = served_project(PROJECT)


@pytest.mark.timeout(60)
def test_8_5_killed_sends_only_what_was_unanswered(project, fake_llm, tmp_path):
    """Killed and run again, the program has its own ledger's answers, and asks for the others."""
    folders = grow(tmp_path / "tree")
    fake_llm.script(lambda seen: Reply('{"summary": "text", "kind": "note"}', delay=0.02))
    command = [sys.executable, "src/folder_analysis.py", str(tmp_path / "tree")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, cwd=project, env=env)
    fake_llm.wait_for(lambda fake: fake.requests_seen >= 120, timeout=30)
    first.kill()
    first.wait(10)
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["note 300"]
    asked = Counter(seen.last_text for seen in fake_llm.requests)
    assert len(asked) == 300 + folders
    # What the program had under way (max_parallel_tasks = 16), the server still finished.
    assert sum(count - 1 for count in asked.values()) <= 16
