"""Other kernels and other sources of models: ipykernel 6.31 and up, a child process, a service."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from ..vendors.reply import Reply
from .kernels import ROOT


def overlay(folder, *packages):
    """A folder with other versions of packages, to be put before the installed ones."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), *packages],
        check=True, timeout=120,
    )  # fmt: skip
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", ["6.31.0", "7.0.1", "7.2.0"])
@pytest.mark.parametrize("widgets", [True, False])
@pytest.mark.parametrize("nested", [None, "nest_asyncio2"])
def test_older_kernels_stream_queue_and_interrupt(
    new_kernel, fake_llm, tmp_path, version, widgets, nested
):
    """The magic, queued cells, %%time and interrupts; a Stop button only from 7 on."""
    path = overlay(tmp_path / "packages", "--no-deps", f"ipykernel=={version}")
    kernel = new_kernel(env={"PYTHONPATH": path})
    assert kernel.run("import ipykernel; print(ipykernel.__version__)").stream.strip() == version
    if not widgets:
        kernel.run("import sys; sys.modules['ipywidgets'] = None")
    if nested:
        kernel.run(f"import {nested}; {nested}.apply()")
    fake_llm.script(Reply("fine", chunk_delay=0.01))
    cells = [kernel.start("%%aitoolman summary\nx"), kernel.start("%%time\n%%aitoolman summary\ny")]
    for cell in cells:
        assert "fine" in kernel.finish(cell, ok=True).text
    fake_llm.script(Reply("word " * 2000, chunk_delay=0.005))
    cell = kernel.start("%%aitoolman summary\nx")
    kernel.until(lambda: fake_llm.requests and fake_llm.requests[-1].pieces > 5)
    assert (kernel.button(cell) is not None) == (widgets and version >= "7")
    began = time.monotonic()
    kernel.interrupt()
    fake_llm.wait_for(lambda s: s.open_requests == 0, timeout=3)
    assert time.monotonic() - began < 1
    kernel.finish(cell, ok=False)
    assert cell.traceback == ["Interrupted: interrupted"]
    fake_llm.script("fine again")
    assert "fine again" in kernel.run("%%aitoolman summary\nx").text


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


CHILDREN = """
import psutil
def children():
    found = psutil.Process().children(recursive=True)
    return [p for p in found if any("llamacpp_child" in part for part in p.cmdline())]
"""


@pytest.mark.model
@pytest.mark.timeout(120)
def test_ten_runs_of_the_config_cell_leave_one_child(new_kernel):
    """The embedded model is shared by the clients before and after; cells' modules stay."""
    kernel = new_kernel()
    kernel.run(CHILDREN)
    kernel.run("%llm_config --demo")
    kernel.run("%%llm_module short\n+++\noptions = { max_tokens = 4 }\n+++\n{{ x }}")
    for _ in range(10):
        kernel.run("app = %llm_config --demo", timeout=60)
        kernel.run("%%aitoolman short\nHello", timeout=60)
    assert kernel.run("print(len(children()))").stream == "1\n"


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
