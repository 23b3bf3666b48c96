"""The server's ledger is a ledger: its answers are found, shown, exported, replayed and removed."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from aitoolman import LLMLedgerClient, LLMLocalClient, LLMScriptedClient, MediaContent, Message
from aitoolman._cli import main as cli
from aitoolman._ledger.reader import Ledger
from aitoolman._service.follower import AuditFollower
from aitoolman._service.security import token_keys
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Gate, Reply
from ..ledger.helpers import Sink as Kept
from ..ledger.helpers import ask, counts, start
from ..ledger.test_replay import PNG, REPLAY, session, vendor
from .conftest import OTHER_TOKEN, TOKEN, Sink, until
from .processes import ServerProcess
from .test_audit import follow

KEYS = token_keys(TOKEN)
PICTURE = MediaContent("image", data=PNG, mime_type="image/png")


def ledger_of(server):
    return Ledger(server.ledger_path)


def kinds(ledger):
    return {row.kind: row.seq for row in ledger.calls()}


async def test_an_answer_is_kept_once_under_its_fingerprint(fake_llm, server, client):
    """`answers` has request, answer and stream; the row of the call refers to it."""
    fake_llm.script(Reply("an answer", reasoning="hm", chunks=["an ", "answer"]))
    await ask(client, "a question", model="fast", stream=True, sink=Sink(), sample=2)
    ledger = ledger_of(server)
    row = ledger.calls(text="an answer")[0]
    assert (row.kind, row.status, row.sample) == ("call", "stop", 2)
    assert row.fields is None
    assert row.fingerprint in ledger.fingerprints()
    call = ledger.call(row.seq)
    assert call.request["messages"] == [{"role": "user", "content": "a question"}]
    assert call.response["response_reasoning"] == "hm"
    assert [(f.kind, f.text) for f in call.fragments] == [
        ("r", "hm"), ("t", "an "), ("t", "answer"),
    ]  # fmt: skip
    assert counts(server.ledger_path) == {"answers": 1, "calls": 3, "claims": 0, "media": 0}
    assert ledger.verify() == []


async def test_a_served_call_has_the_key_that_a_local_one_has(
    fake_llm, server, client, provider_config, tmp_path, monkeypatch
):
    """In process or through a server: one question, one fingerprint, one body; files by name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.png").write_bytes(PNG)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 a document")
    media = [
        MediaContent("image", filename=str(tmp_path / "p.png")),
        MediaContent("document", filename="~/a.pdf"),
        MediaContent("document", data=b"%PDF-1.4 another", filename="b.pdf"),
    ]
    turns = [Message("system", "Look."), Message("user", "What is it?", media)]
    tools = {"look": {"description": "Look", "param": {"at": {"type": "string"}}}}
    path = tmp_path / "own.db"
    async with LLMLedgerClient(LLMLocalClient(provider_config), path) as local:
        for asking in (client, local):
            await ask(asking, model="default", messages=turns, tools=tools, options={"top_p": 0.5})
    assert ledger_of(server).fingerprints() == Ledger(path).fingerprints()
    served, own = fake_llm.requests
    assert served.body == own.body
    assert "a.pdf" in json.dumps(own.body)


@pytest.mark.parametrize("form", ["audit.db", "session.jsonl"])
async def test_a_session_replays_from_the_servers_ledger(
    fake_llm, serve, server_config, run_script, tmp_path, form
):
    """Text, reasoning, tools, media and errors, where no connection can be made."""
    fake_llm.script(vendor)
    server_config["default"] |= {"max_retries": 2, "retry_duration": 0.01}
    server = await serve()
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        recorded = await session(client)
    await server.close(0)
    ledger_of(server).export(tmp_path / "session.jsonl")
    (tmp_path / "replay.py").write_text(REPLAY)
    config = {"api": server_config["api"], "model_alias": server_config["model_alias"]}
    done = run_script(tmp_path / "replay.py", json.dumps(config), str(tmp_path / form))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(recorded))


