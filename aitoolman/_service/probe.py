"""What a server speaks, seen from its greeting (ZMTP 3.1, RFC 37), where ZeroMQ does not say."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["greeting_mechanism"]

PROBE_SECONDS = 1.0
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f" + b"\x03"  # no mechanism, so that none can be refused


async def greeting_mechanism(endpoint: str) -> str | None:
    """``"NULL"``, ``"CURVE"`` ..., ``""`` where something else answers; None where nothing does."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await _open(endpoint)
            try:
                writer.write(_SIGNATURE)
                return _mechanism(await _read(reader))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return None


async def _open(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return await asyncio.open_unix_connection(rest)
    host, _, port = rest.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readexactly(64)
    except asyncio.IncompleteReadError as exc:
        return exc.partial


def _mechanism(greeting: bytes) -> str:
    if len(greeting) < 32 or greeting[0] != 0xFF or greeting[9] & 1 == 0:
        return ""
    return greeting[12:32].rstrip(b"\0").decode("ascii", "replace")
