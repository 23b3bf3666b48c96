"""Real kernels for tests: started, fed with cells, interrupted, watched, and ended."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec

from ..fake_llm import FakeLLM

ROOT = Path(__file__).resolve().parent.parent.parent

__all__ = ["Cell", "Kernel", "interrupted", "stray"]


@dataclass
class Cell:
    """What came of a cell."""

    code: str
    message: str
    status: str = ""
    ename: str = ""
    evalue: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    """What a pager would show."""
    idle: bool = False
    replied: bool = False

    @property
    def stream(self) -> str:
        """Everything printed, errors of usage included."""
        return "".join(o["text"] for o in self.outputs if o["type"] == "stream")

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The data of what the cell displays at last, in order; updates are put in their place."""
        found: dict[Any, dict[str, Any]] = {}
        for index, output in enumerate(self.outputs):
            if "data" in output:
                found[output.get("display_id") or index] = output["data"]
        return list(found.values())

    @property
    def traceback(self) -> list[str]:
        """Lines of the error's traceback."""
        return next((o["traceback"] for o in self.outputs if o["type"] == "error"), [])

    @property
    def text(self) -> str:
        """All plain text that is shown."""
        return "\n".join(data.get("text/plain", "") for data in self.shown)

    @property
    def everything(self) -> str:
        """Every byte that would be saved."""
        return repr((self.outputs, self.evalue))


class _Manager(KernelManager):
    """Starts ipykernel with a Python of our choice."""

    python = sys.executable

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [self.python, "-W", "ignore", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="test", language="python")


class Kernel:
    """One kernel process; use it with ``with``."""

    def __init__(
        self, cwd: Path, *, env: dict[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.manager = _Manager()
        self.manager.python = python
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(cwd / ".ipython")}
        self.manager.start_kernel(cwd=str(cwd), env=environment | (env or {}))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.cells: dict[str, Cell] = {}

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid  # type: ignore[union-attr]

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def start(self, code: str, *, stop_on_error: bool = True) -> Cell:
        """Send a cell and return at once."""
        message = self.client.execute(code, stop_on_error=stop_on_error)
        cell = self.cells[message] = Cell(code, message)
        return cell

    def run(self, code: str, timeout: float = 20, *, ok: bool = True) -> Cell:
        """Run a cell to its end."""
        return self.finish(self.start(code), timeout, ok=ok)

    def finish(self, cell: Cell, timeout: float = 20, *, ok: bool | None = None) -> Cell:
        """Wait for a cell's end; `ok` says how it has to end, None: either way."""
        self.until(lambda: cell.idle and cell.replied, timeout)
        if ok is not None:
            assert (cell.status == "ok") == ok, f"{cell.code}\n{cell.status}: {cell.everything}"
        return cell

    def until(self, condition: Any, timeout: float = 20) -> None:
        """Take messages in until `condition` holds."""
        end = time.monotonic() + timeout
        while not condition():
            self._take()
            assert time.monotonic() < end, f"never came: {list(self.cells.values())}"

    def _take(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._output(self.client.get_iopub_msg(timeout=0.02))
        with contextlib.suppress(queue.Empty):
            while True:
                self._reply(self.client.get_shell_msg(timeout=0))

    def _reply(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id"))
        if cell is not None and message["msg_type"] == "execute_reply":
            content = message["content"]
            cell.status = content["status"]
            cell.ename, cell.evalue = content.get("ename", ""), content.get("evalue", "")
            cell.pages = content.get("payload", [])
            cell.replied = True

    def _output(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id"))
        if cell is None:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            cell.idle = True
        elif kind == "stream":
            cell.outputs.append({"type": "stream", "text": content["text"]})
        elif kind == "error":
            cell.outputs.append({"type": "error", **content})
        elif kind in ("display_data", "update_display_data", "execute_result"):
            display_id = content.get("transient", {}).get("display_id")
            cell.outputs.append({"type": kind, "data": content["data"], "display_id": display_id})
        elif kind == "comm_open" or kind == "comm_msg":
            cell.outputs.append({"type": kind, "content": content})

    # The Stop button

    def button(self, cell: Cell) -> str | None:
        """The comm id of a Stop button that the cell has opened."""
        for output in cell.outputs:
            if output["type"] == "comm_open":
                state = output["content"]["data"].get("state", {})
                if state.get("_model_name") == "ButtonModel":
                    return str(output["content"]["comm_id"])
        return None

    def click(self, comm_id: str, subshell: str | None = None) -> None:
        """Click a button, as a front end does: on the main shell, or on a subshell."""
        message = self.client.session.msg(
            "comm_msg",
            {"comm_id": comm_id, "data": {"method": "custom", "content": {"event": "click"}}},
        )
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    def subshell(self) -> str:
        """A thread beside the main shell, such as JupyterLab makes for widgets."""
        self.client.control_channel.send(self.client.session.msg("create_subshell_request", {}))
        reply = self.client.get_control_msg(timeout=10)
        return str(reply["content"]["subshell_id"])


HEALTH = """
async def _there(): return len(asyncio.all_tasks()) - 1
for _ in range(20):  # what has ended may still be closing its connection
    there = asyncio.run_coroutine_threadsafe(_there(), background.loop).result(5)
    if not there: break
    await asyncio.sleep(0.05)
print(len(asyncio.all_tasks()), there)
"""


class Strays(NamedTuple):
    """How many tasks live on each loop of a kernel."""

    own: int
    background: int

    def among(self, before: Strays) -> bool:
        """True where there are no more than before; one of those may have ended meanwhile."""
        return self.own <= before.own and self.background <= before.background


def stray(kernel: Kernel) -> Strays:
    """The tasks that live on the kernel's loop and on the background loop."""
    return Strays(*map(int, kernel.run(HEALTH).stream.split()))


def interrupted(kernel: Kernel, cell: Cell, fake_llm: FakeLLM, seconds: float = 0.5) -> Cell:
    """Interrupt a running cell; its request is closed at the server within half a second."""
    began = time.monotonic()
    kernel.interrupt()
    fake_llm.wait_for(lambda s: s.open_requests == 0, timeout=3)
    assert time.monotonic() - began < seconds
    kernel.finish(cell, ok=False)
    return cell
