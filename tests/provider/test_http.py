"""The HTTP seam: foreign errors in one clear sentence, hostile servers, connections kept well."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import re
import socket
import ssl
import subprocess

import pytest
from multidict import CIMultiDict
from yarl import URL

from aitoolman._provider import http
from aitoolman._provider.errors import TransportError
from aitoolman._provider.http import Destination, HttpClient

from ..fake_llm import Reply


@pytest.fixture
async def client():
    client = HttpClient()
    yield client
    await client.close()


async def fetch(client, url, body=b"{}", headers=None):
    async with client.exchange(Destination(URL(url), headers or {}), body) as reply:
        return reply.status, await reply.read()


@contextlib.asynccontextmanager
async def raw_server(*answers: bytes, close=True):
    """A server that answers each request on a connection with the next bytes; gives its URL."""
    seen = []

    async def serve(reader, writer):
        seen.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for answer in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
        if close:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1", seen
        for writer in seen:
            writer.close()


@contextlib.asynccontextmanager
async def listening_server(*, reads_body=True):
    """A server that answers 200 with what it was sent, or 413 before it reads a body."""
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        status = b"413 Too Large"
        if reads_body:
            status, head = b"200 OK", head + await reader.readexactly(length)
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(head), head))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_refused_connection_names_host_and_port(client):
    """One sentence, the cause attached, no billing."""
    port = free_port()
    with pytest.raises(
        TransportError, match=f"127.0.0.1:{port} cannot be reached .*refused"
    ) as info:
        await fetch(client, f"http://127.0.0.1:{port}/")
    assert info.value.retry
    assert info.value.unbilled
    assert isinstance(info.value.__cause__, OSError)


async def test_an_unknown_host_is_a_matter_of_names(client):
    """A typing error in the host says so."""
    with pytest.raises(
        TransportError, match=r"the host of no-such-host\.invalid:443 was not found"
    ):
        await fetch(client, "https://no-such-host.invalid/v1")


async def test_https_at_a_plain_server_asks_whether_it_speaks_https(client):
    """The usual slip with local servers."""

    async def plain(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match="does the server speak https"):
            await fetch(client, f"https://127.0.0.1:{port}/")


async def test_a_host_that_never_answers_is_given_up(client, monkeypatch):
    """Neither TCP nor TLS may take for ever, whatever the request's own timeout."""
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.1)
    writers = []
    server = await asyncio.start_server(lambda _, w: writers.append(w), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match=r"cannot be reached .no connection in time"):
            await fetch(client, f"https://127.0.0.1:{port}/")
        for writer in writers:
            writer.close()


@pytest.fixture
def own_certificate(tmp_path):
    """A server's TLS context with a certificate that nobody signed."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_an_untrusted_certificate_is_final(client, own_certificate):
    """Asking again does not make a certificate better."""
    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=own_certificate)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match="is not trusted") as info:
            await fetch(client, f"https://127.0.0.1:{port}/")
    assert not info.value.retry


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "closed it without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "broke off"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "(broke off|no valid HTTP)",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 50_000 + b"\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "damaged"),
        (b"\x00\xff" * 400, "no valid HTTP"),
    ],
    ids=[
        "nothing",
        "short",
        "bad chunk",
        "ssh",
        "long header",
        "many headers",
        "bad gzip",
        "noise",
    ],
)
async def test_a_broken_answer_is_one_sentence(client, answer, text):
    """Whatever a server sends instead of HTTP, nothing foreign comes out, and no page of bytes."""
    async with raw_server(answer) as (url, _):
        with pytest.raises(TransportError, match=text) as info:
            await fetch(client, url)
    assert len(str(info.value)) < 250
    assert str(info.value).isprintable()


async def test_a_body_without_end_is_cut_off(client, monkeypatch):
    """An endless answer fills no memory."""
    monkeypatch.setattr(http, "MAX_BODY", 100_000)
    async with raw_server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500_000) as (url, _):
        with pytest.raises(TransportError, match="larger than") as info:
            await fetch(client, url)
    assert not info.value.retry


async def test_a_compressed_bomb_is_cut_off(client, monkeypatch):
    """The bound holds after decompression."""
    monkeypatch.setattr(http, "MAX_BODY", 1_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    async with raw_server(head.encode() + bomb) as (url, _):
        with pytest.raises(TransportError, match=r"(larger than|damaged|broke off)"):
            await fetch(client, url)


async def test_a_compressed_answer_is_read(client):
    """A proxy may compress although nobody asked for it."""
    data = gzip.compress(b'{"ok": 1}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
    async with raw_server(head.encode() + data) as (url, _):
        assert await fetch(client, url) == (200, b'{"ok": 1}')


async def test_a_redirect_is_not_followed(make_desk, fake_llm):
    """The key does not travel to another host; the sentence says what to set."""
    there = {"Location": "https://elsewhere.example/v1"}
    fake_llm.script(Reply(status=307, headers=there))
    response = await make_desk().ask()
    assert "HTTP 307" in response.error_text
    assert "https://elsewhere.example/v1" in response.error_text
    assert "`url`" in response.error_text
    assert fake_llm.requests_seen == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_quietly(client):
    """Kept alive, closed by the server when used again: sent once more, on a new connection."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with raw_server(ok) as (url, seen):
        assert await fetch(client, url) == (200, b"ok")
        # The server closes now; before the client hears of it, it sends again.
        assert await fetch(client, url) == (200, b"ok")
    assert len(seen) == 2


async def test_a_new_connection_that_is_dropped_is_not_resent(client):
    """A server that took the request and died is an attempt of its own, for the retry owner."""
    async with raw_server(b"") as (url, seen):
        with pytest.raises(TransportError):
            await fetch(client, url)
    assert len(seen) == 1