async def test_the_commands_read_a_servers_ledger(fake_llm, server, client, capsys, tmp_path):
    """`ls`, `show` of a request and of its answer, `diff`, `--text`, `verify` and `export`."""
    fake_llm.script([Reply("Paris"), Reply("Rome")])
    await ask(client, "Capital of France?", model="fast")
    await ask(client, "Capital of Italy?", model="fast")

    def run(*words):
        cli.main(["ledger", words[0], "--path", str(server.ledger_path), *words[1:]])
        return capsys.readouterr().out

    for number in ("2", "3"):
        shown = run("show", number)
        assert shown.count("Capital of France?") == shown.count("Paris") == 1
    assert json.loads(run("show", "2", "--json"))["response"]["response_text"] == "Paris"
    assert "-Paris\n+Rome" in run("diff", "3", "5")
    found = [json.loads(line) for line in run("ls", "--text", "italy", "--json").splitlines()]
    assert [(row["seq"], row["kind"]) for row in found] == [(4, "request"), (5, "call")]
    assert "request" in run("ls")
    assert "is sound" in run("verify")
    assert "2 answers" in run("export", str(tmp_path / "x.jsonl"))


async def test_media_are_kept_once(fake_llm, server, client):
    """Rows and answers name a picture by its hash; its bytes are in `media`, and nowhere else."""
    for text in ("one", "two"):
        turns = [Message("user", text, PICTURE)]
        await ask(client, model="fast", messages=turns)
    assert counts(server.ledger_path)["media"] == 1
    media = ledger_of(server).call(2).request["messages"][0]["media"][0]
    assert (media["bytes"], len(media["sha256"])) == (len(PNG), 64)


async def test_what_broke_off_is_shown_and_never_reused(fake_llm, server, client):
    """A cancelled stream: prompt and the text so far are in its row, and in no answer."""
    fake_llm.script(Reply("so far so good", chunks=["so far", " so good"], pause_at=2, hang=True))
    sink = Kept()
    request = await start(client, "a question", model="fast", stream=True, sink=sink)
    await sink.holds("so far")
    await client.cancel(request.request_id)
    await request.response
    ledger = ledger_of(server)
    call = ledger.call(kinds(ledger)["call"])
    assert (call.row.status, call.response["response_text"]) == ("cancelled", "so far")
    assert call.request["messages"][0]["content"] == "a question"
    assert ledger.call(kinds(ledger)["request"]).response == call.response
    assert "so far" in str(call)
    assert ledger.calls(text="so far")[0].seq == call.row.seq
    assert counts(server.ledger_path)["answers"] == 0


def test_a_request_is_in_the_file_before_it_is_answered(fake_llm, tmp_path):
    """A server that is killed leaves the prompt; the next one notes that it had no answer."""
    fake_llm.script(Reply("x", hang=True))
    process = ServerProcess(tmp_path / "server", fake_llm.openai_url).start()

    async def main():
        async with LLMZmqClient(process.endpoint, TOKEN) as client:
            await start(client, model="fast", messages=[Message("user", "a question", PICTURE)])
            ledger = Ledger(process.ledger)
            await until(lambda: "request" in kinds(ledger))
            process.kill()
            asked = ledger.call(kinds(ledger)["request"])
            assert asked.request["messages"][0]["content"] == "a question"
            assert asked.response is None
            assert counts(process.ledger)["media"] == 1

    asyncio.run(main())
    process.start()
    process.terminate()
    ledger = Ledger(process.ledger)
    cut = ledger.call(kinds(ledger)["cut"])
    assert (cut.row.error, cut.response) == ("the server ended before the answer", None)
    assert cut.request["messages"][0]["content"] == "a question"


