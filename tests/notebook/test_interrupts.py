"""Interrupt and Stop: the request ends, the kernel stays healthy, the error is one line."""

from __future__ import annotations

import signal
import time

import pytest

from ..vendors.reply import Reply
from .kernels import interrupted, stray

LONG = Reply("word " * 2000, chunk_delay=0.005)


def slow(seen):
    """An answer that takes long, streamed or not."""
    return LONG if seen.stream else Reply("whole", delay=10)


AWAITING = {
    "magic": "%%aitoolman summary\nx",
    "line magic": "%aitoolman summary text=x",
    "by hand": "r = await app['summary'](text='x', _stream=True)",
    "show": "async with aitoolman.show(app):\n    await app['summary'](text='x', _stream=True)",
    "several": "await asyncio.gather(*[app['summary'](text=str(i)) for i in range(5)])",
    "try": "%%llm_module one --try ['a', 'b', 'c']\n{{ t }}",
    "plan": "plan = await app['summary'].plan([{'text': 'a'}, {'text': 'b'}])\nawait plan.run()",
    "workflow": (
        "flow = app.workflow()\n"
        "task = aitoolman.LLMTask(aitoolman.LLMModuleRequest('summary', {'text': 'x'}))\n"
        "await flow.run(task)"
    ),
}


@pytest.mark.parametrize("code", AWAITING.values(), ids=list(AWAITING))
def test_interrupt_ends_every_awaiting_cell(kernel, fake_llm, code):
    """Magic or plain await: closed at the server, one line, and the next cell works."""
    if "--try" in code:  # its ledger, once there, keeps a task for its claims
        kernel.run("%%llm_module one --try ['warm']\n{{ t }}")
    before = stray(kernel)
    fake_llm.script(slow)
    cell = kernel.start(code)
    kernel.until(lambda: fake_llm.open_requests)
    interrupted(kernel, cell, fake_llm)
    assert (cell.ename, cell.evalue) == ("Interrupted", "interrupted")
    assert cell.traceback == ["Interrupted: interrupted"]
    assert stray(kernel).among(before)
    fake_llm.script("fine again")
    assert "fine again" in kernel.run("%%aitoolman summary\nx").text


WAITING = {
    "inside %%time": "%%time\n%%aitoolman summary\nx",
    "inside a function": "def f():\n    %aitoolman summary text=x\nf()",
    "sync": "app.sync['summary'](text='x', _stream=True)",
}


@pytest.mark.parametrize("code", WAITING.values(), ids=list(WAITING))
def test_interrupt_ends_cells_that_block(kernel, fake_llm, code):
    """Where nothing can be awaited the background loop does the work, and ends it as well."""
    before = stray(kernel)
    fake_llm.script(slow)
    cell = kernel.start(code)
    kernel.until(lambda: fake_llm.open_requests)
    interrupted(kernel, cell, fake_llm, seconds=1.0)
    assert stray(kernel).among(before)
    fake_llm.script("fine again")
    assert "fine again" in kernel.run("%%aitoolman summary\nx").text


def test_the_stop_button_works_while_the_cell_runs(kernel, fake_llm):
    """A click ends the request; what had come stays in the cell."""
    fake_llm.script(slow)
    cell = kernel.start("%%aitoolman summary\nx")
    kernel.until(
        lambda: kernel.button(cell) and fake_llm.requests and fake_llm.requests[0].pieces > 20
    )
    began = time.monotonic()
    kernel.click(kernel.button(cell))
    fake_llm.wait_for(lambda s: s.open_requests == 0, timeout=3)
    assert time.monotonic() - began < 0.5
    kernel.finish(cell, ok=False)
    assert (cell.ename, cell.evalue) == ("Interrupted", "stopped")
    [data] = cell.shown
    assert data["text/plain"].startswith("word word")
    assert "stopped" in data["text/markdown"]


def test_no_button_where_a_click_would_not_come_through(kernel, fake_llm):
    """Inside %%time the line names Interrupt instead."""
    fake_llm.script("short")
    cell = kernel.run("%%time\n%%aitoolman summary\nx")
    assert kernel.button(cell) is None
    assert any("Interrupt" in str(o) for o in cell.outputs if o["type"] == "comm_msg") or any(
        "Interrupt" in str(o) for o in cell.outputs if o["type"] == "comm_open"
    )


