"""Who may ask: one of all the programs that want the same answer, and nobody for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman import LLMLedgerClient
from aitoolman._ledger import claims as module
from aitoolman._ledger.claims import (
    Claim,
    Claims,
    Owner,
    claims_path,
    end_claims,
    renew_claims,
    take_claims,
)

from .helpers import Echo, Gated, ask, ask_gated, counts, start, until

KEY = b"k" * 32


def nothing_found(keys):
    return {}


@contextlib.contextmanager
def opened(path):
    """The file of claims, for a look or a change from outside."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.db-claims"


@pytest.fixture
def db(file):
    connection = module._open(file)
    yield connection
    connection.close()


def claim_of(token, **fields) -> Claim:
    return Claim(KEY, Owner(**{"token": token, "pid": os.getpid(), "host": "here"} | fields))


# Whose claim holds


@pytest.mark.parametrize(
    ("owner", "later", "granted"),
    [
        ({}, 0, False),
        ({}, 16, True),
        ({"pid": 2**22 + 1}, 0, True),
        ({"pid": 2**22 + 1, "host": "elsewhere"}, 0, False),
        ({"pid": 1}, 0, False),
    ],
    ids=["alive", "lease over", "dead", "dead elsewhere", "of another user"],
)
def test_whose_claim_holds(db, owner, later, granted):
    """A living owner's claim holds for its lease; a dead one's on this machine for no moment."""
    other, mine = claim_of("other", **owner), claim_of("mine")
    assert take_claims(db, [other], now=1000.0) == [other]
    assert take_claims(db, [mine], now=1000.0 + later) == ([mine] if granted else [])
    end_claims(db, [other])
    assert db.execute("SELECT count(*) FROM claims").fetchone()[0] == granted


def test_a_renewed_claim_holds_longer(db):
    """The upkeep of a living process keeps its claim, until somebody else has it."""
    other, mine, late = claim_of("other"), claim_of("mine"), claim_of("late")
    take_claims(db, [other], now=1000.0)
    renew_claims(db, [other], now=1010.0)
    assert take_claims(db, [mine], now=1020.0) == []
    assert take_claims(db, [mine], now=1026.0) == [mine]
    renew_claims(db, [other], now=1026.0)
    assert take_claims(db, [late], now=1042.0) == [late]


def test_of_many_each_is_taken_or_not_by_itself(db):
    """One that others hold leaves the rest of a group free."""
    keys = [bytes([n]) * 32 for n in range(5)]
    owners = [Owner(f"t{n}", os.getpid(), "here") for n in range(5)]
    theirs = Claim(keys[2], Owner("theirs", os.getpid(), "here"))
    take_claims(db, [theirs])
    wanted = [Claim(key, owner) for key, owner in zip(keys, owners, strict=True)]
    assert take_claims(db, wanted) == [wanted[n] for n in (0, 1, 3, 4)]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["take", "end", "answer"])),
        max_size=40,
    )
)
def test_at_most_one_holds_a_question(tmp_path_factory, steps):
    """Whatever three clients take and give back, no two hold the same key; in the end none does."""
    file = tmp_path_factory.mktemp("claims") / "claims"

    async def play() -> None:
        clients = [Claims(file, f"c{n}", nothing_found) for n in range(3)]
        held: dict[int, tuple[int, Claim]] = {}
        for who, what, step in steps:
            if step == "take":
                got = await clients[who].take(bytes([what]) * 32)
                # What its owner has done with may stand in the file until that one writes again.
                if isinstance(got, Claim):
                    assert what not in held
                    held[what] = (who, got)
            elif held.get(what, (None,))[0] == who:
                _, claim = held.pop(what)
                (clients[who].release if step == "end" else clients[who].answered)(claim)
        for what, (who, claim) in held.items():
            clients[who].release(claim)
            fresh = await clients[(who + 1) % 3].take(bytes([what]) * 32)
            assert isinstance(fresh, Claim)
        for client in clients:
            await client.close()

    asyncio.run(play())
    with opened(file) as db:
        assert db.execute("SELECT count(*) FROM claims").fetchone()[0] == 0


