"""The specification's programs 3.1.4, 8.2, 8.3 and 10.3, run as files in processes of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ..fake_llm import Reply

PROJECT = Path(__file__).parent / "project"


@pytest.fixture
def project(tmp_path):
    """The example project in a folder of its own."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=ignore))


@pytest.fixture
def run_example(project, run_script, fake_llm):
    """Run a program of ``src/`` in the project's folder and give what it prints."""

    def run(name):
        env = {"VENDOR_URL": fake_llm.openai_url, "VENDOR_KEY": "sk-example"}
        done = run_script(project / "src" / name, cwd=project, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


def test_3_1_4_calls_a_module_and_sends_a_direct_request(run_example, fake_llm):
    """Method 1 is post-processed, method 2 streams."""
    fake_llm.script(["Sure: <translation>你好</translation>", "Hi there"])
    assert run_example("first_calls.py").splitlines() == ["你好", "Hi there"]
    module, direct = fake_llm.requests
    assert module.last_text.startswith("Translate into zh.")
    assert module.last_text.endswith("\n\nHello")
    assert direct.messages == [{"role": "user", "content": "Hello"}]
    assert (module.stream, direct.stream) == (False, True)
    assert module.headers["authorization"] == "Bearer sk-example"


def test_8_2_edits_a_file_and_shows_the_answer_while_it_streams(run_example, fake_llm, project):
    """The code assistant writes what stands in the code block."""
    (project / "app.py").write_text("print(1/0)\n")
    (project / "utils.py").write_text("LIMIT = 3\n")
    expected = "try:\n    print(1/0)\nexcept ZeroDivisionError:\n    pass\n"
    answer = f"Here it is:\n```python\n{expected}```"
    fake_llm.script(Reply(answer, reasoning="A division by zero."))
    printed = run_example("code_assistant.py")
    assert (project / "app_modified.py").read_text() == expected
    assert printed.index("Reasoning Process") < printed.index("A division by zero.")
    assert printed.index("Code Output") < printed.index("except ZeroDivisionError:")
    prompt = fake_llm.requests[0].last_text
    assert "utils.py:\n```python\nLIMIT = 3\n" in prompt
    assert "print(1/0)" in prompt


def test_8_3_classifies_tickets_at_the_same_time(run_example, fake_llm):
    """Each ticket has an application of its own, and gets its own answer."""
    fake_llm.script(lambda seen: "login" if "login" in seen.last_text else "money, I think")
    assert run_example("ticket_classifier.py").splitlines() == [
        "Ticket 1: Technical Support > Access",
        "Ticket 2: Billing > Payment",
    ]
    assert {len(seen.messages) for seen in fake_llm.requests} == {18}


def test_10_3_tells_the_failures_apart(run_example, fake_llm):
    """Length, request and format each reach their own handler."""
    replies = {
        "lovely": '{"good": true}',
        "endless": Reply('{"good', finish="length"),
        "refused": Reply(status=401, error="Incorrect API key"),
        "rambling": "I would rather not say.",
    }
    fake_llm.script(lambda seen: replies[seen.last_text.split()[-1]])
    lovely, endless, refused, rambling = run_example("error_handling.py").splitlines()
    assert lovely == "lovely -> {'good': True}"
    assert endless == "endless -> too long, cut after '{\"good'"
    assert refused.startswith("refused -> not answered: ")
    assert "401" in refused
    assert "sk-example" not in refused
    assert rambling.startswith("rambling -> not understood: ")


@pytest.mark.model
@pytest.mark.timeout(180)
def test_8_3_runs_on_the_embedded_model(project, run_script):
    """The same file with another provider configuration; labels, not words, are checked."""
    config = project / "config"
    (config / "embedded.toml").replace(config / "llm_config.toml")
    done = run_script(project / "src" / "ticket_classifier.py", cwd=project, timeout=170)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    categories = ("Billing > Payment", "Technical Support > ", "Business Inquiry > General")
    assert first.startswith(tuple(f"Ticket 1: {c}" for c in categories))
    assert second.startswith(tuple(f"Ticket 2: {c}" for c in categories))
