"""What each mode reuses, sends and records."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat

import pytest

from aitoolman import (
    LLMApplication,
    LLMConfigError,
    LLMLedgerClient,
    LLMLocalClient,
    LLMProviderRequest,
    LLMScriptedClient,
    MediaContent,
    Message,
    ScriptedReply,
)
from aitoolman._ledger.reader import Ledger

from .helpers import Echo, Sink, ask, counts, start

MODULES = {"module_default": {"model": "m"}, "module": {"a": {"template": {"user": "{{ x }}"}}}}


async def test_an_answer_is_reused_and_says_so(path, nothing_left):
    """The second identical call costs nothing, and carries the times and cost of the first."""
    inner = Echo(cost=0.5)
    async with LLMLedgerClient(inner, path) as client:
        first, second = await ask(client), await ask(client)
        assert (first.from_ledger, second.from_ledger) == (False, True)
        assert (second.response_text, second.cost) == (first.response_text, 0.5)
        assert second.start_time == first.start_time
        assert second.request_id != first.request_id
        assert len(inner.requests) == 1
        assert "ledger" in repr(second)
        assert "ledger" not in repr(first)
    rows = Ledger(path).calls()
    assert [(r.from_ledger, r.cost, r.status) for r in rows] == [(0, 0.5, "stop"), (1, 0.5, "stop")]
    assert "stop (ledger)" in repr(rows)


async def test_a_result_of_a_module_says_where_it_came_from(path):
    """`result.from_ledger` and its repr tell a reused answer."""
    async with LLMLedgerClient(Echo(), path) as client:
        app = LLMApplication(client, MODULES)
        results = [await app["a"](x="1"), await app["a"](x="1")]
    assert [r.from_ledger for r in results] == [False, True]
    assert "ledger" in repr(results[1])
    assert "ledger" not in repr(results[0])


@pytest.mark.parametrize("mode", ["record", "refresh"])
async def test_modes_that_ask_anew_record_every_answer(path, mode):
    """`record` and `refresh` send each call; `answers` keeps all of one fingerprint."""
    inner = Echo()
    async with LLMLedgerClient(inner, path, mode) as client:
        texts = [(await ask(client)).response_text for _ in range(3)]
    assert texts == ["1: hi", "2: hi", "3: hi"]
    assert counts(path) == {"answers": 3, "calls": 3, "claims": 0, "media": 0}
    async with LLMLedgerClient(inner, path) as client:
        assert (await ask(client)).response_text == "3: hi", "the newest is reused"


async def test_refresh_shares_a_request_under_way_and_record_does_not(path):
    """Five equal calls at once: one request in `refresh`, five in `record`."""
    for mode, expected in (("refresh", 1), ("record", 5)):
        inner = Echo()
        async with LLMLedgerClient(inner, path, mode) as client:
            await asyncio.gather(*[ask(client, mode) for _ in range(5)])
        assert len(inner.requests) == expected


async def test_off_is_nothing_but_the_client_below(path):
    """Mode `off` sends everything and makes no file; the last calls are in memory."""
    inner = Echo()
    async with LLMLedgerClient(inner, path, "off") as client:
        app = LLMApplication(client, MODULES)
        await app["a"](x="1")
        await app["a"](x="1")
        await client.audit_event("c", "signed", by="me")
        assert client.ledger_path is None
        assert len(app.log()) == 2
        assert await client.lookup([inner.requests[0]]) == [None]
    assert len(inner.requests) == 2
    assert inner.events
    assert not path.exists()


@pytest.mark.parametrize("mode", ["off", "read_write"])
async def test_the_client_below_is_closed_by_whoever_opened_it(path, provider_config, mode):
    """Used through the ledger alone it is closed with it; in use before, it stays open."""
    inner = LLMLocalClient(provider_config)
    client = LLMLedgerClient(inner, path, mode)
    await (await start(client, model="nonsense")).response
    assert client.home is not None
    assert client.under_way() == []
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ask(inner)
    async with LLMLocalClient(provider_config) as shared:
        async with LLMLedgerClient(shared, path, mode) as client:
            await ask(client, model="nonsense")
        await ask(shared, model="nonsense")


async def test_the_log_in_memory_is_bounded(path):
    """Without a ledger the last 1000 calls are remembered."""
    app = LLMApplication(LLMScriptedClient("ok"), MODULES)
    for _ in range(1050):
        await app["a"](x="1")
    assert len(app.log(None)) == 1000
    assert app.log(3)[-1].seq == 1050
    picture = MediaContent("image", data=bytes(6_000_000), mime_type="image/png")
    for _ in range(10):
        await app["a"](x="1", _media_content=picture)
    assert len(app.log(None)) == 3, "pictures count by their size"


async def test_fresh_asks_again_and_its_answer_is_the_one_reused_later(path):
    """`fresh` skips what is kept, and what it got is kept."""
    async with LLMLedgerClient(Echo(), path) as client:
        texts = [(await ask(client, fresh=f)).response_text for f in (False, True, False)]
    assert texts == ["1: hi", "2: hi", "2: hi"]


async def test_samples_of_one_prompt_are_kept_apart(path):
    """Sample n is an answer of its own, found again by its number."""
    async with LLMLedgerClient(Echo(), path) as client:
        first = [(await ask(client, sample=n)).response_text for n in range(3)]
        again = [(await ask(client, sample=n)).response_text for n in range(3)]
    assert first == again
    assert len(set(first)) == 3


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
async def test_good_answers_are_reused(path, reason):
    """`stop`, `length` and `tool_calls` are worth having again."""
    inner = Echo(finish_reason=reason)
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
        assert (await ask(client)).finish_reason == reason
    assert len(inner.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        ScriptedReply(error_text="HTTP 500"),
        ScriptedReply("no", finish_reason="content_filter"),
        ScriptedReply("x", finish_reason="error: format", error_text="what?"),
        ScriptedReply("x", finish_reason="unknown"),
    ],
    ids=["request", "filter", "format", "unknown"],
)
async def test_failures_are_recorded_and_asked_again(path, reply):
    """A failure is in the file, and never given as an answer."""
    inner = LLMScriptedClient(reply)
    async with LLMLedgerClient(inner, path) as client:
        for _ in range(2):
            response = await ask(client)
            assert not response.from_ledger
    assert len(inner.requests) == 2
    assert counts(path)["answers"] == 2
    record = Ledger(path).call(1)
    assert record.row.status == response.finish_reason
    assert record.response is not None


async def test_metadata_keeps_numbers_only(path):
    """Retention "metadata": rows with tokens and status, no prompt, answer, media or error text."""
    inner = LLMScriptedClient(
        [ScriptedReply("SECRET-ANSWER"), ScriptedReply(error_text="you said SECRET-PROMPT")] * 2
    )
    async with LLMLedgerClient(inner, path, retention="metadata") as client:
        for _ in range(4):
            await ask(client, "SECRET-PROMPT")
        await asyncio.gather(*[ask(client, "SECRET-PROMPT-2") for _ in range(3)])
    assert counts(path) == {"answers": 0, "calls": 7, "claims": 0, "media": 0}
    rows = Ledger(path).calls()
    assert [r.status for r in rows][:2] == ["stop", "error: request"]
    assert rows[0].prompt_tokens
    assert rows[0].fingerprint
    for file in path.parent.iterdir():
        assert b"SECRET" not in file.read_bytes()


async def test_file_and_folder_are_private(tmp_path, monkeypatch):
    """By default `.aitoolman/ledger.db`, mode 0600, in a folder that git ignores."""
    monkeypatch.chdir(tmp_path)
    async with LLMLedgerClient(Echo()) as client:
        await ask(client)
        folder = tmp_path / ".aitoolman"
        assert client.ledger_path == folder / "ledger.db"
        for file in folder.glob("ledger.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"


async def test_events_are_rows_of_the_same_sequence(path):
    """`audit_event` is durable on return, numbered with the calls, and passed on."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
        await client.audit_event("ctx", "approved", by="Ann", amount=3)
        await ask(client)
        rows = Ledger(path).calls()
    assert [(r.seq, r.kind) for r in rows] == [(1, "call"), (2, "event"), (3, "call")]
    assert (rows[1].event, rows[1].fields) == ("approved", '{"by":"Ann","amount":3}')
    assert inner.events[0].event_type == "approved"


