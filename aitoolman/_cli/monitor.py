"""``aitoolman monitor``: a server's calls and events, live, in a pipe, or into an SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from .._datamodel import LLMConfigError
from ._needs import need_zmq

if TYPE_CHECKING:
    import argparse

    from .._service.archive import AuditArchive
    from .._service.follower import AuditFollower, Gap
    from .._service.security import TokenKeys
    from .._transport import wire

__all__ = ["add_arguments", "run"]

REDRAW_SECONDS = 1.0
LAST_LINES = 10
SILENT_SECONDS = 2.0
"""Nothing heard of a server for so long is worth a word where nothing is drawn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pub-endpoint", default="tcp://localhost:5556", metavar="ENDPOINT",
        help="where the server publishes its audit (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "-r", "--router-endpoint", metavar="ENDPOINT",
        help="where missed rows are fetched (default: as the server says)",
    )  # fmt: skip
    parser.add_argument(
        "-a", "--auth", metavar="TOKEN", help="the server's token (default: $AITOOLMAN_TOKEN)"
    )
    parser.add_argument(
        "--db-path",
        metavar="FILE",
        help="keep all of it, from the first row on, in this SQLite file",
    )
    parser.add_argument(
        "--bind", action="store_true",
        help='wait for servers with zmq_pub_event_type = "connect" at the endpoint',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Follow until interrupted; exit code 1 where the server refuses."""
    need_zmq()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_follow(arguments))
    return 0


async def _follow(arguments: argparse.Namespace) -> None:
    from .._service.follower import AuditFollower

    follower = AuditFollower(
        arguments.pub_endpoint,
        arguments.router_endpoint,
        _keys(arguments.auth),
        bind=arguments.bind,
    )
    archive = _archive(arguments.db_path)
    screen = _Screen() if sys.stdout.isatty() else _Lines()
    async with follower:
        drawing = asyncio.create_task(screen.keep_drawn(follower))
        try:
            await _pass_on(follower, archive, screen)
        finally:
            drawing.cancel()
            if archive is not None:
                archive.close()


def _keys(given: str | None) -> TokenKeys | None:
    from .._service.security import check_token, token_keys

    token = given or os.environ.get("AITOOLMAN_TOKEN")
    if not token:
        return None
    problem, _ = check_token(token, "auth")
    if problem is not None:
        raise LLMConfigError([problem])
    return token_keys(token)


def _archive(path: str | None) -> AuditArchive | None:
    if path is None:
        return None
    from .._service.archive import AuditArchive

    return AuditArchive(Path(path))


async def _pass_on(follower: AuditFollower, archive: AuditArchive | None, screen: _Lines) -> None:
    from .._service.follower import Gap

    if archive is not None:
        follower.resume_from = archive.last
    async for item in follower.rows():
        screen.show(item)
        if archive is None:
            continue
        if isinstance(item, Gap):
            archive.note_gap(follower.ledger, *item)
        else:
            archive.add(follower.ledger, item)
            if follower.is_level:
                archive.commit()


class _Lines:
    """One line per call and event."""

    def show(self, item: wire.Event | Gap) -> None:
        line = _line(item)
        if line is not None:
            print(line, flush=True)

    async def keep_drawn(self, follower: AuditFollower) -> None:
        """Nothing to draw; but a silence is explained, apart from the lines."""
        await asyncio.sleep(SILENT_SECONDS)
        if follower.beat is None:
            print(f"waiting for {follower.pub_endpoint}", file=sys.stderr, flush=True)


class _Screen(_Lines):
    """A table that stays, with the last lines below it."""

    def __init__(self) -> None:
        from .._service.figures import Figures

        self._figures = Figures()
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def show(self, item: wire.Event | Gap) -> None:
        from .._service.follower import Gap

        line = _line(item)
        if line is not None:
            self._last.append(line)
        if not isinstance(item, Gap):
            self._figures.add(item)

    async def keep_drawn(self, follower: AuditFollower) -> None:
        while True:
            self._draw(follower)
            await asyncio.sleep(REDRAW_SECONDS)

    def _draw(self, follower: AuditFollower) -> None:
        print("\x1b[H\x1b[2J" + "\n".join(self.lines(follower)), flush=True)

    def lines(self, follower: AuditFollower) -> list[str]:
        """What the screen shows."""
        beat = follower.beat
        state = (
            "waiting for the server"
            if beat is None
            else (f"{beat.running} running, {beat.queue} in line, row {beat.head}")
        )
        head = f"{follower.pub_endpoint}  {time.strftime('%H:%M:%S')}  {state}"
        cells = [list(self._figures.TITLES), *self._figures.table()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        table = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        width = shutil.get_terminal_size((120, 24)).columns
        return [line[:width] for line in [head, "", *table, "", *self._last]]


def _line(item: wire.Event | Gap) -> str | None:
    from .._service.figures import gap_line, row_line
    from .._service.follower import Gap

    return gap_line(item) if isinstance(item, Gap) else row_line(item)
