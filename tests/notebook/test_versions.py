"""Other kernels and other sources of models: ipykernel 6.31 and up, a child process, a service."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from ..vendors.reply import Reply
from .kernels import ROOT, interrupted, stray


class Variant(NamedTuple):
    """What the user has: a kernel, widgets or none, a patched loop or none."""

    version: str
    """The first numbers of ipykernel's; empty: the one that runs the tests."""
    widgets: bool
    nested: str | None

    def __str__(self) -> str:
        widgets = "widgets" if self.widgets else "no_widgets"
        return "-".join([self.version or "newest", widgets, self.nested or "plain_loop"])

    @property
    def has_button(self) -> bool:
        """A Stop button needs widgets, and a kernel that hears clicks while a cell awaits."""
        return self.widgets and not self.version.startswith("6.")


# Every pair of a kernel, widgets and a patch of the loop; kernels in between once.
NEWEST = [
    Variant("", False, None),
    Variant("", True, "nest_asyncio"),
    Variant("", False, "nest_asyncio2"),
]
OLDER = [
    Variant("6.31", True, None),
    Variant("6.31", False, "nest_asyncio"),
    Variant("6.31", True, "nest_asyncio2"),
    Variant("7.0.1", True, None),
    Variant("7.2.0", False, "nest_asyncio2"),
]
VARIANTS = [
    *(pytest.param(v, id=str(v)) for v in NEWEST),
    *(pytest.param(v, id=str(v), marks=pytest.mark.long) for v in OLDER),
]


def install(python: str, *packages: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)


def overlay(folder: Path, *packages: str) -> str:
    """A folder with other versions of packages, to be put before the installed ones."""
    install(sys.executable, "--target", str(folder), *packages)
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.fixture(scope="session")
def old_python(tmp_path_factory) -> str:
    """The Python of an environment made for ipykernel 6.31."""
    folder = tmp_path_factory.mktemp("environment") / "old"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install(
        python, "ipykernel==6.31.*", "nest-asyncio", "nest-asyncio2", "psutil",
        "-e", f"{ROOT}[notebook,local]",
    )  # fmt: skip
    return python


@pytest.fixture(params=VARIANTS)
def variant(request):
    """What the user has."""
    return request.param


@pytest.fixture
def that_kernel(request, variant, new_kernel, tmp_path):
    """``that_kernel(parallel=)`` starts a kernel as `variant` says."""

    def start(**options):
        if variant.version.startswith("6."):
            options["python"] = request.getfixturevalue("old_python")
        elif variant.version:
            path = overlay(tmp_path / "packages", "--no-deps", f"ipykernel=={variant.version}")
            options["env"] = {"PYTHONPATH": path}
        kernel = new_kernel(**options)
        shown = kernel.run("import ipykernel; print(ipykernel.__version__)").stream
        assert shown.startswith(variant.version or "7.")
        if not variant.widgets:
            kernel.run("import sys; sys.modules['ipywidgets'] = None")
        if variant.nested:
            kernel.run(f"import {variant.nested}; {variant.nested}.apply()")
        return kernel

    return start


KERNELS = pytest.mark.timeout(300)
"""The first test of all makes an environment."""


@KERNELS
def test_queued_cells_run_in_order_and_none_is_lost(that_kernel, fake_llm):
    """Run All: the awaiting magic, the line magic, a plain await, %%time."""
    kernel = that_kernel()
    fake_llm.script(Reply("fine", chunk_delay=0.02))
    cells = [
        kernel.start("%%aitoolman summary -o r0\n0"),
        kernel.start("r1 = %aitoolman summary text=1"),
        kernel.start("%%time\n%%aitoolman summary -o r2\n2"),
        kernel.start("r3 = await app['summary'](text='3')"),
        kernel.start("print(r0.text, r1.text, r2.text, r3.text)"),
    ]
    for cell in cells:
        kernel.finish(cell, ok=True)
    assert [r.last_text[-1] for r in fake_llm.requests] == ["0", "1", "2", "3"]
    assert cells[-1].stream == "fine fine fine fine\n"
    assert "Wall time" in cells[2].stream


