"""Answers that clients share: only where the server is told to, and only of models they may use."""

from __future__ import annotations

import asyncio

import pytest

from aitoolman import LLMConfigError
from aitoolman._ledger.reader import Ledger
from aitoolman._service.server import LLMServer
from aitoolman.zmqclient import LLMZmqClient

from ..fake_llm import Gate, Reply
from ..ledger.helpers import Sink, ask, start
from .conftest import OTHER_TOKEN, TOKEN, until
from .processes import audit_problems


@pytest.fixture
def server_config(server_config):
    server_config["server"]["tokens"] = {"eve": {"token": OTHER_TOKEN, "models": ["default"]}}
    server_config["model_alias"]["other"] = "fast"
    return server_config


@pytest.fixture
def sharing(server_config):
    """The configuration of a server that is told to share."""
    server_config["server"]["share_answers"] = True
    return server_config


@pytest.fixture
async def bob(server):
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        yield client


@pytest.fixture
async def eve(server):
    async with LLMZmqClient(server.endpoint, OTHER_TOKEN) as client:
        yield client


def outcomes(server):
    return [
        (row.client.split("#")[0], row.kind, row.status, bool(row.from_ledger))
        for row in Ledger(server.ledger_path).calls()
        if row.kind in ("call", "cut")
    ]


def numbered(fake_llm):
    """The vendor counts its answers: a shared one shows."""
    fake_llm.script(
        lambda seen: Reply(f"answer {seen.number}", chunks=["answer", f" {seen.number}"])
    )


# Told nothing, it shares nothing


@pytest.mark.parametrize("table", [{}, {"mode": "read_write"}])
async def test_nothing_is_shared_unless_told(fake_llm, serve, server_config, table):
    """Every request is sent, whoever asked before, one after the other and at once."""
    server_config["ledger"] |= table
    numbered(fake_llm)
    server = await serve()
    async with (
        LLMZmqClient(server.endpoint, TOKEN) as bob,
        LLMZmqClient(server.endpoint, OTHER_TOKEN) as eve,
    ):
        said = [await ask(client, model="default") for client in (bob, eve, bob)]
        said += await asyncio.gather(*(ask(client, model="default") for client in (bob, eve, bob)))
    assert len(fake_llm.requests) == 6
    assert len({response.response_text for response in said}) == 6
    assert not any(response.from_ledger for response in said)


# Told to, it does


async def test_another_clients_answer_is_given(fake_llm, sharing, server, bob, eve):
    """Sent once; the second client gets text, stream and reasoning, marked as reused."""
    fake_llm.script(Reply("an answer", reasoning="hm", chunks=["an ", "answer"]))
    first = await ask(bob, model="fast", stream=True, sink=Sink())
    sink, thoughts = Sink(), Sink()
    second = await ask(eve, model="default", stream=True, sink=sink, thoughts=thoughts)
    assert len(fake_llm.requests) == 1
    assert (first.from_ledger, second.from_ledger) == (False, True)
    assert second.response_text == "an answer"
    assert sink.got == ["an ", "answer", None]
    assert (thoughts.text, second.start_time) == ("hm", first.start_time)
    assert outcomes(server) == [
        ("default", "call", "stop", False), ("eve", "call", "stop", True),
    ]  # fmt: skip
    rows = (await server.audit.page(0, 100)).events
    answers = [e.values["answer"] for e in rows if e.values["kind"] == "call"]
    assert answers[0] == answers[1]


async def test_answers_outlive_the_server(fake_llm, serve, sharing):
    """The next server of the same ledger gives what the last one recorded."""
    for _ in range(2):
        server = await serve()
        async with LLMZmqClient(server.endpoint, TOKEN) as client:
            response = await ask(client, model="fast")
        await server.close(0)
    assert response.from_ledger
    assert len(fake_llm.requests) == 1


async def test_a_model_that_is_not_allowed_is_not_answered(fake_llm, sharing, server, bob, eve):
    """Whatever the ledger holds: the name that a client asks for must be its own."""
    await ask(bob, "a secret", model="other")
    response = await ask(eve, "a secret", model="other")
    assert "may not use the model 'other'" in response.error_text
    assert response.response_text == ""


@pytest.mark.parametrize("option", [{"fresh": True}, {"sample": 1}])
async def test_a_new_answer_and_another_sample_are_asked_for(
    fake_llm, sharing, server, bob, eve, option
):
    """`_fresh` and `_sample` mean with a server what they mean with a ledger."""
    numbered(fake_llm)
    first = await ask(bob, model="fast")
    other = await ask(eve, model="default", **option)
    again = await ask(eve, model="default")
    assert not other.from_ledger
    assert other.response_text != first.response_text
    newest = other if "fresh" in option else first
    assert (again.response_text, again.from_ledger) == (newest.response_text, True)
    assert len(fake_llm.requests) == 2


async def test_failures_are_not_shared(fake_llm, sharing, server, bob, eve):
    """An error is asked again."""
    fake_llm.script([Reply(status=400, error="no"), Reply("yes")])
    assert (await ask(bob, model="fast")).status.is_error
    assert (await ask(eve, model="default")).response_text == "yes"