async def test_pages_give_what_was_published(fake_llm, server, client):
    """Requests, answers of every kind, cancels and events, value for value."""
    gate = Gate()
    fake_llm.script(
        [
            Reply("an answer", reasoning="hm"),
            Reply(tool_calls=[("look", {"at": "it"})]),
            Reply(status=400, error="no"),
            Reply("so far", hang=True),
            Reply("lone \ud800", gate=gate),
        ]
    )
    async with AuditFollower(server.pub_endpoint, keys=KEYS) as follower:
        await until(lambda: follower.beat)
        for _ in range(3):
            await ask(client, model="fast", messages=[Message("user", "hi", PICTURE)])
        request = await start(client, model="fast", stream=True, sink=Sink())
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        await client.cancel(request.request_id)
        await request.response
        gate.open()
        await ask(client, model="fast")
        await client.audit_event("talk", "order", number=3)
        published = await follow(follower, lambda items: items[-1].values["kind"] == "event")
    page = (await server.audit.page(1, 1_000)).events
    assert [(e.seq, e.values) for e in page] == [(e.seq, e.values) for e in published]
    answered = [e.values for e in page if e.values["kind"] == "call"]
    assert [len(v["fingerprint"]) for v in answered] == [64] * 5
    assert all("model_name" in json.loads(v["fields"]) for v in answered)


async def test_removing_answers_removes_what_rows_say(fake_llm, server, client):
    """After `prune` no word of prompts and answers is left; the numbers stay, calls go on."""
    fake_llm.script(
        [
            Reply("a secret answer"),
            Reply("a secret start", pause_at=2, hang=True, chunks=["a secret", " start"]),
        ]
    )
    await ask(client, model="fast", messages=[Message("user", "a secret question", PICTURE)])
    sink = Kept()
    request = await start(client, "a secret wish", model="fast", stream=True, sink=sink)
    await sink.holds("a secret")
    await client.cancel(request.request_id)
    await request.response
    before = len(ledger_of(server).calls())
    ledger_of(server).prune(before=0.0)
    assert ledger_of(server).call(2).request is not None
    assert counts(server.ledger_path)["media"] == 1
    removed = ledger_of(server).prune()
    assert removed == {"answers": 1, "media": 1}
    assert b"secret" not in b"".join(
        p.read_bytes() for p in server.ledger_path.parent.glob("audit.db*")
    )
    assert len(ledger_of(server).calls()) == before
    assert ledger_of(server).call(3).response is None
    await ask(client, "again", model="fast")
    assert len(ledger_of(server).calls()) == before + 2


async def test_a_media_item_stays_while_a_request_needs_it(fake_llm, server, client):
    """The picture of a request that is on its way outlives the clearing of what is older."""
    fake_llm.script(Reply("x", hang=True))
    request = await start(client, model="fast", messages=[Message("user", "see", PICTURE)])
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    ledger_of(server).prune(before=1.0)
    assert counts(server.ledger_path)["media"] == 1
    await client.cancel(request.request_id)
    await request.response


async def test_no_token_and_no_key_enters_the_servers_ledger(
    fake_llm, serve, server_config, tmp_path
):
    """Quoted in prompts, answers, errors, streams and events, from the very first request on."""
    server_config["server"]["tokens"] = {"eve": {"token": OTHER_TOKEN}}
    server_config["api"]["unused"] = {
        "url": "http://127.0.0.1:9/?key=canary-query", "model": "m", "api_key": "canary-key",
        "headers": {"X-Other": "canary-header"}, "body_options": {"password": "canary-body"},
    }  # fmt: skip
    secrets = ["sk-test-key", TOKEN, OTHER_TOKEN]
    secrets += [f"canary-{place}" for place in ("query", "key", "header", "body")]
    said = " and ".join(secrets)
    fake_llm.script([Reply(said, chunks=[*said], reasoning=said), Reply(status=401, error=said)])
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as client,
        AuditFollower(server.pub_endpoint, keys=KEYS) as follower,
    ):
        await until(lambda: follower.beat)
        tools = {"look": {"description": said, "param": {}}}
        for stream in (True, False):
            await ask(
                client, said, model="fast", stream=stream, sink=Sink(), tools=tools,
                options={"user": said},
            )  # fmt: skip
        await client.audit_event("talk", "order", words=said)
        items = await follow(follower, lambda items: items[-1].values["kind"] == "event")
        page = (await server.audit.page(0, 1_000)).events
    await server.close(0)
    ledger_of(server).export(tmp_path / "export.jsonl")
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.is_file())
    for secret in secrets:
        assert secret.encode() not in files
        assert secret not in repr(items) + repr(page)
    assert "***" in repr(items)


