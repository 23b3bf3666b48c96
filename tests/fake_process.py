"""The scripted server as a process of its own, for tests that kill or load what is around it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .vendors.reply import Reply

__all__ = ["FakeLLMProcess"]

ROOT = Path(__file__).resolve().parent.parent


class FakeLLMProcess:
    """``python -m tests.fake_llm`` with the controls of `FakeLLM` that fit over HTTP."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fake_llm", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the scripted server did not start")

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1/chat/completions"

    @property
    def anthropic_url(self) -> str:
        return f"{self.url}/v1/messages"

    def _call(self, action: str, data: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_fake/{action}", json.dumps(data).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def stats(self) -> dict[str, Any]:
        return self._call("stats")  # type: ignore[no-any-return]

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """What was seen of the requests with a number above `since`."""
        return self._call("requests", since)  # type: ignore[no-any-return]

    def script(self, replies: Reply | list[Reply]) -> None:
        """Replies of plain values: no gates, no bytes."""
        plain = asdict(replies) if isinstance(replies, Reply) else [asdict(r) for r in replies]
        self._call("script", plain)

    def set(self, **settings: Any) -> None:
        """Change settings such as ``capacity=10``."""
        self._call("set", settings)

    def release(self) -> None:
        self._call("release")

    def wait_for(self, condition: Callable[[dict[str, Any]], Any], timeout: float = 10.0) -> None:
        """Wait until `condition` of the stats holds."""
        end = time.monotonic() + timeout
        while not condition(self.stats()):
            if time.monotonic() > end:
                raise AssertionError(f"the server never got there: {self.stats()}")
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> FakeLLMProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