async def test_equal_requests_under_way_are_sent_once(fake_llm, sharing, server, bob, eve):
    """Twenty of two clients at once: one request, one answer, twenty rows."""
    gate = Gate()
    fake_llm.script(lambda seen: Reply("an answer", gate=gate))
    asking = [
        asyncio.create_task(ask(client, model="default"))
        for client in (bob, eve)
        for _ in range(10)
    ]
    await until(lambda: len(server.requests.running) == 20)
    await fake_llm.reaches(lambda f: f.open_requests == 1)
    gate.open()
    answers = await asyncio.gather(*asking)
    assert {a.response_text for a in answers} == {"an answer"}
    assert len(fake_llm.requests) == 1
    assert sum(not a.from_ledger for a in answers) == 1
    assert len(outcomes(server)) == 20


@pytest.mark.parametrize("how", ["cancelled", "gone", "failed"])
async def test_whoever_waits_asks_where_the_first_one_ends(fake_llm, serve, sharing, how):
    """The first caller cancels, leaves or fails: those who waited ask for themselves."""
    gate = Gate()
    first = Reply(status=400, error="no", gate=gate) if how == "failed" else Reply(hang=True)
    fake_llm.script([first, Reply("an answer"), Reply("an answer")])
    server = await serve()
    bob = LLMZmqClient(server.endpoint, TOKEN)
    async with bob, LLMZmqClient(server.endpoint, OTHER_TOKEN) as eve:
        leading = await start(bob, model="fast")
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        waiting = [asyncio.create_task(ask(eve, model="default")) for _ in range(2)]
        await until(lambda: len(server.requests.running) == 3)
        if how == "cancelled":
            await bob.cancel(leading.request_id)
        elif how == "gone":
            await bob.close()
        gate.open()
        answers = await asyncio.gather(*waiting)
    assert [a.response_text for a in answers] == ["an answer"] * 2
    assert 2 <= len(fake_llm.requests) <= 3


@pytest.mark.parametrize("how", ["cancelled", "gone"])
async def test_whoever_waits_may_leave(fake_llm, serve, sharing, how):
    """The request goes on for the one who sent it; the other is told at once."""
    gate = Gate()
    fake_llm.script(Reply("an answer", gate=gate))
    server = await serve()
    eve = LLMZmqClient(server.endpoint, OTHER_TOKEN)
    async with LLMZmqClient(server.endpoint, TOKEN) as bob, eve:
        asking = asyncio.create_task(ask(bob, model="fast"))
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        waiting = await start(eve, model="default")
        await until(lambda: len(server.requests.running) == 2)
        if how == "cancelled":
            await eve.cancel(waiting.request_id)
            assert (await waiting.response).finish_reason == "cancelled"
        else:
            await eve.close()
        await until(lambda: len(server.requests.running) == 1)
        gate.open()
        assert (await asking).response_text == "an answer"
    kind = "call" if how == "cancelled" else "cut"
    assert outcomes(server)[0] == ("eve", kind, "cancelled", False)
    assert len(fake_llm.requests) == 1


async def test_a_server_that_stops_ends_those_who_wait(fake_llm, serve, sharing):
    """Every request has its end in the audit."""
    fake_llm.script(Reply(hang=True))
    server = await serve()
    async with LLMZmqClient(server.endpoint, TOKEN) as client:
        for _ in range(5):
            await start(client, model="fast")
        await until(lambda: len(server.requests.running) == 5)
        await fake_llm.reaches(lambda f: f.open_requests == 1)
        await server.close(0)
        rows = [row._asdict() for row in Ledger(server.ledger_path).calls()]
    assert audit_problems(rows) == []
    assert [row["kind"] for row in rows].count("cut") == 5


async def test_a_kept_answer_that_cannot_be_read_is_asked_again(fake_llm, sharing, server, bob):
    """A damaged row of the file costs a request, and nothing else."""
    numbered(fake_llm)
    await ask(bob, model="fast")
    with Ledger(server.ledger_path).opened(read_only=False) as db:
        db.execute("UPDATE answers SET response = 'x'")
    assert (await ask(bob, model="fast")).response_text == "answer 2"


async def test_hits_take_no_turn_at_the_vendor(fake_llm, sharing, server, bob, eve):
    """A kept answer is given while all slots of the model are taken."""
    fake_llm.script(lambda seen: Reply("x") if "known" in seen.last_text else Reply(hang=True))
    await ask(bob, "known", model="fast")
    for n in range(10):
        await start(bob, f"new {n}", model="fast")
    await fake_llm.reaches(lambda f: f.open_requests == 10)
    assert (await ask(eve, "known", model="default")).from_ledger


def test_sharing_needs_answers(server_config):
    """With `audit = "metadata"` there is nothing to share: an error that says so."""
    server_config["server"] |= {"share_answers": True, "audit": "metadata"}
    with pytest.raises(LLMConfigError, match=r"server\.share_answers.*metadata"):
        LLMServer(server_config)
