"""Replay: a recorded session comes back whole, with no key, network or model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3

import pytest

from aitoolman import (
    LLMApplication,
    LLMConfigError,
    LLMLedgerClient,
    LLMLocalClient,
    LLMScriptedClient,
    MediaContent,
    Message,
    ScriptedReply,
    connect,
)
from aitoolman._ledger.reader import Ledger
from tests.fake_llm import Call, Reply

from .helpers import Echo, Sink, ask, counts

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(20))
SESSION = [
    ("plain", False),
    ("thinking", True),
    ("tool", True),
    ("picture", False),
    ("broken", False),
    ("plain", True),
]


def vendor(seen):
    """A vendor with text, reasoning, tools, a wait in between, and an error that stays."""
    text = seen.last_text
    if "thinking" in text:
        return Reply(reasoning="let me see", text="42 it is", chunks=["42", " it", " is"])
    if "tool" in text:
        return Reply(tool_calls=[Call("look", {"at": "x"})])
    if "broken" in text:
        return Reply(status=400, error="no such thing", error_code="bad_thing")
    if "picture" in text:
        return (
            Reply("a cat") if seen.number % 2 else Reply(status=429, headers={"retry-after": "0"})
        )
    return Reply("plainly")


async def session(client):
    """What a program sees of its calls: statuses, texts, attempts, fragments."""
    told = []
    for text, stream in SESSION:
        turns = [Message("user", text)]
        if text == "picture":
            turns = [Message("user", text, MediaContent("image", data=PNG, mime_type="image/png"))]
        words, thoughts = Sink(), Sink()
        response = await ask(
            client, model="default", messages=turns, stream=stream, sink=words, thoughts=thoughts,
            tools={"look": {"description": "Look", "param": {"at": {"type": "string"}}}},
        )  # fmt: skip
        told.append(
            {
                "finish": response.finish_reason,
                "error": response.error_text,
                "text": response.response_text,
                "reasoning": response.response_reasoning,
                "calls": [list(c) for c in response.response_tool_calls],
                "attempts": [a._asdict() for a in response.attempts],
                "tokens": [response.prompt_tokens, response.completion_tokens],
                "message": response.response_message and response.response_message.raw_value,
                "times": [response.start_time, response.total_response_time],
                "words": words.got,
                "thoughts": thoughts.got,
            }
        )
    return told


REPLAY = """
import asyncio, json, socket, sys
def blocked(*args): raise AssertionError("the network was touched")
socket.socket.connect = socket.socket.connect_ex = blocked
import aitoolman
from tests.ledger.test_replay import session
async def main():
    config = json.loads(sys.argv[1])
    async with aitoolman.connect(config, ledger={"mode": "replay", "path": sys.argv[2]}) as client:
        print(json.dumps(await session(client)))
asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["ledger.db", "session.jsonl"])
async def test_a_session_replays_the_same_without_key_and_network(
    tmp_path, fake_llm, provider_config, run_script, form
):
    """Text, reasoning, tools, media and errors: fragments, results, attempts, finish reasons."""
    fake_llm.script(vendor)
    provider_config["default"] |= {"max_retries": 2, "retry_duration": 0.01}
    path = tmp_path / "ledger.db"
    table = {"mode": "record", "path": str(path)}
    async with connect(provider_config, ledger=table) as client:
        recorded = await session(client)
    assert [r["finish"] for r in recorded] == [
        "stop", "stop", "tool_calls", "stop", "error: request", "stop"
    ]  # fmt: skip
    assert len(recorded[3]["attempts"]) == 2
    assert recorded[1]["words"] == ["42", " it", " is", None]
    Ledger(path).export(tmp_path / "session.jsonl")
    (tmp_path / "replay.py").write_text(REPLAY)
    provider_config["api"]["fast"]["api_key"] = "${A_KEY_THAT_IS_NOT_SET}"
    done = run_script(tmp_path / "replay.py", json.dumps(provider_config), str(tmp_path / form))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(recorded))


