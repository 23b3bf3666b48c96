"""A file that cannot be used, or fails in mid-flight: no answer is lost for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3

import pytest

from aitoolman import LLMConfigError, LLMLedgerClient, LLMScriptedClient
from aitoolman._ledger.reader import Ledger

from .helpers import Echo, Sink, ask, counts


def full_disk(client):
    """Let the file of an open client grow no more, as on a full disk."""

    def work(db):
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")

    return client._engine._store._writer.run(work)


async def test_a_full_disk_costs_no_answer(path, caplog, nothing_left):
    """The caller has its answer with a note; the log says once what is wrong; later all is well."""
    inner = LLMScriptedClient(lambda request: "x" * 100_000)
    async with LLMLedgerClient(inner, path) as client:
        await ask(client, "before")
        await full_disk(client)
        with caplog.at_level(logging.ERROR, "aitoolman.ledger"):
            for text in ("one", "two"):
                response = await ask(client, text)
                assert response.response_text == "x" * 100_000
                assert "full" in response.notes[0]
        assert len(caplog.records) == 1
        assert str(path) in caplog.text
        assert (await ask(client, "before")).from_ledger
        await client._engine._store._writer.run(
            lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone()
        )
        await ask(client, "one")
        assert (await ask(client, "one")).from_ledger
    assert counts(path)["claims"] == 0


async def test_a_corrupt_answer_is_asked_again(path, caplog):
    """What cannot be read counts as not there."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE answers SET response = x'00ff'")
        db.close()
        again = await ask(client)
        assert (again.response_text, again.from_ledger) == ("2: hi", False)
        assert (await ask(client)).response_text == "2: hi"
        assert "cannot be read" in caplog.text
    assert "answer 1 cannot be read" in Ledger(path).verify()[0]


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 200])
async def test_a_file_that_is_no_database_is_refused_with_its_path(path, content):
    """Nothing is paid before the user knows that nothing would be recorded."""
    path.write_bytes(content)
    inner = Echo()
    with pytest.raises(LLMConfigError, match="cannot be opened as a ledger") as caught:
        async with LLMLedgerClient(inner, path):
            pass
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content
    assert not inner.requests


async def test_the_file_of_another_program_is_left_alone(path):
    """Any other SQLite file is told from a ledger."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE calls (x)")
    db.close()
    with pytest.raises(LLMConfigError, match="no aitoolman ledger"):
        async with LLMLedgerClient(Echo(), path):
            pass


async def test_a_path_that_cannot_be_written_is_an_error_at_once(tmp_path):
    """A folder in place of the file."""
    with pytest.raises(LLMConfigError, match="cannot be opened"):
        async with LLMLedgerClient(Echo(), tmp_path):
            pass


async def test_a_locked_file_delays_and_does_not_fail(path):
    """Another program's long transaction is waited for, and the loop stays free meanwhile."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client, "kept")
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(ask(client, "new"))
        assert (await ask(client, "kept")).from_ledger
        assert not waiting.done()
        blocker.execute("COMMIT")
        blocker.close()
        assert not (await waiting).notes


async def test_one_bad_piece_of_work_does_not_spoil_its_group(path):
    """A group is done together; where one piece fails, the others are done all the same."""
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
        writer = client._engine._store._writer

        def add(db):
            db.execute("INSERT INTO about VALUES (?, 'x')", (os.urandom(8).hex(),))
            return "done"

        def fail(db):
            add(db)
            raise ValueError("no")

        outcomes = await asyncio.gather(
            *[writer.run(w) for w in (add, fail, add)], return_exceptions=True
        )
        assert [str(o) for o in outcomes] == ["done", "no", "done"]
        assert await writer.run(lambda db: db.execute(
            "SELECT count(*) FROM about WHERE value = 'x'").fetchone()[0]) == 2  # fmt: skip


async def test_two_modes_on_one_file_live_together(path):
    """A recording client and a reusing one, at once."""
    inner = Echo()
    async with LLMLedgerClient(inner, path, "record") as one, LLMLedgerClient(inner, path) as two:
        await ask(one)
        assert (await ask(two)).from_ledger
        await ask(one)
        assert (await ask(two)).response_text == "2: hi"


# The end of a program

UNCLOSED = """
import asyncio, sys, aitoolman
from aitoolman._datamodel import Message
inner = aitoolman.LLMScriptedClient("ok")
client = aitoolman.LLMLedgerClient(inner, sys.argv[1])
async def main():
    for _ in range(5):
        request = await client.request("m", [Message("user", "hi")])
        await request.response
    print("answered")
if sys.argv[2] == "background":
    app = aitoolman.LLMApplication(client, {})
    for _ in range(5):
        app.sync.call(aitoolman.LLMDirectRequest("m", [Message("user", "hi")]))
elif sys.argv[2] == "entered":
    async def inside():
        await client.__aenter__()
        await main()
    asyncio.run(inside())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("home", ["background", "entered", "other"])
def test_a_program_that_never_closes_its_client_loses_no_row(path, run_script, tmp_path, home):
    """Rows that were posted are written before the interpreter ends."""
    script = tmp_path / "unclosed.py"
    script.write_text(UNCLOSED)
    done = run_script(script, str(path), home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = counts(path)
    assert (found["answers"], found["calls"]) == (1, 5)


FORKED = """
import asyncio, os, sys, aitoolman
from aitoolman._datamodel import Message
def ask(text):
    async def main():
        inner = aitoolman.LLMScriptedClient("ok")
        async with aitoolman.LLMLedgerClient(inner, sys.argv[1]) as client:
            await (await client.request("m", [Message("user", text)])).response
    asyncio.run(main())