async def test_a_claim_in_use_is_renewed(file, monkeypatch):
    """A long request keeps its claim: the lease in the file goes on."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.06)
    claims = Claims(file, "c", nothing_found)
    await claims.take(KEY)
    with opened(file) as db:

        def lease() -> float:
            return db.execute("SELECT lease FROM claims").fetchone()[0]

        first = lease()
        await until(lambda: lease() > first + 0.1)
    await claims.close()


async def test_a_claim_that_came_too_late_for_its_caller_goes_back(file):
    """Cancelled between the grant and the moment that the caller would have heard of it."""
    mine, other = Claims(file, "mine", nothing_found), Claims(file, "other", nothing_found)
    await mine.take(b"another" * 4)  # so that the next one waits for company
    task = asyncio.create_task(mine.take(KEY))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(await other.take(KEY), Claim)
    await mine.close()
    await other.close()


async def test_thousands_at_once_all_get_their_turn(file):
    """More than go into one transaction: each is granted, none twice."""
    mine, other = Claims(file, "mine", nothing_found), Claims(file, "other", nothing_found)
    keys = [n.to_bytes(32, "big") for n in range(1300)]
    await mine.take(KEY)
    got = await asyncio.gather(*[mine.take(key) for key in keys])
    assert [claim.fingerprint for claim in got] == keys
    await other.take(b"another" * 4)
    assert await asyncio.gather(*[other.take(key) for key in keys]) == [None] * 1300
    await mine.close()
    await other.close()


async def test_closing_waits_for_no_lock_that_stays(file, monkeypatch):
    """What cannot be given back is left to its lease."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    mine = Claims(file, "mine", nothing_found)
    await mine.take(KEY)
    with opened(file) as db:
        db.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(10):
            await mine.close()
        db.execute("ROLLBACK")
        assert db.execute("SELECT count(*) FROM claims").fetchone()[0] == 1


# The file in trouble