async def test_the_nth_call_gets_the_nth_answer_and_the_last_repeats(path):
    """Several answers to one question come in the order in which they were given."""
    async with LLMLedgerClient(Echo(), path, "record") as client:
        for _ in range(3):
            await ask(client)
    async with LLMLedgerClient(LLMScriptedClient([]), path, "replay") as client:
        texts = [(await ask(client)).response_text for _ in range(5)]
    assert texts == ["1: hi", "2: hi", "3: hi", "3: hi", "3: hi"]


@pytest.mark.parametrize("form", ["ledger.db", "x.jsonl"])
async def test_an_answer_belongs_to_its_call(path, form):
    """A call that reused an answer gets that one in the replay, too; so in an export."""
    async with LLMLedgerClient(Echo(), path) as client:
        fresh = [False, False, True, False, True]
        recorded = [(await ask(client, fresh=f)).response_text for f in fresh]
    assert recorded == ["1: hi", "1: hi", "2: hi", "2: hi", "3: hi"]
    Ledger(path).export(path.with_name("x.jsonl"))
    nobody = LLMScriptedClient([])
    async with LLMLedgerClient(nobody, path.with_name(form), "replay") as client:
        assert [(await ask(client)).response_text for _ in fresh] == recorded
    assert not nobody.requests


async def test_a_replay_writes_nothing(path):
    """The file stays as it is, byte for byte; the log of the session is in memory."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
    before = path.read_bytes()
    path.chmod(0o400)
    async with LLMLedgerClient(Echo(), path, "replay") as client:
        app = LLMApplication(client, {})
        assert client.ledger_path is None
        await ask(client)
        await client.audit_event("c", "e")
        assert len(app.log()) == 0
    assert path.read_bytes() == before


async def test_replayed_calls_are_in_the_log_of_the_session(path):
    """`app.log()` in a replay of an export shows this session's calls."""
    modules = {"module_default": {"model": "m"}, "module": {"a": {"template": {"user": "hi"}}}}
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
    export = path.with_name("x.jsonl")
    Ledger(path).export(export)
    async with LLMLedgerClient(LLMScriptedClient([]), export, "replay") as client:
        app = LLMApplication(client, modules)
        await app["a"]()
        assert [(r.status, r.from_ledger) for r in app.log()] == [("stop", 1)]