def test_queued_cells_run_in_order_and_stop_at_an_interrupt(kernel, fake_llm):
    """Run All: nothing is lost, nothing overtakes; after an interrupt the rest does not run."""
    fake_llm.script(Reply("a b c d e", chunk_delay=0.02))
    cells = [kernel.start(f"%%aitoolman summary -o r{i}\n{i}") for i in range(3)]
    cells.append(kernel.start("print(r0.text, r2.text)"))
    for cell in cells:
        kernel.finish(cell, ok=True)
    assert [r.last_text[-1] for r in fake_llm.requests] == ["0", "1", "2"]
    assert cells[-1].stream == "a b c d e a b c d e\n"
    fake_llm.script(slow)
    cells = [kernel.start("%%aitoolman summary\nx"), kernel.start("print('never')")]
    kernel.until(lambda: fake_llm.open_requests)
    interrupted(kernel, cells[0], fake_llm)
    kernel.until(lambda: cells[1].replied)
    assert cells[1].status == "aborted"


def test_nested_loops_are_enabled_only_on_request(new_kernel):
    """`enable_nested_loops` lets a running loop run another; before that it is an error."""
    kernel = new_kernel()
    code = "async def f(): return 42\nprint(asyncio.run(f()))"
    assert kernel.run(code, ok=False).ename == "RuntimeError"
    kernel.run("aitoolman.enable_nested_loops()")
    assert kernel.run(code).stream == "42\n"
    assert kernel.run("print('nest_asyncio' in __import__('sys').modules)").stream == "False\n"


def test_the_package_that_loses_cells_is_refused(new_kernel):
    """With nest-asyncio 1 alone: an error that says why, and nothing is patched."""
    kernel = new_kernel()
    kernel.run("import sys; sys.modules['nest_asyncio2'] = None")
    cell = kernel.run("aitoolman.enable_nested_loops()", ok=False)
    assert "loses queued cells" in cell.evalue
    assert kernel.run("print('nest_asyncio' in sys.modules)").stream == "False\n"
    kernel.run("sys.modules['nest_asyncio'] = None")
    assert "aitoolman[nested]" in kernel.run("aitoolman.enable_nested_loops()", ok=False).evalue


def test_a_cell_that_is_stuck_gives_way_to_the_second_interrupt(kernel):
    """Code that blocks an awaiting cell cannot be cancelled; the second signal breaks into it."""
    cell = kernel.start(
        "await asyncio.sleep(0)\nimport time\nprint('in', flush=True)\ntime.sleep(15)"
    )
    kernel.until(lambda: "in" in cell.stream)
    kernel.interrupt()
    kernel.interrupt()
    end = time.monotonic() + 5
    while not cell.replied and time.monotonic() < end:
        kernel._take()
        if not cell.replied:
            time.sleep(0.2)
            kernel.interrupt()
    kernel.finish(cell, ok=False)
    assert cell.ename in ("KeyboardInterrupt", "Interrupted")
    assert kernel.run("print('alive')").stream == "alive\n"


def test_a_cancelled_error_of_the_users_own_is_shown_as_it_is(kernel):
    """Only what Interrupt and Stop caused is shortened."""
    cell = kernel.run("t = asyncio.ensure_future(asyncio.sleep(9)); t.cancel(); await t", ok=False)
    assert cell.ename == "CancelledError"
    assert len(cell.traceback) > 1


def test_terminal_ipython_streams_and_is_interrupted(tmp_path, fake_llm):
    """The same magics at a prompt: text on the console, Ctrl-C closes the request, one line."""
    import os
    import subprocess
    import sys

    from .conftest import CANARY, write_project
    from .kernels import ROOT

    write_project(tmp_path, fake_llm)
    process = subprocess.Popen(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CANARY_KEY": CANARY,
             "IPYTHONDIR": str(tmp_path / "ipy")},
    )  # fmt: skip

    def send(text):
        process.stdin.write(text)
        process.stdin.flush()

    try:
        fake_llm.script([Reply("streamed text"), LONG, Reply("after")])
        send("%load_ext aitoolman\napp = %llm_config llm.toml prompts.toml\n")
        send("%aitoolman summary text=x\n")
        fake_llm.wait_for(lambda s: s.requests_seen == 1, timeout=15)
        send("%aitoolman summary text=y\n")
        fake_llm.wait_for(lambda s: s.requests_seen == 2, timeout=15)
        while fake_llm.requests[1].pieces < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        fake_llm.wait_for(lambda s: s.open_requests == 0, timeout=2)
        send("await app['summary'](text='z')\nexit\n")
        output, _ = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait(5)
    assert "streamed text" in output
    assert "Interrupted: interrupted" in output
    assert "'after'" in output
    assert CANARY not in output