async def test_leaving_before_the_end_closes_the_connection(client, fake_llm):
    """An answer that was not read whole is no connection for the next."""
    fake_llm.script(Reply("word " * 100, chunk_delay=0.01))
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
    there = Destination(URL(fake_llm.openai_url), {"Content-Type": "application/json"})
    async with client.exchange(there, body) as reply:
        assert await reply.block()
    await fake_llm.reaches(lambda server: server.open_connections == 0)


async def test_the_proxy_of_the_environment_is_used(monkeypatch, client):
    """``http_proxy`` counts, ``no_proxy`` too; nothing of ``.netrc`` is sent."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy"
    async with raw_server(answer) as (proxy, _):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "direct.example")
        assert await fetch(client, "http://vendor.invalid/v1") == (200, b"proxy")
        for url in ("http://direct.example/", "http://127.0.0.1:9/", "http://localhost/"):
            assert http.environment_proxy(URL(url)) is None


async def test_cookies_of_a_server_are_not_sent_back(client):
    """Requests of different users share connections, not sessions."""
    first = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok"
    heads = []

    async def serve(reader, writer):
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(2)
            writer.write(first)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await fetch(client, url)
        await fetch(client, url)
    assert b"cookie" not in heads[1].lower()


async def test_a_large_body_arrives_whole(client):
    """It is sent bit by bit, the last one smaller than the others."""
    body = bytes(range(256)) * 9000
    async with listening_server() as port:
        status, heard = await fetch(client, f"http://127.0.0.1:{port}/", body)
    assert status == 200
    assert heard.endswith(b"\r\n\r\n" + body)


async def test_a_large_body_that_is_refused_early_is_not_sent_to_its_end(client):
    """The refusal is heard although the server reads no further; the connection is given up."""
    async with listening_server(reads_body=False) as port:
        for _ in range(2):
            status, _ = await fetch(client, f"http://127.0.0.1:{port}/", bytes(50_000_000))
            assert status == 413


async def test_an_announcement_is_no_answer(client):
    """What comes after a 100 or 103 counts."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with raw_server(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (url, _):
        assert await fetch(client, url) == (200, b"ok")


async def test_a_user_in_the_address_is_sent_as_a_header(client):
    """As basic authorization, and neither in the path nor in the Host header."""
    async with listening_server() as port:
        _, heard = await fetch(client, f"http://me:pass%20word@127.0.0.1:{port}/v1?a=b")
    lines = heard.decode().split("\r\n")
    assert lines[:2] == ["POST /v1?a=b HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    assert f"Authorization: Basic {base64.b64encode(b'me:pass word').decode()}" in lines


async def test_two_ways_to_say_who_asks_are_one_too_many(client):
    """Nobody could tell which of them counts."""
    url, headers = "http://me:password@127.0.0.1:9/", {"authorization": "Bearer my-key"}
    with pytest.raises(TransportError, match=r"names a user, and .* Authorization") as info:
        await fetch(client, url, headers=CIMultiDict(headers))
    assert not info.value.retry
    assert not re.search("password|my-key", str(info.value))


async def test_a_header_with_a_line_end_is_not_sent(client):
    """It would be two headers, the second one somebody else's."""
    async with listening_server() as port:
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(TransportError, match="a header holds a control character") as info:
            await fetch(client, url, headers={"X-Title": "secret\r\nX-Evil: 1"})
        assert (await fetch(client, url))[0] == 200
    assert not info.value.retry
    assert "secret" not in str(info.value)


async def test_the_length_of_a_body_is_told_once(client):
    """Configured headers cannot make a request that server and proxy read in two ways."""
    headers = {"Content-Length": "0", "transfer-encoding": "chunked", "X-Title": "é"}
    async with listening_server() as port:
        _, heard = await fetch(client, f"http://127.0.0.1:{port}/", b"12345", headers)
    head, body = heard.lower().split(b"\r\n\r\n")
    assert head.count(b"content-length") == 1
    assert b"content-length: 5" in head
    assert b"transfer-encoding" not in head
    assert "x-title: é".encode() in head
    assert body == b"12345"


async def test_a_proxy_hears_who_asks_and_for_what(monkeypatch, client):
    """Its user as a header of its own, the whole address without the vendor's user."""
    async with listening_server() as port:
        monkeypatch.setenv("http_proxy", f"http://us:them@127.0.0.1:{port}")
        _, heard = await fetch(client, "http://me:it@vendor.invalid/v1")
    lines = heard.decode().split("\r\n")
    assert lines[:2] == ["POST http://vendor.invalid/v1 HTTP/1.1", "Host: vendor.invalid"]
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'us:them').decode()}" in lines
    assert f"Authorization: Basic {base64.b64encode(b'me:it').decode()}" in lines


async def test_an_encrypted_answer_is_read(client, own_certificate, monkeypatch):
    """TLS all the way, on a connection that is used twice."""
    served = []

    async def serve(reader, writer):
        served.append(writer)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    monkeypatch.setattr(HttpClient, "tls", trusting)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=own_certificate)
    async with server:
        there = Destination(URL(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), {})
        for _ in range(2):
            async with client.exchange(there, b"{}") as reply:
                assert await reply.read() == b"ok"
    assert len(served) == 1


async def test_what_nobody_asked_for_is_no_answer_to_the_next_request(client):
    """A second answer that comes late, on a connection kept for later, is given up with it."""
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await fetch(client, url) == (200, b"own")
        writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        [[(idle, _)]] = client._connector._conns.values()
        while not idle.should_close:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        assert await fetch(client, url) == (200, b"own")
        await client.close()