async def test_another_programs_write_is_waited_for_while_the_loop_goes_on(path, caplog):
    """A lock on the claims delays a call and blocks nothing else."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
        with opened(claims_path(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            asking = await start(client, "new")
            await until(lambda: client._engine._claims._busy_since)
            assert (await ask(client)).from_ledger
            assert len(inner.requests) == 1
            db.execute("ROLLBACK")
        assert (await asking.response).response_text == "2: new"
        assert client._engine._claims._db is not None
    assert not caplog.records


async def test_a_lock_that_never_ends_ends_the_claims_not_the_calls(path, caplog, monkeypatch):
    """After a while calls go on without claims, and the log says so once."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.02)
    async with LLMLedgerClient(Echo(), path) as client:
        with opened(claims_path(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            texts = await asyncio.gather(*[ask(client, str(n)) for n in range(20)])
        assert len({r.response_text for r in texts}) == 20
        assert (await ask(client, "3")).from_ledger
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert f"{claims_path(path)} failed" in caplog.text


async def test_a_spoilt_file_is_made_anew(path, caplog):
    """What a crash of the machine left behind costs nobody anything."""
    path.parent.mkdir(exist_ok=True)
    claims_path(path).write_bytes(b"no database at all" * 500)
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        asking = await start(first)
        await one.sent()
        waiting = await start(second)
        one.step("x")
        one.step(None)
        await asking.response
        assert (await waiting.response).from_ledger
    assert not two.requests
    assert not caplog.records


async def test_a_file_that_cannot_be_made_costs_no_answer(path, caplog):
    """Something else stands under its name: calls go on, and the log says so once."""
    claims_path(path).mkdir()
    async with LLMLedgerClient(Echo(), path) as client:
        assert [(await ask(client)).from_ledger for _ in range(2)] == [False, True]
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert str(claims_path(path)) in caplog.text


@pytest.mark.parametrize("damage", ["lease = 'x'", "pid = 1 << 40", "pid = 'x'"])
async def test_a_row_that_cannot_be_means_no_hanging_call(path, caplog, damage):
    """What a spoilt page may hold: the claims end, and every call is answered."""
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        held = await start(second, "held")
        await two.sent()
        asking = await start(first, "q")
        await one.sent()
        with opened(claims_path(path)) as db:
            db.execute(f"UPDATE claims SET {damage}")
        late = [await start(second, text) for text in ("q", "other")]
        async with asyncio.timeout(10):
            await two.sent(3)
            for number in range(3):
                two.step(None, number)
            one.step(None)
            for request in (held, asking, *late):
                assert (await request.response).finish_reason == "stop"
    assert [r.levelno for r in caplog.records][:1] == [logging.ERROR]


async def test_opening_waits_for_no_lock(path):
    """Another program writes its claims: a client opens at once all the same."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
    with opened(claims_path(path)) as db:
        db.execute("BEGIN IMMEDIATE")
        claims = Claims(claims_path(path), "c", nothing_found)
        assert claims._db is not None
        db.execute("ROLLBACK")
        await claims.close()


async def test_a_lock_in_idle_times_does_not_count_later(file, monkeypatch):
    """Where nothing is to be written, nobody else's lock is noticed."""
    claims = Claims(file, "c", nothing_found)
    claims.release(await claims.take(KEY))
    with opened(file) as db:
        db.execute("BEGIN IMMEDIATE")
        claims._keep_up()
        db.execute("ROLLBACK")
    assert claims._busy_since is None
    await claims.close()


async def test_a_link_to_a_ledger_is_that_ledger(path, tmp_path):
    """Its claims are the same, so that a question is sent once."""
    one, two = Gated(), Gated()
    link = tmp_path / "elsewhere.db"
    link.symlink_to(path)
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, link) as second:
        await ask_gated(second, two, "warm")  # from now on it claims in the turn of the call
        asking = await start(first)
        await one.sent()
        waiting = await start(second)
        await until(lambda: second._engine._flights)
        one.step("x")
        one.step(None)
        await asking.response
        async with asyncio.timeout(10):
            assert (await waiting.response).from_ledger
    assert len(two.requests) == 1


async def test_two_that_were_forked_with_one_client_are_two(file):
    """Clients of one name, as a fork leaves them, do not take each other's claims for their own."""
    one, two = (Claims(file, "the same", nothing_found) for _ in range(2))
    claim = await one.take(KEY)
    assert isinstance(claim, Claim)
    assert await two.take(KEY) is None
    await two.close()
    with opened(file) as db:
        assert db.execute("SELECT count(*) FROM claims").fetchone()[0] == 1
    await one.close()


async def test_only_its_owner_reads_the_claims(path):
    """Mode 0600, as the ledger's own."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
        modes = {f.name: f.stat().st_mode & 0o777 for f in path.parent.iterdir() if f.is_file()}
    assert {name for name in modes if "claims" in name}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("mode", ["record", "refresh"])
async def test_who_reuses_nothing_claims_nothing(path, mode):
    """These modes ask in any case, so they have no file of claims."""
    async with LLMLedgerClient(Echo(), path, mode) as client:
        await ask(client)
    assert not claims_path(path).exists()


# Through clients


async def test_the_owner_that_lost_its_claim_still_records(path):
    """A process that slept past its lease: both answers are paid, both are kept."""
    one, two = Gated(), Gated()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        asking = await start(first)
        await one.sent()
        with opened(claims_path(path)) as db:
            db.execute("UPDATE claims SET lease = 0")
        other = await start(second)
        await two.sent()
        one.step("slow")
        one.step(None)
        two.step("quick")
        two.step(None)
        assert (await asking.response).response_text == "slow"
        assert (await other.response).response_text == "quick"
    assert counts(path) == {"answers": 2, "calls": 2, "claims": 0, "media": 0}


async def test_an_answer_that_came_just_before_the_claim_is_found(path):
    """Between the first look and the claim another client answered: nothing is sent."""
    one, two = Echo(), Echo()
    async with LLMLedgerClient(one, path) as first, LLMLedgerClient(two, path) as second:
        await ask(second, "other")  # so that the model is known and the claim comes at once
        engine = second._engine
        real = engine._store.find

        def find(key):
            found = real(key)
            engine._store.find = real
            with contextlib.closing(sqlite3.connect(path)) as db, db:
                db.execute(
                    "INSERT INTO answers SELECT NULL, ?, 1, created, model, digest, request,"
                    " response, fragments FROM answers LIMIT 1",
                    (key,),
                )
            return found

        engine._store.find = find
        response = await ask(second, "hi")
        assert (response.from_ledger, response.response_text) == (True, "1: other")
        await ask(first, "x")
    assert len(two.requests) == 1
