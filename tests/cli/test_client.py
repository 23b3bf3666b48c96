"""`aitoolman client`: pipes, terminals, modules, media, interrupts."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import aitoolman
from aitoolman._cli.client import EMBEDDED, _against_repetition, _embedded, _introduction
from tests.vendors.reply import Reply

ROOT = Path(__file__).parents[2]
PROMPTS = """
[module.shout]
model = "fast"
template.system = "Shout."
template.user = "Say loudly: {{ text }}"

[module.two]
model = "fast"
template.user = "{{ a }} {{ b }}"
"""


@pytest.fixture
def config(fake_llm, tmp_path):
    """A provider file and a prompt file; the working directory is a fresh one."""
    (tmp_path / "llm.toml").write_text(
        f'[default]\nmax_retries = 0\n[api.fast]\nurl = "{fake_llm.openai_url}"\nmodel = "m"\n',
        encoding="utf-8",
    )
    (tmp_path / "prompts.toml").write_text(PROMPTS, encoding="utf-8")
    return tmp_path


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "aitoolman", "client", *arguments]


def pipe(config, text, *arguments):
    return subprocess.run(
        command("-c", "llm.toml", *arguments), cwd=config, input=text, text=True,
        capture_output=True, timeout=20, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


def test_a_pipe_is_one_message_with_the_answer_on_stdout(fake_llm, config):
    """All of standard input is sent as one message; nothing but the answer comes out."""
    fake_llm.script(Reply(text="line one\nline two", reasoning="hidden"))
    done = pipe(config, "first\nsecond\n", "-m", "fast", "-s", "Be short.")
    assert (done.returncode, done.stdout, done.stderr) == (0, "line one\nline two\n", "")
    assert [(m["role"], m["content"]) for m in fake_llm.requests[0].messages] == [
        ("system", "Be short."),
        ("user", "first\nsecond"),
    ]


def test_a_failed_call_is_exit_code_1_and_one_sentence(fake_llm, config):
    """What went wrong stands on stderr, nothing on stdout."""
    fake_llm.script(Reply(status=401, error="wrong key"))
    done = pipe(config, "hi", "-m", "fast")
    assert (done.returncode, done.stdout) == (1, "")
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "fasst"), "fast"),
        (("-m", "fast", "--module", "shout"), "-p"),
        (("-p", "prompts.toml", "--module", "two"), "a, b"),
        (("-p", "prompts.toml", "--module", "shoot"), "shout"),
        (("-m", "fast", "--media", "none.png"), "none.png"),
        (("-p", "nowhere.toml", "-m", "fast"), "nowhere.toml"),
    ],
    ids=["unknown model", "no file", "two variables", "module", "media", "prompts"],
)
def test_wrong_use_is_told_in_one_sentence(fake_llm, config, arguments, said):
    """The message names what to change; nothing is sent."""
    done = pipe(config, "hi", *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not fake_llm.requests


def test_a_module_takes_the_message_as_its_open_variable(fake_llm, config):
    """`-p FILE --module NAME` renders the module's templates around the message."""
    done = pipe(config, "hello", "-p", "prompts.toml", "--module", "shout")
    assert done.stdout == "Say loudly: hello\n"
    assert fake_llm.requests[0].messages[0] == {"role": "system", "content": "Shout."}


def test_a_module_may_use_a_function_of_the_project(fake_llm, config):
    """`--processors` finds it from the working directory, written as a module or as a file."""
    (config / "app").mkdir()
    (config / "app" / "own.py").write_text("def loud(text):\n    return text.upper()\n")
    own = '[module.own]\nmodel = "fast"\ntemplate.user = "{{ x }}"\npost_processor = "loud"\n'
    (config / "prompts.toml").write_text(own)
    words = ("-p", "prompts.toml", "--module", "own")
    refused = pipe(config, "hi", *words)
    assert refused.returncode == 2
    assert "--processors loud=MODULE:FUNCTION" in refused.stderr
    for place in ("app.own:loud", "app/own.py:loud"):
        assert pipe(config, "hi", *words, "--processors", f"loud={place}").returncode == 0
    lost = pipe(config, "hi", *words, "--processors", "loud=app.won:loud")
    assert lost.returncode == 2
    assert "No module named 'app.won'" in lost.stderr
    assert len(fake_llm.requests) == 2


def test_a_project_is_found_in_its_folder(fake_llm, config):
    """Without -c and -p the files of config/ are used; their only model needs no name."""
    (config / "config").mkdir()
    (config / "llm.toml").rename(config / "config" / "llm_config.toml")
    (config / "prompts.toml").rename(config / "config" / "app_prompt.toml")
    done = subprocess.run(
        [*command(), "--module", "shout"], cwd=config, input="hi", text=True, capture_output=True,
        timeout=20, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "Say loudly: hi\n")