@KERNELS
def test_an_interrupt_ends_awaiting_and_blocking_cells(that_kernel, fake_llm, variant):
    """Closed at the server, one line, the queued cell does not run, and the next one works."""
    kernel = that_kernel()
    before = stray(kernel)
    for code in ("%%aitoolman summary\nx", "%%time\n%%aitoolman summary\nx"):
        fake_llm.script(Reply("word " * 2000, chunk_delay=0.005))
        cell, queued = kernel.start(code), kernel.start("print('never')")
        kernel.until(lambda: fake_llm.open_requests and fake_llm.requests[-1].pieces > 5)
        awaits = "%%time" not in code
        interrupted(kernel, cell, fake_llm, seconds=1.0)
        assert (kernel.button(cell) is not None) == (awaits and variant.has_button)
        if awaits:
            assert cell.traceback == ["Interrupted: interrupted"]
        kernel.until(lambda queued=queued: queued.replied)
        assert queued.status == "aborted"
        assert stray(kernel).among(before)
        fake_llm.script("fine again")
        assert "fine again" in kernel.run("%%aitoolman summary\nx").text


@KERNELS
def test_one_limit_holds_for_all_kinds_of_cells(that_kernel, fake_llm):
    """parallel = 1: tasks of an awaiting cell and a %%time cell never are in flight together."""
    kernel = that_kernel(parallel=1)
    fake_llm.script(Reply("slow", delay=0.15))
    kernel.run("tasks = [asyncio.create_task(app['summary'](text=str(i))) for i in range(3)]")
    kernel.run("%%time\n%%aitoolman summary\nfrom a blocking cell")
    kernel.run("app.sync['summary'](text='sync')")
    kernel.run("%%aitoolman summary\nawaiting")
    kernel.run("rs = await asyncio.gather(*tasks)")
    assert len(fake_llm.requests) == 6
    assert fake_llm.max_concurrent == 1


def interrupt_at_random(kernel, version, fake_llm, count):
    """Interrupt or stop a streaming cell at random moments; afterwards nothing is left."""
    kernel.run("%%llm_module m\n{{ t }}")
    before = stray(kernel)
    moments = random.Random(7)
    # A click on the main shell is heard from ipykernel 7.4 on; JupyterLab uses a subshell.
    subshell = kernel.subshell() if version.startswith(("7.0", "7.2")) else None
    fake_llm.script(Reply("word " * 1000, chunk_delay=0.002, delay=0.05))
    for index in range(count):
        cell = kernel.start("%%aitoolman m\nx")
        # What ipykernel does with a signal outside of cells is its own affair.
        kernel.until(lambda cell=cell: cell.shown)
        end = time.monotonic() + moments.uniform(0, 0.4)
        while time.monotonic() < end:
            kernel._take()
        button = kernel.button(cell)
        if button and index % 2:
            kernel.click(button, subshell)
        else:
            kernel.interrupt()
        kernel.finish(cell, ok=False)
        fake_llm.wait_for(lambda s: s.open_requests == 0, timeout=3)
        assert cell.ename == "Interrupted"
    assert stray(kernel).among(before)
    fake_llm.script("fine")
    assert "fine" in kernel.run("%%aitoolman m\nx").text


@KERNELS
def test_interrupts_at_random_moments_leave_nothing(that_kernel, fake_llm, variant):
    """Ten of them: no open request, no stray task, a working kernel."""
    interrupt_at_random(that_kernel(), variant.version, fake_llm, 10)


@pytest.mark.long
@KERNELS
@pytest.mark.parametrize(
    "variant", [Variant("", True, None), Variant("6.31", True, None)], indirect=True, ids=str
)
def test_a_hundred_interrupts_at_random_moments_leave_nothing(that_kernel, fake_llm, variant):
    """The long form."""
    interrupt_at_random(that_kernel(), variant.version, fake_llm, 100)