async def test_an_unseen_request_shows_how_the_nearest_one_differs(path):
    """The error names the line that changed."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client, "Translate to French:\nGood morning\nPlease.")
        await ask(client, "Something else")
    async with LLMLedgerClient(LLMScriptedClient([]), path, "replay") as client:
        response = await ask(client, "Translate to French:\nGood evening\nPlease.")
        assert response.finish_reason == "error: request"
        assert "-Good morning" in response.error_text
        assert "+Good evening" in response.error_text
        assert "Something" not in response.error_text
        other = await ask(client, model="n")
        assert "'n'" in other.error_text
        assert "known: 'm'" in other.error_text
        sample = await ask(client, "Something else", sample=3)
        assert "sample number" in sample.error_text


async def test_streams_come_back_at_their_own_pace(path):
    """`pace=1`: fragments keep their distance; `pace=0`: at once."""
    reply = ScriptedReply(fragments=["a", "b", "c"], text="abc")
    async with LLMLedgerClient(LLMScriptedClient(reply, stream_delay=0.03), path) as client:
        await ask(client, stream=True)
    loop_times = []

    class Timed(Sink):
        async def write(self, message):
            loop_times.append(asyncio.get_running_loop().time())

    for pace, least in ((1.0, 0.05), (0.0, 0.0)):
        loop_times.clear()
        async with LLMLedgerClient(LLMScriptedClient([]), path, "replay", pace=pace) as client:
            await ask(client, stream=True, sink=Timed())
        assert loop_times[-1] - loop_times[0] >= least


async def test_a_model_that_stood_for_several_things_replays_in_order(path):
    """An alias that was re-pointed in the middle of a session plays both answers in turn."""

    class Renamed(Echo):
        async def describe(self, model_name):
            found = await super().describe(model_name)
            return found._replace(digest=self.digest)

    for digest in ("one", "two"):
        inner = Renamed()
        inner.digest = digest
        async with LLMLedgerClient(inner, path) as client:
            await ask(client)
    async with LLMLedgerClient(LLMScriptedClient([]), path, "replay") as client:
        assert (await client.describe("m")).digest == "two"
        texts = [(await ask(client)).response_text for _ in range(2)]
    assert texts == ["1: hi", "1: hi"]
    assert counts(path)["answers"] == 2


async def test_replay_describes_from_the_file(path, fake_llm, provider_config):
    """Digest, entries, price and limits as recorded, though the key is gone."""
    fake_llm.script("ok")
    provider_config["api"]["fast"]["price"] = {"input": 1.0, "output": 2.0}
    async with connect(provider_config, ledger={"mode": "record", "path": str(path)}) as client:
        await ask(client, model="default")
        before = await client.describe("default")
    provider_config["api"]["fast"] |= {"api_key": "${GONE}", "url": "${GONE_TOO}"}
    async with connect(provider_config, ledger={"mode": "replay", "path": str(path)}) as client:
        assert await client.describe("default") == before
        assert (await ask(client, model="default")).response_text == "ok"
        preview = await client.preview("default", [Message("user", "hi")])
        assert preview.prompt_tokens > 0


async def test_an_unknown_model_is_an_error_that_replays(path, provider_config):
    """What could not even be resolved comes back with the same finish reason and text."""
    table = {"mode": "read_write", "path": str(path)}
    async with connect(provider_config, ledger=table) as client:
        recorded = await ask(client, model="nonsense")
    assert recorded.finish_reason == "error: request"
    async with connect(provider_config, ledger=table | {"mode": "replay"}) as client:
        replayed = await ask(client, model="nonsense")
    assert (replayed.finish_reason, replayed.error_text) == ("error: request", recorded.error_text)


async def test_nothing_to_replay_is_said_at_once(tmp_path):
    """A missing file, an empty one, one that is no export: each with its own sentence."""
    empty = tmp_path / "empty.db"
    empty.touch()
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"version": 1}\n')
    newer = tmp_path / "newer.jsonl"
    newer.write_text(
        '{"version": 9, "model": "m", "digest": "d", "fingerprint": "00", "request": {},'
        ' "response": {}}\n'
    )
    for path, message in (
        (tmp_path / "gone.db", "is not there"),
        (empty, "is empty"),
        (bad, "line 1 is no exported answer"),
        (newer, "newer aitoolman"),
        (tmp_path / "gone.jsonl", "cannot be read"),
    ):
        with pytest.raises(LLMConfigError, match=message):
            async with LLMLedgerClient(LLMScriptedClient([]), path, "replay"):
                pass


async def test_exports_diff_well(path):
    """One line an answer, in order, the same each time; a new answer is one more line."""
    async with LLMLedgerClient(Echo(), path) as client:
        for text in "abc":
            await ask(client, text)
        first, second = path.with_name("1.jsonl"), path.with_name("2.jsonl")
        assert Ledger(path).export(first) == 3
        await ask(client, "b")
        await ask(client, "d")
        assert Ledger(path).export(second) == 4
    lines = second.read_text().splitlines()
    assert lines[:3] == first.read_text().splitlines()
    assert "b" in lines[1]
    assert sorted(p.name for p in path.parent.iterdir() if "jsonl" in p.name) == [
        "1.jsonl", "2.jsonl"
    ]  # fmt: skip


async def test_lookup_in_a_replay_gives_what_was_recorded(path):
    """A batch replays in bulk, in the same turns, errors included."""
    inner = LLMScriptedClient(["a", ScriptedReply(error_text="no"), "c"])
    async with LLMLedgerClient(inner, path, "record") as client:
        for _ in range(3):
            await ask(client)
    request = inner.requests[0]
    async with LLMLedgerClient(LLMScriptedClient([]), path, "replay") as client:
        found = await client.lookup([request] * 4)
        assert [r.finish_reason for r in found] == ["stop", "error: request", "stop", "stop"]


async def test_a_ledger_in_a_folder_without_write_access_replays(tmp_path):
    """A committed ledger is read where WAL has no place for its files."""
    folder = tmp_path / "ro"
    folder.mkdir()
    path = folder / "ledger.db"
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    folder.chmod(0o500)
    try:
        async with LLMLedgerClient(LLMScriptedClient([]), path, "replay") as client:
            assert (await ask(client)).response_text == "1: hi"
    finally:
        folder.chmod(0o700)


async def test_the_local_client_records_and_reuses_by_its_configuration(
    tmp_path, fake_llm, provider_config
):
    """`[ledger]` in the TOML puts a ledger in place, beside the configuration."""
    from aitoolman._config import Config

    fake_llm.script("ok")
    provider_config["ledger"] = {"mode": "read_write"}
    config = Config(provider_config, str(tmp_path / "llm_config.toml"))
    async with LLMLocalClient(config) as client:
        assert client.ledger_path == tmp_path / ".aitoolman" / "ledger.db"
        assert not (await ask(client, model="fast")).from_ledger
        assert (await ask(client, model="fast")).from_ledger
        assert (await ask(client, model="default")).from_ledger, "an alias of the same entry"
        await client.audit_event("c", "done")
        app = LLMApplication(client, {})
        assert len(app.log()) == 4
        assert len(app.log(model="fast")) == 2
        assert await client.lookup([]) == []
        assert (await client.preview("fast", [Message("user", "x")])).url == fake_llm.openai_url
    assert len(fake_llm.requests) == 1


async def test_the_row_names_who_answered(tmp_path, fake_llm, provider_config):
    """An alias that is a list: the model that was asked for, and the entry that gave the answer."""
    fake_llm.script(lambda seen: Reply(status=500) if seen.model == "down-1" else Reply("ok"))
    down = {"url": fake_llm.openai_url, "model": "down-1"}
    provider_config["api"]["down"] = down
    provider_config["model_alias"]["list"] = ["down", "fast"]
    table = {"path": str(tmp_path / "ledger.db")}
    async with connect(provider_config, ledger=table) as client:
        assert (await client.describe("list")).entries == ("down", "fast")
        await ask(client, model="list")
        assert (await ask(client, model="list")).model_name == "fast"
        rows = LLMApplication(client, {}).log()
    assert [(r.model, r.answered_by, r.from_ledger) for r in rows] == [
        ("list", "fast", 0), ("list", "fast", 1)
    ]  # fmt: skip
    assert len(json.loads(rows[0].attempts)) == 2


async def test_a_ledger_stays_where_it_was_though_the_program_moves(tmp_path, monkeypatch):
    """A relative path counts from where the client was made."""
    monkeypatch.chdir(tmp_path)
    clients = [
        LLMLedgerClient(Echo(), "ledger.db"),
        LLMLedgerClient(Echo()),
        LLMLocalClient({"ledger": {"mode": "record", "path": "x.db"}}),
        LLMLocalClient({"ledger": {"mode": "record"}}),
    ]
    monkeypatch.chdir("/")
    assert [c.ledger_path.relative_to(tmp_path).as_posix() for c in clients] == [
        "ledger.db", ".aitoolman/ledger.db", "x.db", ".aitoolman/ledger.db"
    ]  # fmt: skip


@pytest.mark.model
@pytest.mark.timeout(300)
async def test_the_embedded_model_hits_before_and_after_a_restart(tmp_path):
    """Its file is what counts, not the process or its port; a replay starts no process at all."""
    table = {"mode": "read_write", "path": str(tmp_path / "ledger.db")}
    options = {"max_tokens": 8, "temperature": 0}
    found = []
    for mode in ("read_write", "read_write", "replay"):
        async with connect("demo", ledger=table | {"mode": mode}) as client:
            for stream in (False, True):
                found.append(
                    await ask(client, "Hi", model="Fast-Model", stream=stream, options=options)
                )
    assert [r.from_ledger for r in found] == [False, True, True, True, True, True]
    assert len({r.response_text for r in found}) == 1
    assert found[0].finish_reason in ("stop", "length")