ask("parent")
children = []
for n in range(3):
    pid = os.fork()
    if not pid:
        ask(f"child {n}")
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
ask("parent again")
"""


def test_forked_processes_write_to_the_same_file(path, run_script, tmp_path):
    """Children made by fork use clients of their own."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = run_script(script, str(path))
    assert done.returncode == 0, done.stderr
    assert counts(path)["answers"] == 5
    assert Ledger(path).verify() == []


POOL = """
import multiprocessing, sys, aitoolman
client = aitoolman.LLMLedgerClient(aitoolman.LLMScriptedClient("ok"), sys.argv[1])
modules = {"module": {"a": {"model": "m", "template": {"user": "{{ x }}"}}}}
app = aitoolman.LLMApplication(client, modules)
def work(number):
    return app.sync["a"](x=str(number)).from_ledger
first = work(0)
with multiprocessing.get_context("fork").Pool(3) as pool:
    found = pool.map(work, range(12))
    pool.close()
    pool.join()
print(first, found, work(11), work(12))
"""


def test_a_pool_of_forked_processes_uses_the_parents_client(path, run_script, tmp_path):
    """A client made before the fork starts anew in each child; nothing hangs, nothing is lost."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = run_script(script, str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == f"False {[True, *[False] * 11]} True False".split()
    assert counts(path)["answers"] == 13
    assert Ledger(path).verify() == []


SURVIVOR = """
import os, sys, time, aitoolman
client = aitoolman.LLMLedgerClient(aitoolman.LLMScriptedClient("ok"), sys.argv[1])
modules = {"module": {"a": {"model": "m", "template": {"user": "{{ x }}"}}}}
app = aitoolman.LLMApplication(client, modules)
app.sync["a"](x="parent")
asked, closed = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    app.sync["a"](x="child")
    os.write(asked[1], b"x")
    os.read(closed[0], 1)
    app.sync["a"](x="child alone")
    start = time.monotonic()
    found = len(app.log())
    os._exit(found if time.monotonic() - start < 2 else 99)
os.read(asked[0], 1)
client.sync.close()
other = aitoolman.Ledger(sys.argv[1])
with other.opened(read_only=False) as db:
    db.execute("PRAGMA user_version")
os.write(closed[1], b"x")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_outlives_its_parents_client(path, run_script, tmp_path):
    """Whoever closes the file elsewhere does not take away what the child writes."""
    script = tmp_path / "survivor.py"
    script.write_text(SURVIVOR)
    done = run_script(script, str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]
    assert counts(path)["answers"] == 3
    assert Ledger(path).verify() == []


ELSEWHERE = """
import sys
from pathlib import Path
from aitoolman._ledger.schema import open_ledger
db = open_ledger(Path(sys.argv[1]))
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="locks belong to the handle there")
async def test_an_open_ledger_holds_its_locks_whatever_this_process_does_with_it(
    path, run_script, tmp_path
):
    """Another process that closes the file is not the last one: the write-ahead log stays."""
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    async with LLMLedgerClient(LLMScriptedClient("ok"), path) as client:
        await ask(client, "one")
        ledger = Ledger(path)
        assert (len(ledger.calls()), ledger.verify(), ledger.export(tmp_path / "x")) == (1, [], 1)
        async with LLMLedgerClient(LLMScriptedClient("ok"), path) as second:
            await ask(second, "two")
        log = path.with_name("ledger.db-wal")
        before = log.stat().st_ino
        done = await asyncio.to_thread(run_script, script, str(path))
        assert done.returncode == 0, done.stderr
        assert log.stat().st_ino == before
        await ask(client, "three")
    assert counts(path)["answers"] == 3


async def test_an_answer_that_cannot_be_kept_reaches_its_caller(path, caplog):
    """A client of one's own may put anything into its response."""

    class Odd(Echo):
        async def request(self, *args, **kwargs):
            request = await super().request(*args, **kwargs)
            request.response.add_done_callback(
                lambda future: future.result().response_tool_calls.append("no tool call")
            )
            return request

    async with LLMLedgerClient(Odd(), path) as client:
        response = await ask(client)
    assert response.response_text == "1: hi"
    assert "could not record" in response.notes[0]
    assert [r.status for r in Ledger(path).calls()] == ["stop"]


async def test_a_caller_that_fails_to_end_its_message_still_has_its_answer(path):
    """A sink that raises at the end only."""

    class Ends(Sink):
        async def write(self, message):
            if message is None:
                raise RuntimeError("cannot end")

    async with LLMLedgerClient(Echo(), path) as client:
        response = await ask(client, sink=Ends())
        assert response.finish_reason == "error: application"
        assert response.response_text == "1: hi"