CHILDREN = """
import psutil
def children():
    found = psutil.Process().children(recursive=True)
    return [p for p in found if any("llamacpp_child" in part for part in p.cmdline())]
"""


@KERNELS
@pytest.mark.model
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(Variant("", True, None), id="newest"),
        pytest.param(Variant("6.31", False, None), id="6.31", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_ten_runs_of_the_config_cell_leave_one_child(that_kernel):
    """The embedded model is shared by the clients before and after; cells' modules stay."""
    kernel = that_kernel()
    kernel.run(CHILDREN)
    kernel.run("%llm_config --demo")
    kernel.run("%%llm_module short\n+++\noptions = { max_tokens = 4 }\n+++\n{{ x }}")
    for _ in range(10):
        kernel.run("app = %llm_config --demo", timeout=60)
        kernel.run("%%aitoolman short\nHello", timeout=60)
    assert kernel.run("print(len(children()))").stream == "1\n"


@pytest.mark.long
@pytest.mark.timeout(120)
def test_the_oldest_ipython_works(new_kernel, fake_llm, tmp_path):
    """IPython 8.24: the awaiting magic, the blocking one, rich display and completion."""
    path = overlay(tmp_path / "packages", "ipython==8.24.0")
    kernel = new_kernel(env={"PYTHONPATH": path})
    assert kernel.run("import IPython; print(IPython.__version__)").stream == "8.24.0\n"
    fake_llm.script("fine")
    assert "fine" in kernel.run("%%aitoolman summary -o r\nx").text
    assert "text/html" in kernel.run("r").shown[0]
    assert "fine" in kernel.run("%%time\n%%aitoolman summary\nx").text


def test_a_service_is_one_more_source(new_kernel, fake_llm, provider_config, tmp_path):
    """`--endpoint`: streamed through the server, the token from the environment alone."""
    from aitoolman._loops import background
    from aitoolman._service.server import LLMServer

    provider_config["server"] = {
        "zmq_router_rpc": "tcp://127.0.0.1:*",
        "zmq_auth_token": "a-token-for-this-test",
    }
    provider_config["ledger"] = {"path": str(tmp_path / "audit.db")}

    def on_loop(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, background.loop).result(10)

    async def start():
        server = LLMServer(provider_config)
        await server.start()
        return server

    server = on_loop(start())
    try:
        kernel = new_kernel(setup=False, env={"AITOOLMAN_TOKEN": "a-token-for-this-test"})
        kernel.run(f"%load_ext aitoolman\n%llm_config prompts.toml --endpoint {server.endpoint}")
        fake_llm.script(Reply("through the server", reasoning="Hm."))
        cell = kernel.run("%%aitoolman summary\nx")
        assert cell.text == "through the server"
        assert "a-token" not in cell.everything + kernel.run("%llm_config").everything
    finally:
        on_loop(server.close(0))


def test_a_key_is_asked_for_only_on_request(new_kernel, tmp_path, fake_llm):
    """Without --ask a missing key is a clear error when it is needed; the cell never holds one."""
    kernel = new_kernel(setup=False)
    (tmp_path / "llm.toml").write_text(
        f'[api.fast]\nurl = "{fake_llm.openai_url}"\nmodel = "m"\napi_key = "${{MISSING_KEY}}"\n'
    )
    kernel.run("%load_ext aitoolman\n%llm_config llm.toml\n")
    kernel.run("%%llm_module m\n{{ x }}")
    cell = kernel.run("%%aitoolman m\nhello", ok=False)
    assert "MISSING_KEY" in cell.everything
    kernel.run(
        "import getpass; getpass.getpass = lambda prompt: 'sk-typed-0123456789'\n"
        "app = %llm_config llm.toml --ask"
    )
    fake_llm.script("ok")
    cell = kernel.run("%%aitoolman m\nhello")
    assert fake_llm.requests[-1].headers["authorization"] == "Bearer sk-typed-0123456789"
    assert "sk-typed" not in cell.everything + kernel.run("app").everything
