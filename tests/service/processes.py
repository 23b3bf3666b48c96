"""Servers as processes of their own, for tests that kill and freeze them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from .conftest import TOKEN

__all__ = ["ServerProcess", "audit_problems", "free_port"]

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port below those that outgoing connections get, so that none of them takes it meanwhile."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """``aitoolman server`` in a folder of its own."""

    def __init__(self, folder: Path, vendor_url: str, *, server: str = "", more: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.pub_endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.ledger = folder / ".aitoolman" / "ledger.db"
        (folder / "llm_config.toml").write_text(
            f"""
[server]
zmq_router_rpc = "{self.endpoint}"
zmq_pub_event = "{self.pub_endpoint}"
zmq_auth_token = "{TOKEN}"
{server}
[default]
timeout = 20
parallel = 10
max_retries = 0
[api.fast]
url = "{vendor_url}"
model = "fast-1"
{more}
"""
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> ServerProcess:
        command = [sys.executable, "-W", "error", "-m", "aitoolman", "server"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=log,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        assert self.line.startswith("aitoolman server ready"), (self.folder / "log").read_text()
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once; again is fine."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._collect()

    def terminate(self, timeout: float = 15) -> int:
        assert self.process is not None
        self.signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self._collect()
        return code

    def _collect(self) -> None:
        assert self.process is not None
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def rows(self) -> list[dict[str, Any]]:
        """The audit, in order."""
        with contextlib.closing(sqlite3.connect(self.ledger)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM calls ORDER BY seq")]


def audit_problems(rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong with an audit of a server that was started after its last kill."""
    problems = []
    numbers = [row["seq"] for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        problems.append("the numbers have gaps")
    open_requests: dict[str, int] = {}
    for row in rows:
        name, kind = row["request_id"], row["kind"]
        if kind == "request":
            open_requests[name] = open_requests.get(name, 0) + 1
        elif kind in ("call", "cut"):
            open_requests[name] = open_requests.get(name, 0) - 1
    problems += [f"{name}: {count} unanswered" for name, count in open_requests.items() if count]
    return problems
