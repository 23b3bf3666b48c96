"""The embedded model as a child process: shared, counted, and gone when nobody wants it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from aitoolman import LLMApiRequestError
from aitoolman._config import ProviderConfig
from aitoolman._provider import llamacpp
from aitoolman._provider.llamacpp import LlamaSettings, acquire, model_digest
from aitoolman._provider.model_files import KNOWN_MODELS, ensure_model

ROOT = Path(__file__).resolve().parents[2]
NAME = "smollm2-135m"

# The first of them on a machine may have to fetch the model.
pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]


@pytest.fixture(scope="session")
def model_file():
    """The known model's file; the first run on a machine fetches it."""
    return ensure_model(NAME)


@pytest.fixture
def settings(model_file):
    return LlamaSettings(NAME, n_ctx=1024)


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch):
    """Children go soon after a test, and each test leaves none."""
    monkeypatch.setattr(llamacpp, "LINGER_SECONDS", 0.2)
    yield
    until(lambda: not children(), "a child was left")


def children() -> list[int]:
    found = []
    for process in psutil.Process().children():
        try:
            if any("llamacpp_child" in word for word in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def until(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def post(lease, key=None, **body):
    """The raw answer to a chat request."""
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8} | body
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {key or lease.api_key}",
    }
    request = urllib.request.Request(lease.url, json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return answer.read().decode()


async def test_it_answers_whole_and_streamed_and_only_to_its_key(settings):
    """It looks like any OpenAI-compatible vendor; a wrong key is refused."""
    lease = await acquire(settings)
    try:
        whole = json.loads(await asyncio.to_thread(post, lease, temperature=0))
        assert whole["choices"][0]["message"]["content"]
        streamed = await asyncio.to_thread(post, lease, stream=True)
        assert streamed.startswith("data: {")
        assert "data: [DONE]" in streamed
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asyncio.to_thread(post, lease, "wrong")
    finally:
        lease.release()


async def test_ten_users_one_after_another_have_one_child(settings):
    """A released child waits a moment for the next user."""
    pids = set()
    for _ in range(10):
        lease = await acquire(settings)
        pids.add(lease.pid)
        lease.release()
    assert len(pids) == 1
    assert children() == list(pids)


async def test_users_at_once_share_a_child_which_stays_until_the_last_one_goes(settings):
    """Releasing twice counts once."""
    first, second = await asyncio.gather(acquire(settings), acquire(settings))
    assert (first.pid, first.api_key) == (second.pid, second.api_key)
    first.release()
    first.release()
    await asyncio.sleep(3 * llamacpp.LINGER_SECONDS)
    assert children() == [second.pid]
    assert second.failure() is None
    second.release()


async def test_other_settings_have_a_child_and_a_key_of_their_own(settings, model_file):
    """Equal settings share, others don't."""
    one = await acquire(settings)
    other = await acquire(LlamaSettings(str(model_file), n_ctx=512))
    try:
        assert one.pid != other.pid
        assert one.api_key != other.api_key
        assert one.url != other.url
        assert one.model_digest == other.model_digest == KNOWN_MODELS[NAME].sha256
    finally:
        one.release()
        other.release()


def test_loops_in_several_threads_share_a_child(settings):
    """The count holds over threads and loops, whichever starts the child."""
    leases = []

    async def use():
        leases.append(await acquire(settings))

    threads = [threading.Thread(target=asyncio.run, args=[use()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert len({lease.pid for lease in leases}) == 1
    assert len(leases) == 4
    for lease in leases:
        lease.release()


async def test_a_child_that_was_killed_says_so_and_the_next_user_gets_a_new_one(settings):
    """The old lease stays dead and can still be released."""
    lease = await acquire(settings)
    os.kill(lease.pid, signal.SIGKILL)
    until(lease.failure, "the death was not seen")
    assert "killed by SIGKILL" in lease.failure()
    fresh = await acquire(settings)
    assert fresh.pid != lease.pid
    assert fresh.failure() is None
    lease.release()
    assert json.loads(await asyncio.to_thread(post, fresh))["choices"]
    fresh.release()


async def test_cancelling_the_only_one_who_waits_calls_the_start_off(settings):
    """No child is left at any moment of cancelling, and the next start works."""
    for delay in (0, 0.02, 0.1):
        task = asyncio.create_task(acquire(settings))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    until(lambda: not children(), "a child was left")
    (await acquire(settings)).release()


async def test_cancelling_one_of_two_who_wait_leaves_the_start_to_the_other(settings):
    """One user's cancel is not the other's."""
    one, other = asyncio.create_task(acquire(settings)), asyncio.create_task(acquire(settings))
    await asyncio.sleep(0)
    one.cancel()
    lease = await other
    assert one.cancelled()
    lease.release()


async def test_a_file_that_cannot_be_loaded_gives_the_engines_own_words(tmp_path, model_file):
    """One sentence with the file and the reason; the next try starts afresh."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model_file.read_bytes()[:3_000_000])
    for _ in range(2):
        with pytest.raises(LLMApiRequestError) as caught:
            await acquire(LlamaSettings(str(cut)))
        assert str(cut) in str(caught.value)
        assert "failed to load" in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_missing_engine_is_answered_with_the_install_line(settings, monkeypatch):
    """Nothing is started."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(LLMApiRequestError, match=r"pip install 'aitoolman\[local\]'"):
        await acquire(settings)


async def test_a_missing_file_fails_every_user_alike(tmp_path):
    """Two who wait for the same start both hear why it failed."""
    missing = LlamaSettings(str(tmp_path / "none.gguf"))
    ends = await asyncio.gather(acquire(missing), acquire(missing), return_exceptions=True)
    assert [type(end) for end in ends] == [LLMApiRequestError] * 2
    assert ends[0] is not ends[1]


def test_settings_come_from_an_entry_whether_resolved_or_not(tmp_path):
    """Both forms of an entry say the same; a relative file starts at the entry's folder."""
    table = {"type": "llamacpp", "model": "m.gguf", "n_ctx": 2048, "path": str(tmp_path)}
    entry = ProviderConfig.from_dict({"api": {"x": table}}).entries["x"]
    expected = LlamaSettings(str(tmp_path / "m.gguf"), n_ctx=2048)
    assert LlamaSettings.from_entry(entry) == expected
    assert LlamaSettings.from_entry(entry.resolve()) == expected
    known = ProviderConfig.from_dict({"api": {"x": {"type": "llamacpp", "model": NAME}}})
    assert LlamaSettings.from_entry(known.entries["x"]) == LlamaSettings(NAME)


async def test_the_digest_of_a_known_model_needs_no_file(tmp_path, monkeypatch):
    """A description of the demo's model must not fetch it."""
    monkeypatch.setenv("AITOOLMAN_CACHE_DIR", str(tmp_path / "empty"))
    assert await model_digest(LlamaSettings(NAME)) == KNOWN_MODELS[NAME].sha256
    assert not (tmp_path / "empty").exists()


START = """
import asyncio, os, sys, time
from aitoolman._provider.llamacpp import LlamaSettings, acquire
lease = asyncio.run(acquire(LlamaSettings({name!r}, n_ctx=1024)))
print(lease.pid, flush=True)
"""


def start_parent(extra):
    """A process that has a child and says the child's id; runs `extra` after that."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", START.format(name=NAME) + extra],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    return process, int(process.stdout.readline())


def test_the_child_ends_with_a_parent_that_was_killed(model_file):
    """Nobody is there to end it: the end of its stdin tells it."""
    parent, child = start_parent("time.sleep(60)")
    parent.kill()
    parent.communicate()
    until(lambda: gone(child), "the child outlived its parent")


def test_the_child_ends_with_its_parent_although_a_fork_of_that_lives_on(model_file):
    """A forked process has no part in its parent's children, and ends none of them."""
    fork = """
import warnings; warnings.simplefilter("ignore")  # later Pythons warn of forks beside threads
if (other := os.fork()) == 0:
    lease.release()
    time.sleep(60)
    os._exit(0)
time.sleep(0.5)
print(other, lease.failure(), flush=True)
time.sleep(60)
"""
    parent, child = start_parent(fork)
    other, failure = parent.stdout.readline().split()
    assert failure == "None"
    try:
        parent.kill()
        until(lambda: gone(child), "the child outlived its parent")
        assert psutil.pid_exists(int(other))
    finally:
        os.kill(int(other), signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param("", id="still in use"),
        pytest.param("lease.release()", id="lingering"),
        pytest.param("import atexit; atexit.register(lease.release)", id="released at exit"),
        pytest.param("raise SystemExit(0)", id="by SystemExit"),
    ],
)
def test_an_exit_ends_the_child_at_once_and_without_a_word(model_file, extra):
    """Even with every warning an error."""
    parent, child = start_parent(extra)
    _, err = parent.communicate(timeout=10)
    assert (parent.returncode, err) == (0, "")
    until(lambda: gone(child), "the child outlived its parent")


def test_an_interrupt_of_the_terminal_does_not_reach_the_child(model_file):
    """Ctrl-C goes to the whole foreground group; the child is not in it."""
    parent, child = start_parent("time.sleep(60)")
    assert os.getpgid(child) != os.getpgid(parent.pid)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=10)
    until(lambda: gone(child), "the child outlived its parent")


def test_it_runs_where_the_main_program_cannot_be_imported_again(model_file, tmp_path):
    """Notebooks and scripts without a guard: the child never runs the user's program."""
    script = tmp_path / "queue.py"  # also the name of a standard module, beside the script
    script.write_text(START.format(name=NAME) + "\nprint('once')")
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1


def test_a_proxy_of_the_environment_is_not_asked_for_the_own_machine(
    model_file, run_script, tmp_path
):
    """Behind a company's proxy the embedded model answers, too, without NO_PROXY."""
    script = tmp_path / "ask.py"
    script.write_text(
        "import aitoolman\n"
        "client = aitoolman.connect('demo')\n"
        "app = aitoolman.LLMApplication(client)\n"
        "message = aitoolman.Message('user', 'Say hello.')\n"
        "result = app.sync.call(aitoolman.LLMDirectRequest('GPT-4', [message]))\n"
        "result.raise_for_status()\n"
        "print(result.text)\n"
    )
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = run_script(script, env=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