@pytest.mark.parametrize(
    "options",
    [{"mode": "readwrite"}, {"retention": "none"}, {"pace": -1}, {"path": "x.jsonl"}],
    ids=str,
)
def test_wrong_options_are_refused_at_once(path, options):
    """An unknown mode or retention, a negative pace, an export that would be written to."""
    with pytest.raises(LLMConfigError, match=r"ledger\."):
        LLMLedgerClient(Echo(), **{"path": path, **options})


async def test_lookup_finds_and_records_hits_in_bulk(path):
    """One transaction for many requests; a miss is None and sends nothing."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        for n in range(5):
            await ask(client, str(n))
        requests = [r for r in inner.requests if r.messages[0].content != "3"]
        unknown = await start(LLMScriptedClient("x"), "new")
        fresh = await start(LLMScriptedClient("x"), "1", fresh=True)
        found = await client.lookup([*requests, unknown, fresh])
        assert [r and r.response_text for r in found] == [
            "1: 0", "2: 1", "3: 2", "5: 4", None, None
        ]  # fmt: skip
        assert all(r.from_ledger for r in found[:4])
        assert await client.lookup(requests, record=False)
        assert len(inner.requests) == 5
    rows = Ledger(path).calls()
    assert [r.from_ledger for r in rows] == [0] * 5 + [1] * 4
    assert rows[-1].answer == 5


async def test_keys_of_finished_calls_are_known_in_bulk(path):
    """`Ledger.fingerprints` names what can be reused, errors left out."""
    inner = LLMScriptedClient(["a", ScriptedReply(error_text="no"), "b"])
    async with LLMLedgerClient(inner, path) as client:
        for text in "123":
            await ask(client, text)
    assert len(Ledger(path).fingerprints()) == 2


async def test_a_request_that_is_no_json_goes_through_unkeyed(path):
    """What has no fingerprint is the client's business; its row is there."""
    inner = Echo()
    loop: dict = {}
    loop["self"] = loop
    async with LLMLedgerClient(inner, path) as client:
        for _ in range(2):
            response = await ask(client, options={"x": loop})
            assert response.finish_reason == "stop"
    assert len(inner.requests) == 2
    assert counts(path)["calls"] == 2


