"""``aitoolman server``: share models with clients until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import TYPE_CHECKING

from .places import PROVIDER_FILES, provider_file

if TYPE_CHECKING:
    import argparse

    from .._service.server import LLMServer

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE",
        help="provider file with a table [server] (default:"
        f" {' or '.join(PROVIDER_FILES)})",
    )  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="log connections, requests and the raw traffic with vendors, keys masked",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 after a stop that was asked for."""
    from .._config import load_config
    from ._needs import need_zmq

    need_zmq()
    from .._service.server import LLMServer

    _log(arguments.verbose)
    server = LLMServer(load_config(arguments.config or provider_file() or PROVIDER_FILES[0]))
    for warning in server.guests.warnings:
        print(f"aitoolman server: {warning}", file=sys.stderr)
    asyncio.run(_serve(server))
    return 0


def _log(verbose: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aitoolman").setLevel(logging.DEBUG if verbose else logging.WARNING)


async def _serve(server: LLMServer) -> None:
    stopped = asyncio.Event()
    _on_signals(stopped)
    await server.start()
    print(_ready(server), flush=True)
    try:
        await stopped.wait()
        print("stopping: requests under way get to finish", file=sys.stderr, flush=True)
    finally:
        await server.close()


def _on_signals(stopped: asyncio.Event) -> None:
    """SIGTERM and Ctrl-C end the server gracefully; a second one at once."""
    loop = asyncio.get_running_loop()

    def stop(signum: int) -> None:
        stopped.set()
        loop.remove_signal_handler(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises instead
            loop.add_signal_handler(signum, stop, signum)


def _ready(server: LLMServer) -> str:
    parts = [f"aitoolman server ready: requests {server.endpoint}"]
    if server.pub_endpoint:
        parts.append(f"audit {server.pub_endpoint}")
    parts.append(f"ledger {server.ledger_path}")
    parts.append("open to this machine" if server.guests.open else "encrypted")
    return ", ".join(parts)