def test_a_file_with_one_model_needs_no_name_and_others_list_theirs(fake_llm, config):
    """`-m` is asked for only where there is a choice, which is then shown."""
    assert pipe(config, "hi").stdout == "hi\n"
    with (config / "llm.toml").open("a") as file:
        file.write(f'[api.slow]\nurl = "{fake_llm.openai_url}"\nmodel = "s"\n'
                   '[model_alias]\nbest = "slow"\n')  # fmt: skip
    done = pipe(config, "hi")
    assert done.returncode == 2
    assert "name a model with -m" in done.stderr
    assert "best, fast, slow" in done.stderr


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ("", {"frequency_penalty": 0.5, "max_tokens": 200}),
        ("body_options = { max_tokens = 900 }", {"frequency_penalty": 0.5}),
    ],
    ids=["file says nothing", "file says a length"],
)
def test_the_embedded_model_is_kept_from_repeating_itself(tmp_path, chosen, sent):
    """The command's options come in where the user's file leaves them open."""
    path = tmp_path / "llm.toml"
    path.write_text(f'[api.small]\ntype = "llamacpp"\nmodel = "smollm2-135m"\n{chosen}\n')
    entry = _embedded(aitoolman.connect(path), "small")
    assert _against_repetition(entry) == sent


@pytest.mark.model
@pytest.mark.timeout(120)
def test_the_embedded_model_comes_to_an_end_and_says_what_it_is(tmp_path):
    """A question through a pipe outside any project is answered, with one line about the model."""
    done = subprocess.run(
        [*command(), "-m", "Fast-Model"], cwd=tmp_path, input="What is the capital of France?\n",
        text=True, capture_output=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert done.stderr.splitlines() == [EMBEDDED.format(" for 'Fast-Model'")]


@pytest.mark.parametrize("name", ["GPT-4", "Creative-Model"])
def test_a_name_of_the_demo_is_told_to_be_the_embedded_model(name):
    """Its own name needs no such word."""
    client = aitoolman.connect("demo")
    entry = _embedded(client, name)
    assert _introduction(entry, name).startswith(f"(the embedded model answers for {name!r}: with")
    assert _introduction(entry, entry.name).startswith("(the embedded model answers: with")


def test_media_files_go_along(fake_llm, config):
    """`--media` sends a picture with the message."""
    (config / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    fake_llm.script(Reply(text="a dot"))
    assert pipe(config, "what?", "-m", "fast", "--media", "dot.png").stdout == "a dot\n"
    parts = fake_llm.requests[0].messages[0]["content"]
    assert {part["type"] for part in parts} == {"text", "image_url"}


class Terminal:
    """A program on a pseudo terminal: write to it, wait for what it shows."""

    def __init__(self, arguments, cwd):
        self.master, slave = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
        self.process = subprocess.Popen(
            arguments, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=env,
            preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(0, 0x540E, 0)),
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def write(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, text, timeout=15.0):
        end = time.monotonic() + timeout
        while text not in self.shown:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                self.shown += os.read(self.master, 4096).decode(errors="replace")
            assert time.monotonic() < end, f"{text!r} not in {self.shown!r}"

    def forget(self):
        self.shown = ""


@pytest.fixture
def terminal(config):
    running = []

    def start(*arguments):
        running.append(Terminal(command("-c", "llm.toml", *arguments), config))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_a_terminal_chats_with_context_and_ends_at_quit(fake_llm, terminal):
    """Turns are kept as context, reasoning is shown apart, /reset forgets."""
    fake_llm.script([Reply(text="I am a"), Reply(text="You said one", reasoning="what was it")])
    chat = terminal("-m", "fast")
    chat.wait_for("> ")
    chat.write("one\n")
    chat.wait_for("I am a")
    chat.write("two\n")
    chat.wait_for("[reasoning] what was it")
    chat.wait_for("You said one")
    assert [m["content"] for m in fake_llm.requests[1].messages] == ["one", "I am a", "two"]
    chat.write("/reset\n")
    chat.wait_for("(forgotten)")
    chat.write("/quit\n")
    assert chat.process.wait(10) == 0


def test_ctrl_c_ends_the_answer_and_not_the_program(fake_llm, terminal):
    """An interrupt closes the exchange; the next message is answered."""
    fake_llm.script([Reply(chunks=["so ", "far "], hang=True, pause_at=3), Reply(text="second")])
    chat = terminal("-m", "fast")
    chat.wait_for("> ")
    chat.write("long\n")
    chat.wait_for("so far")
    chat.write("\x03")
    chat.wait_for("(interrupted)")
    fake_llm.wait_for(lambda s: s.requests[0].closed_early)
    chat.forget()
    chat.write("again\n")
    chat.wait_for("second\r\n> ")
    assert [m["content"] for m in fake_llm.requests[1].messages] == ["again"]
    chat.write("\x04")
    assert chat.process.wait(10) == 0