async def test_text_that_no_utf8_can_hold_survives(path):
    """Lone surrogates of a broken stream are kept and replayed as they were."""
    reply = ScriptedReply("a\ud83db", fragments=["a", "\ud83d", "b"])
    async with LLMLedgerClient(LLMScriptedClient([reply]), path) as client:
        first = await ask(client, "x\udc00", stream=True)
        sink = Sink()
        again = await ask(client, "x\udc00", stream=True, sink=sink)
    assert again.response_text == first.response_text == "a\ud83db"
    assert sink.got == ["a", "\ud83d", "b", None]


async def test_a_file_of_the_first_version_is_read_and_brought_up_to_date(path):
    """Its answers are found, replayed and listed, and what only it needed goes."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 1")
        db.execute("CREATE INDEX calls_by_answer ON calls (answer) WHERE answer IS NOT NULL")
    db.close()
    async with LLMLedgerClient(inner, path, "replay") as client:
        assert (await ask(client)).response_text == "1: hi"
    assert len(Ledger(path).calls()) == 1
    async with LLMLedgerClient(inner, path) as client:
        assert (await ask(client)).from_ledger
    with Ledger(path).opened() as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2
    assert "calls_by_answer" not in tables


def test_a_newer_file_is_refused_and_an_older_one_brought_up_to_date(path, monkeypatch):
    """The schema has a version; steps run once, in order, and only for older files."""
    from aitoolman._ledger import schema

    schema.open_ledger(path).close()
    newer = schema.SCHEMA_VERSION + 1
    monkeypatch.setattr(schema, "SCHEMA_VERSION", newer)
    monkeypatch.setattr(schema, "_READABLE_VERSION", newer)
    monkeypatch.setattr(
        schema, "_MIGRATIONS", [*schema._MIGRATIONS, "ALTER TABLE calls ADD COLUMN more TEXT;"]
    )
    with pytest.raises(LLMConfigError, match=f"version {newer - 1}"):
        schema.open_ledger(path, read_only=True)
    for _ in range(2):
        schema.open_ledger(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert "more" in [row[1] for row in db.execute("PRAGMA table_info(calls)")]
    db.close()
    monkeypatch.undo()
    with pytest.raises(LLMConfigError, match="newer aitoolman"):
        schema.open_ledger(path)


async def test_bulk_hits_are_rows_in_the_order_of_the_requests(path):
    """More than one statement holds: each hit is one row, misses are none."""
    async with LLMLedgerClient(Echo(), path) as client:
        for number in range(45):
            await ask(client, str(number))
        wanted = [
            LLMProviderRequest("c", None, f"r{n}", "m", [Message("user", str(n))])
            for n in range(50)
        ]
        found = await client.lookup(wanted)
    assert [r is not None for r in found] == [True] * 45 + [False] * 5
    rows = [r for r in Ledger(path).calls(None) if r.from_ledger]
    assert [r.request_id for r in rows] == [f"r{n}" for n in range(45)]
    assert [r.answer for r in rows] == list(range(1, 46))
