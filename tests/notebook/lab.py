"""JupyterLab and a real browser for tests."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from .kernels import ROOT

__all__ = ["INSTALL", "Lab", "browser_path", "notebook_file"]

INSTALL = "apt-get install -y chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
OPEN = """async path => {
  while (!window.jupyterapp) await new Promise(r => setTimeout(r, 50));
  const app = window.jupyterapp; await app.restored;
  const w = await app.commands.execute('docmanager:open', {path});
  await w.context.ready; await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
}"""
WAIT = """async () => {
  while (!window.jupyterapp) await new Promise(r => setTimeout(r, 50));
  const app = window.jupyterapp; await app.restored;
  while (!app.shell.currentWidget?.sessionContext) await new Promise(r => setTimeout(r, 50));
  const w = app.shell.currentWidget; await w.context.ready; await w.sessionContext.ready;
  await w.sessionContext.session.kernel.info;
}"""
OPEN_WITHOUT_KERNEL = """async path => {
  while (!window.jupyterapp) await new Promise(r => setTimeout(r, 50));
  const app = window.jupyterapp; await app.restored;
  const w = await app.commands.execute('docmanager:open', {path, kernel: null});
  await w.context.ready;
}"""
RUN_ALL = """() => { window.runDone = null;
  jupyterapp.commands.execute('notebook:run-all-cells')
    .then(v => runDone = {ok: v}, e => runDone = {err: String(e)}); }"""


def browser_path() -> str | None:
    """Where Chromium is, if it is installed."""
    for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"):
        if Path(path).exists():
            return path
    return None


def notebook_file(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(notebook, path)


class Lab:
    """A server of JupyterLab (or of Notebook 7) with settings and folders of its own."""

    def __init__(
        self, root: Path, home: Path, env: dict[str, str], *, classic: bool = False
    ) -> None:
        self.classic = classic
        name = "notebook" if classic else "jupyterlab"
        self.token = secrets.token_hex(8)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.settings = home / "settings"
        self._setting("apputils-extension/notification", {
            "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True,
        })  # fmt: skip
        folders = {
            "JUPYTERLAB_SETTINGS_DIR": self.settings,
            "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
            "JUPYTER_CONFIG_DIR": home / "config",
            "JUPYTER_DATA_DIR": home / "data",
            "JUPYTER_RUNTIME_DIR": home / "runtime",
            "IPYTHONDIR": home / "ipython",
        }
        self._log = (home / "lab.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", name, "--no-browser", "--allow-root",
             "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
             f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={root}",
             "--expose-app-in-browser"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **env,
                 **{k: str(v) for k, v in folders.items()}},
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._wait()

    def _setting(self, name: str, values: dict[str, Any]) -> None:
        path = self.settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def theme(self, name: str) -> None:
        """Light or dark, for pages that are opened from now on."""
        self._setting("apputils-extension/themes", {"theme": f"JupyterLab {name}"})

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/api/status?token={self.token}").close()
                return
            except OSError:
                pass
            assert time.monotonic() < end, "JupyterLab did not start"
            time.sleep(0.1)

    def open(self, page: Any, path: str, *, kernel: bool = True) -> None:
        """Open a notebook in a page."""
        if self.classic:
            page.goto(f"{self.url}/notebooks/{path}?token={self.token}")
            page.evaluate(WAIT)
            return
        page.goto(f"{self.url}/lab?token={self.token}&reset")
        page.evaluate(OPEN if kernel else OPEN_WITHOUT_KERNEL, path)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)
        self._log.close()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=browser_path(), headless=True, args=FLAGS, timeout=60_000
        )
        yield browser
        browser.close()
