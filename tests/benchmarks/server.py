"""A server that answers with prepared bytes, as cheaply as asyncio can: it must not be the limit.

The model's name in the request says what comes back: ``plain`` a whole answer at once, ``slow`` the
same after 100 ms, ``tokens`` a stream of `TOKENS` events, one write each, ``paced`` a stream of a
few events, 2 ms apart.
"""

from __future__ import annotations

import asyncio
import json
import sys

TOKENS = 1000


def _event(content: str | None, finish: str | None = None) -> bytes:
    delta = {"content": content} if content is not None else {}
    chunk = {
        "id": "chatcmpl-123456789012345678901234567890",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "tokens-2025-08-07",
        "system_fingerprint": "fp_1234567890",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": None,
        "service_tier": "default",
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _whole() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1760000000,
            "model": "plain",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "billing"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13},
        }
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


PLAIN = _whole()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TOKEN = _chunked(_event(" token"))
STREAM_END = _chunked(_event(None, "stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Prepared(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            total = end + 4 + length
            if len(self.buffer) < total:
                return
            body, self.buffer = self.buffer[end + 4 : total], self.buffer[total:]
            self.answer(body)

    def answer(self, body):
        if b'"tokens"' in body:
            self.transport.write(STREAM_HEAD)
            self.next_token(TOKENS)
        elif b'"paced"' in body:
            self.transport.write(STREAM_HEAD + TOKEN)
            for n in range(1, 5):
                asyncio.get_running_loop().call_later(0.002 * n, self.transport.write, TOKEN)
            asyncio.get_running_loop().call_later(0.01, self.transport.write, STREAM_END)
        elif b'"slow"' in body:
            asyncio.get_running_loop().call_later(0.1, self.transport.write, PLAIN)
        else:
            self.transport.write(PLAIN)

    def next_token(self, left):
        if self.transport.is_closing():
            return
        if not left:
            self.transport.write(STREAM_END)
            return
        self.transport.write(TOKEN)
        asyncio.get_running_loop().call_soon(self.next_token, left - 1)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Prepared, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, sys.exit)  # the parent is gone
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