@pytest.mark.parametrize("table", ["server", "ledger"])
async def test_metadata_leaves_answers_and_media_empty(fake_llm, serve, server_config, table):
    """Numbers and fingerprints alone; a client that comes back has its answer from memory."""
    key = {"server": "audit", "ledger": "retention"}[table]
    server_config[table][key] = "metadata"
    fake_llm.script([Reply("a secret answer"), Reply("so far", hang=True)])
    server = await serve()
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        turns = [Message("user", "a secret question", PICTURE)]
        await ask(client, model="fast", messages=turns, stream=True, sink=Sink())
        request = await start(client, "a secret wish", model="fast", stream=True, sink=Sink())
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        await client.cancel(request.request_id)
        await request.response
    assert len(server.requests.finished) == 2
    assert counts(server.ledger_path) == {"answers": 0, "calls": 6, "claims": 0, "media": 0}
    row = ledger_of(server).calls()[2]
    assert (row.kind, row.completion_tokens is None, len(row.fingerprint)) == ("call", False, 32)
    await server.close(0)
    assert b"secret" not in server.ledger_path.read_bytes()


async def test_a_model_that_is_no_model_is_a_row_all_the_same(fake_llm, server, client):
    """Its error is shown; nothing can be reused of it."""
    response = await ask(client, "hi", model="nobody")
    assert response.status.is_error
    ledger = ledger_of(server)
    call = ledger.call(kinds(ledger)["call"])
    assert "nobody" in call.response["error_text"]
    assert ledger.fingerprints() == set()


async def test_a_server_without_place_for_its_ledger_says_so(serve, server_config, tmp_path):
    """A file of another program is refused, with its path."""
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(Exception, match=r"audit\.db is an SQLite file, but no aitoolman ledger"):
        await serve()


async def test_two_equal_questions_are_two_answers(fake_llm, server, client):
    """The server asks for each: nothing is shared unless it is told to."""
    fake_llm.script([Reply("one"), Reply("two")])
    said = [(await ask(client, model="fast")).response_text for _ in range(2)]
    assert said == ["one", "two"]
    assert counts(server.ledger_path)["answers"] == 2
    nobody = LLMScriptedClient([])
    async with LLMLedgerClient(nobody, server.ledger_path, mode="replay") as replay:
        again = [(await ask(replay, model="fast")).response_text for _ in range(2)]
    assert again == said


def test_an_answer_that_a_client_has_outlives_a_kill(fake_llm, tmp_path):
    """`kill -9` as soon as the client has its answer: it is in the file, once."""
    fake_llm.script(lambda seen: Reply(f"answer {seen.number}"))
    process = ServerProcess(tmp_path / "server", fake_llm.openai_url)
    said = []

    async def one(number):
        async with LLMZmqClient(process.endpoint, TOKEN) as client:
            response = await ask(client, f"question {number}", model="fast")
            process.kill()
            said.append(response.response_text)

    for number in range(5):
        process.start()
        asyncio.run(one(number))
    ledger = Ledger(process.ledger)
    for number, text in enumerate(said):
        (row,) = [row for row in ledger.calls(text=text) if row.kind == "call"]
        call = ledger.call(row.seq)
        assert call.request["messages"][0]["content"] == f"question {number}"
    assert counts(process.ledger)["answers"] == len(said) == 5
    assert ledger.verify() == []


async def test_a_local_program_may_use_the_servers_ledger(
    fake_llm, server, client, provider_config
):
    """Beside a running server: its answers are reused, new ones are rows of the same sequence."""
    await ask(client, "known", model="fast")
    async with (
        LLMLedgerClient(LLMLocalClient(provider_config), server.ledger_path) as local,
        AuditFollower(server.pub_endpoint, keys=KEYS) as follower,
    ):
        await until(lambda: follower.beat)
        assert (await ask(local, "known", model="fast")).from_ledger
        await ask(local, "new", model="fast")
        await ask(client, "known", model="fast")
        items = await follow(follower, lambda items: items[-1].seq >= 7)
    assert [item.seq for item in items] == [4, 5, 6, 7]
    assert [item.values["kind"] for item in items] == ["call", "call", "request", "call"]
    assert len(fake_llm.requests) == 3
