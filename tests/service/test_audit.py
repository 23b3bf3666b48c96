"""The audit: one numbered sequence, written before it is published, with no gap for a follower."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3

import pytest

from aitoolman import LLMApiRequestError, LLMZmqClient, Message
from aitoolman._ledger.writer import LedgerWriter
from aitoolman._service.archive import AuditArchive
from aitoolman._service.figures import Figures, gap_line, row_line
from aitoolman._service.follower import AuditFollower, Gap
from aitoolman._service.security import token_keys
from aitoolman._transport import wire

from ..fake_llm import Reply
from .conftest import OTHER_TOKEN, TOKEN, until

HI = [Message("user", "a secret prompt")]
KEYS = token_keys(TOKEN)


async def ask(client, messages=HI, **options):
    request = await client.request("fast", messages, **options)
    return await request.response


async def rows_of(server):
    return (await server.audit.page(0, 1_000)).events


async def follow(follower, wanted):
    """The items up to the one for which `wanted(items)` holds."""
    items = []
    async with asyncio.timeout(8):
        async for item in follower.rows():
            items.append(item)
            if wanted(items):
                break
    return items


def numbers(items):
    return [item.seq for item in items]


async def test_everything_that_happens_is_a_row_of_one_sequence(fake_llm, server, client):
    """Start, requests, answers, cancels and events; the texts in full."""
    fake_llm.script([Reply("an answer"), Reply("x", hang=True), Reply(status=400, error="no")])
    await ask(client, context_id="talk")
    request = await client.request("fast", HI)
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    await client.cancel(request.request_id)
    await request.response
    await ask(client)
    await client.audit_event("talk", "order", number=3, words="a b")
    rows = await rows_of(server)
    assert numbers(rows) == list(range(1, len(rows) + 1))
    kinds = [row.values["kind"] for row in rows]
    assert kinds == [
        "start", "request", "call", "request", "cancel", "call", "request", "call", "event",
    ]  # fmt: skip
    asked, answered = rows[1].values, rows[2].values
    assert json.loads(asked["fields"])["messages"][0]["content"] == "a secret prompt"
    assert json.loads(answered["fields"])["response_text"] == "an answer"
    assert asked["request_id"] == answered["request_id"]
    assert answered["context"] == "talk"
    assert json.loads(rows[-1].values["fields"]) == {"number": 3, "words": "a b"}


async def test_metadata_keeps_every_word_out(fake_llm, serve, server_config):
    """Neither file nor publication hold prompt, answer, error text or words of events."""
    server_config["server"]["audit"] = "metadata"
    fake_llm.script([Reply("a secret answer"), Reply(status=400, error="a secret error")])
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as client,
        AuditFollower(server.pub_endpoint, keys=KEYS) as follower,
    ):
        await until(lambda: follower.beat)
        await ask(client)
        await ask(client)
        await client.audit_event("talk", "order", number=3, words="a secret word")
        items = await follow(follower, lambda items: items[-1].values["kind"] == "event")
    assert items[1].values["completion_tokens"] > 0
    assert json.loads(items[-1].values["fields"]) == {"number": 3}
    assert "secret" not in repr(items)
    await server.close(0)
    assert b"secret" not in server.ledger_path.read_bytes()


async def test_no_key_or_address_enters_the_audit(fake_llm, server, client):
    """The vendor's key, its address and the clients' token are in no row."""
    fake_llm.script([Reply(status=401, error="bad key sk-test-key"), Reply("x")])
    await ask(client)
    await ask(client)
    shown = repr(await rows_of(server))
    assert "sk-test-key" not in shown
    assert TOKEN not in shown
    assert str(fake_llm.port) not in shown


async def test_a_follower_gets_every_row_once_in_order(fake_llm, server, client):
    """What is published arrives in the order of its numbers."""
    async with AuditFollower(server.pub_endpoint, keys=KEYS) as follower:
        await until(lambda: follower.beat)
        await asyncio.gather(*(ask(client) for _ in range(100)))
        items = await follow(follower, lambda items: len(items) >= 200)
    assert numbers(items) == list(range(items[0].seq, items[0].seq + 200))


async def test_a_follower_that_missed_rows_fetches_them(fake_llm, server, client):
    """Rows lost on the way, in the middle and at the end, come from the server."""
    async with AuditFollower(server.pub_endpoint, keys=KEYS) as follower:
        await until(lambda: follower.beat)
        lose = follower._on_event
        follower._on_event = lambda event: lose(event) if event.seq % 7 == 0 else None
        await asyncio.gather(*(ask(client) for _ in range(50)))
        items = await follow(follower, lambda items: len(items) >= 100)
    first = items[0].seq
    assert numbers(items) == list(range(first, first + 100))


async def test_what_zeromq_drops_at_its_high_water_mark_is_fetched(
    fake_llm, serve, server_config, monkeypatch
):
    """Rows that were published and lost, as nobody read them in time, arrive all the same."""
    monkeypatch.setattr("aitoolman._service.server.HIGH_WATER", 2)
    monkeypatch.setattr("aitoolman._service.follower.HIGH_WATER", 2)
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as client,
        AuditFollower(server.pub_endpoint, keys=KEYS) as follower,
    ):
        await until(lambda: follower.beat)
        heard = []
        take = follower._on_event
        follower._on_event = lambda event: (heard.append(event.seq), take(event))
        words = "x" * 50_000
        await asyncio.gather(*(client.audit_event("c", "e", words=words) for _ in range(200)))
        items = await follow(follower, lambda items: len(items) >= 200)
    assert numbers(items) == list(range(items[0].seq, items[0].seq + 200))
    assert len(heard) < 200


async def test_a_follower_that_comes_late_starts_where_it_stopped(fake_llm, serve, server_config):
    """With the last number it has, a follower gets all since, over a restart of the server."""
    server = await serve()
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        for _ in range(10):
            await ask(client)
    await server.close(0)
    server = await serve()
    async with AuditFollower(server.pub_endpoint, server.endpoint, KEYS) as follower:
        follower.resume_from = lambda ledger: 5
        items = await follow(follower, lambda items: items[-1].seq >= 22)
    assert numbers(items) == list(range(6, 23))
    assert items[-1].values["kind"] == "start"


async def test_a_gap_that_cannot_be_fetched_is_shown(fake_llm, server, client):
    """Where the server cannot be asked, the numbers that are missing are told once."""
    async with AuditFollower(server.pub_endpoint, "tcp://127.0.0.1:1", KEYS) as follower:
        await until(lambda: follower.beat)
        take = follower._on_event
        follower._on_event = lambda event: take(event) if event.seq > 5 else None
        for _ in range(3):
            await ask(client)
        items = await follow(follower, lambda items: len(items) >= 2)
    gap = items[0]
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, items[1].seq) == (2, 5, 6)
    assert "rows 2 to 5 are missing" in gap_line(gap)


async def test_a_follower_with_a_wrong_token_is_told_so(server):
    """Refusal is an error, not silence."""
    async with AuditFollower(server.pub_endpoint, keys=token_keys(OTHER_TOKEN)) as follower:
        with pytest.raises(LLMApiRequestError, match="refused the token"):
            await follow(follower, bool)


async def test_a_follower_without_a_token_is_told_so(server):
    """A plain listener at an encrypted server gets a sentence."""
    async with AuditFollower(server.pub_endpoint) as follower:
        with pytest.raises(LLMApiRequestError, match="wants a token"):
            await follow(follower, bool)


async def test_servers_can_come_to_the_monitor(fake_llm, serve, server_config, tmp_path):
    """`zmq_pub_event_type = "connect"`: the monitor binds, the server connects, still encrypted."""
    endpoint = f"ipc://{tmp_path}/audit"
    server_config["server"] |= {"zmq_pub_event": endpoint, "zmq_pub_event_type": "connect"}
    async with AuditFollower(endpoint, keys=KEYS, bind=True) as follower:
        server = await serve()
        await until(lambda: follower.beat)
        async with LLMZmqClient(server.endpoint, TOKEN) as client:
            await ask(client)
        items = await follow(follower, lambda items: items[-1].values["kind"] == "call")
    assert [item.values["kind"] for item in items][-2:] == ["request", "call"]


async def test_a_row_is_written_before_it_is_published(fake_llm, server, client):
    """Each number that a follower sees is in the file already."""
    seen = []
    publish = server.audit._publish

    def check(event):
        with contextlib.closing(sqlite3.connect(server.ledger_path)) as db:
            seen.append(db.execute("SELECT kind FROM calls WHERE seq=?", (event.seq,)).fetchone())
        publish(event)

    server.audit._publish = check
    await ask(client)
    await until(lambda: len(seen) == 2)
    assert seen == [("request",), ("call",)]


async def test_a_full_disk_costs_no_answer(fake_llm, server, client, caplog):
    """Rows that cannot be written are an error in the log; the client gets what was paid."""

    def broken(self, work):
        future = asyncio.get_running_loop().create_future()
        future.set_exception(sqlite3.OperationalError("database or disk is full"))
        return future

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LedgerWriter, "begin", broken)
        assert (await ask(client)).finish_reason == "stop"
    assert "disk is full" in caplog.text
    assert (await ask(client)).finish_reason == "stop"


# What a monitor shows and keeps


def call_event(**values):
    known = {
        "kind": "call", "time": 0.0, "client": "bob#1234", "model": "fast", "answered_by": "fast",
        "status": "stop", "queue_time": 0.5, "time_to_first_token": 0.25,
        "total_response_time": 1.5, "prompt_tokens": 10, "completion_tokens": 20, "cost": 0.001,
    }  # fmt: skip
    return wire.Event(7, known | values)


def test_a_line_holds_times_tokens_reason_and_error():
    """One line per call, whatever its error text looks like."""
    line = row_line(call_event(status="error: request", error="two\nlines", context="talk"))
    assert "\n" not in line
    for part in (
        "call", "bob#1234", "fast", "error:request", "queue=0.500s", "first=0.250s",
        "total=1.500s", "tokens=10+20", "cost=0.001", "context=talk", "error='two lines'",
    ):  # fmt: skip
        assert part in line


def test_lines_for_events_and_refusals_and_none_for_requests():
    """Custom events show name and fields; requests are shown with their answer only."""
    event = wire.Event(1, {"kind": "event", "time": 0.0, "event": "order", "fields": '{"n": 3}'})
    assert 'order {"n": 3}' in row_line(event)
    assert "unknown token" in row_line(
        wire.Event(1, {"kind": "auth", "time": 0.0, "error": "came with an unknown token"})
    )
    assert row_line(wire.Event(1, {"kind": "request", "time": 0.0})) is None


def test_figures_are_by_client_and_model():
    """Sessions of one client are summed; errors, tokens and costs count."""
    figures = Figures()
    figures.add(call_event())
    figures.add(call_event(client="bob#9999", status="error"))
    figures.add(call_event(client="eve#1"))
    table = figures.table()
    assert [row[:3] for row in table] == [["bob", "fast", "2"], ["eve", "fast", "1"]]
    bob = dict(zip(Figures.TITLES, table[0], strict=True))
    assert (bob["errors"], bob["in"], bob["out"], bob["first"]) == ("1", "20", "40", "0.25s")


async def test_the_archive_keeps_every_field(fake_llm, server, client, tmp_path):
    """All fields of a response, the request and events can be asked for in SQL, each once."""
    fake_llm.script(Reply("an answer", reasoning="hm"))
    await ask(client, context_id="talk")
    await client.audit_event("talk", "order", number=3)
    archive = AuditArchive(tmp_path / "mine.db")
    rows = await rows_of(server)
    for row in [*rows, *rows]:
        archive.add("ledger", row)
    assert archive.last("ledger") == len(rows)
    assert archive.last("another") == 0
    archive.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "mine.db")) as db:
        db.row_factory = sqlite3.Row
        (response,) = db.execute("SELECT * FROM responses").fetchall()
        (asked,) = db.execute("SELECT * FROM requests").fetchall()
        (event,) = db.execute("SELECT * FROM events").fetchall()
    from aitoolman import LLMProviderResponse

    fields = set(LLMProviderResponse.__dataclass_fields__) - {"stream_state", "exchange"}
    assert fields <= set(response.keys())
    assert (response["response_text"], response["response_reasoning"]) == ("an answer", "hm")
    assert response["finish_reason"] == "stop"
    assert response["total_tokens"] > 0
    assert response["context_id"] == "talk"
    assert json.loads(asked["messages"])[0]["content"] == "a secret prompt"
    assert json.loads(event["fields"]) == {"number": 3}
    assert (tmp_path / "mine.db").stat().st_mode & 0o077 == 0
