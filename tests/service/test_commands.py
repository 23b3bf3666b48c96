"""`aitoolman server`, `monitor`, `keygen` and `client -r`, as processes."""

from __future__ import annotations

import contextlib
import os
import pty
import queue
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from aitoolman import Message
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Reply
from .conftest import TOKEN, until
from .processes import ROOT, ServerProcess, free_port


@pytest.fixture
def process(fake_llm, tmp_path):
    server = ServerProcess(tmp_path / "server", fake_llm.openai_url).start()
    yield server
    server.kill()


def command(*words, env=None, timeout=15, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "aitoolman", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True, text=True, timeout=timeout, **options,
    )  # fmt: skip


class Running:
    """A command whose lines are read as they come."""

    def __init__(self, *words, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "aitoolman", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        self.lines = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        self._thread.join()
        self.process.stdout.close()
        errors = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.returncode, errors


async def ask(process, text="hi", event=False):
    async with LLMZmqClient(process.endpoint, TOKEN) as client:
        request = await client.request("fast", [Message("user", text)], context_id="talk")
        await request.response
        if event:
            await client.audit_event("talk", "order", number=3)


def test_the_server_prints_one_line_when_it_is_ready(process):
    """Endpoints, ledger and kind of door, and nothing secret."""
    for part in (process.endpoint, process.pub_endpoint, "ledger.db", "encrypted"):
        assert part in process.line
    assert TOKEN not in process.line


def test_a_configuration_that_cannot_serve_is_one_sentence(tmp_path):
    """No file, no address and no token are told without a traceback."""
    missing = command("server", "-c", "nowhere.toml", cwd=tmp_path)
    (tmp_path / "a.toml").write_text('[api.x]\nurl = "http://127.0.0.1:1/"\nmodel = "m"\n')
    no_address = command("server", "-c", "a.toml", cwd=tmp_path)
    (tmp_path / "b.toml").write_text('[server]\nzmq_router_rpc = "tcp://*:5555"\n')
    no_token = command("server", "-c", "b.toml", cwd=tmp_path)
    assert "nowhere.toml" in missing.stderr
    assert "server.zmq_router_rpc" in no_address.stderr
    assert "zmq_auth_token" in no_token.stderr
    for done in (missing, no_address, no_token):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


async def test_verbose_shows_traffic_without_keys(fake_llm, tmp_path):
    """`-v` logs requests and raw answers; the key is masked."""
    server = ServerProcess(
        tmp_path / "server", fake_llm.openai_url, more='api_key = "sk-canary-123456"'
    )
    running = None
    server.folder.mkdir(exist_ok=True)
    running = Running("server", "-v", cwd=server.folder)
    try:
        assert "ready" in running.lines.get(timeout=10)
        await ask(server, "a visible prompt")
    finally:
        _, errors = running.stop()
    assert "a visible prompt" in errors
    assert "sk-canary" not in errors


async def test_the_monitor_prints_a_line_per_call_and_event(process):
    """In a pipe; with a token; ended by Ctrl-C with 0 and no warning."""
    running = Running("monitor", "--pub-endpoint", process.pub_endpoint, "-a", TOKEN)
    try:
        lines = []
        async with LLMZmqClient(process.endpoint, TOKEN) as client:
            while not lines or " call " not in lines[-1]:  # it may have started late
                request = await client.request("fast", [Message("user", "hi")], context_id="talk")
                await request.response
                with contextlib.suppress(queue.Empty):
                    lines.append(running.lines.get(timeout=0.3))
            await client.audit_event("talk", "order", number=3)
            while " event " not in lines[-1]:
                lines.append(running.lines.get(timeout=5))
    finally:
        code, errors = running.stop()
    assert (code, errors) == (0, "")
    call = next(line for line in lines if " call " in line)
    for part in ("default#", " fast ", " stop ", "total=", "tokens=", "context=talk"):
        assert part in call
    assert 'order {"number":3}' in lines[-1]


async def test_the_monitor_fills_its_database_from_the_first_row(process, tmp_path):
    """Calls from before it started are in it, too."""
    await ask(process, "early", event=True)
    db_path = tmp_path / "llm_audit.db"
    running = Running(
        "monitor", "--pub-endpoint", process.pub_endpoint, "-a", TOKEN, "--db-path", str(db_path)
    )

    def texts():
        if not db_path.exists():
            return []
        with contextlib.closing(sqlite3.connect(db_path)) as db:
            try:
                return [row[0] for row in db.execute("SELECT response_text FROM responses")]
            except sqlite3.OperationalError:
                return []

    try:
        await until(lambda: texts() == ["early"], timeout=10)
        await ask(process, "later")
        await until(lambda: texts() == ["early", "later"])
    finally:
        assert running.stop() == (0, "")


def test_the_monitor_is_told_when_it_is_refused(process):
    """A wrong token, and none, each end it with a sentence."""
    wrong = command("monitor", "--pub-endpoint", process.pub_endpoint, "-a", "wrong-token-12345")
    none = command("monitor", "--pub-endpoint", process.pub_endpoint)
    assert (wrong.returncode, none.returncode) == (1, 1)
    assert "refused the token" in wrong.stderr
    assert "wants a token" in none.stderr


async def test_the_monitor_draws_a_table_on_a_terminal(process):
    """Sums by client and model, with the state of the queue."""
    master, slave = pty.openpty()
    child = subprocess.Popen(  # noqa: ASYNC220 - reads a terminal
        [sys.executable, "-m", "aitoolman", "monitor", "--pub-endpoint", process.pub_endpoint,
         "-a", TOKEN],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    os.set_blocking(master, False)

    def read():
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(master, 65536)
        return shown

    try:
        await until(lambda: b"in line" in read(), timeout=10)
        await ask(process)
        await until(lambda: b" fast " in read() and b"stop" in read(), timeout=10)
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(10)
        os.close(master)
    assert b"client" in shown
    assert b"per min" in shown


def test_keygen_prints_a_token_that_a_server_takes():
    """Random, long, alone on its line."""
    done = command("keygen", "-n", "2")
    one, two = done.stdout.split()
    assert one != two
    assert len(one) >= 40


def test_the_chat_command_talks_to_a_server(fake_llm, process):
    """`client -r ENDPOINT -a TOKEN -m MODEL` with a pipe: the answer on stdout, exit 0."""
    fake_llm.script(Reply("a fine answer"))
    done = command(
        "client", "-r", process.endpoint, "-m", "fast", "-a", TOKEN, input="a question\n"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "a fine answer"), done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import aitoolman.zmqclient as z; z.LLMZmqClient('tcp://localhost:1')",
        "from aitoolman._cli.main import main; raise SystemExit(main(['server']))",
        "from aitoolman._cli.main import main; raise SystemExit(main(['monitor']))",
    ],
    ids=["client", "server", "monitor"],
)
def test_without_pyzmq_the_install_line_is_shown(code):
    """The extra is named."""
    blocked = f"import sys; sys.modules['zmq'] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True, timeout=15
    )
    assert done.returncode == 1
    assert "pip install 'aitoolman[service]'" in done.stderr


@pytest.mark.timeout(60)
def test_a_client_says_whom_it_waits_for():
    """Nobody listens at the address: a word after a moment, not silence until the end."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "aitoolman", "client", "-r", endpoint, "-m", "fast"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        process.stdin.write("a question\n")
        process.stdin.close()
        assert process.stderr.readline() == f"waiting for {endpoint}\n"
        process.kill()


def test_a_monitor_in_a_pipe_says_whom_it_waits_for():
    """On stderr: the lines on stdout stay those of calls and events."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "aitoolman", "monitor", "--pub-endpoint", endpoint],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr.readline() == f"waiting for {endpoint}\n"
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=15)
    assert out == ""
