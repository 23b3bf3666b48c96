"""Reading a ledger: tables, one call whole, two compared, searching, keeping house, the command."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

from aitoolman import (
    LLMApplication,
    LLMApplicationError,
    LLMConfigError,
    LLMLedgerClient,
    LLMScriptedClient,
    LLMUnknownNameError,
    MediaContent,
    Message,
    ScriptedReply,
)
from aitoolman._cli import main as cli
from aitoolman._ledger.reader import Ledger

from .helpers import Echo, ask, counts

PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


@pytest.fixture
async def ledger(path):
    """Four calls and an event."""
    replies = [
        ScriptedReply("Guten Tag", reasoning="German, then", cost=0.25),
        ScriptedReply("Bonjour \u00e0 100%"),
        ScriptedReply(error_text="HTTP 500: over_loaded"),
        ScriptedReply("a cat"),
    ]
    async with LLMLedgerClient(LLMScriptedClient(replies), path) as client:
        await ask(client, "Greet me in German", context_id="app")
        await ask(client, "Greet me in French", context_id="app/1")
        await ask(client, "Fail", model="n", context_id="apple")
        turns = [Message("user", "What is it?", MediaContent("image", data=PNG))]
        await ask(client, messages=turns)
        await client.audit_event("app", "approved", by="Zo\u00eb")
    return Ledger(path)


def seqs(rows):
    return [r.seq for r in rows]


def test_calls_are_filtered(ledger):
    """By context (and below), model, status, time and number."""
    assert seqs(ledger.calls()) == [1, 2, 3, 4, 5]
    assert seqs(ledger.calls(2)) == [4, 5]
    assert seqs(ledger.calls(context="app")) == [1, 2, 5]
    assert seqs(ledger.calls(model="n")) == [3]
    assert seqs(ledger.calls(status="error: request")) == [3]
    assert seqs(ledger.calls(since=time.time())) == []
    assert seqs(ledger.calls(since=time.time() - 60, status="stop", model="m")) == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("greet me", [1, 2]),
        ("GUTEN", [1]),
        ("\u00e0 100%", [2]),
        ("100", [2]),
        ("1_0", []),
        ("over_loaded", [3]),
        ("Zo\u00eb", [5]),
        ("German, then", [1]),
        ("content", []),
        ("response_text", []),
        ("", [1, 2, 3, 4, 5]),
    ],
)
def test_text_is_found_in_prompts_answers_errors_and_events(ledger, text, found):
    """Every text of a call, and not the names of fields; `%` and `_` are just characters."""
    assert seqs(ledger.calls(text=text)) == found


def test_one_call_whole(ledger):
    """Numbers, request and answer; as text, too."""
    call = ledger.call(1)
    assert call.request == {"messages": [{"role": "user", "content": "Greet me in German"}]}
    assert call.response["response_reasoning"] == "German, then"
    assert "Guten Tag" in str(call)
    assert "cost: 0.25" in str(call)
    assert ledger.call(4).request["messages"][0]["media"][0]["bytes"] == len(PNG)
    assert ledger.call(5).request is None
    with pytest.raises(LLMUnknownNameError, match="no call number 9"):
        ledger.call(9)


def test_two_calls_side_by_side(ledger):
    """What differs in prompt and answer; nothing for a call and itself."""
    diff = ledger.diff(1, 2)
    assert "-Greet me in German" in diff
    assert "+Greet me in French" in diff
    assert "-Guten Tag" in diff
    assert ledger.diff(1, 1) == ""


def test_a_table_shows_itself(ledger):
    """As text, as HTML with everything escaped, as dicts, sliced."""
    rows = ledger.calls()
    assert "error: request" in repr(rows)
    assert "approved" in repr(rows)
    assert rows._repr_html_().count("<tr>") == 6
    assert seqs(rows[1:3]) == [2, 3]
    assert rows[0].cost == 0.25
    assert rows.dicts()[4]["event"] == "approved"
    assert repr(ledger.calls(model="none")) == "no calls"


async def test_html_of_a_table_is_escaped(path):
    """A model name or an error cannot write markup."""
    async with LLMLedgerClient(LLMScriptedClient(ScriptedReply(error_text="<b>")), path) as client:
        await ask(client, model="<script>")
    page = Ledger(path).calls()._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page


def test_a_table_is_a_dataframe_where_pandas_is(ledger):
    """All columns, times as timestamps."""
    pandas = pytest.importorskip("pandas")
    frame = ledger.calls().frame()
    assert list(frame["seq"]) == [1, 2, 3, 4, 5]
    assert frame["time"].dt.tz is not None
    assert frame["from_ledger"].dtype == bool
    assert isinstance(frame, pandas.DataFrame)


async def test_the_log_of_an_application_has_what_was_just_done(path):
    """`app.log()` waits for rows under way; `mine` leaves others out; filters need a ledger."""
    modules = {"module_default": {"model": "m"}, "module": {"a": {"template": {"user": "{{ x }}"}}}}
    async with LLMLedgerClient(Echo(), path) as client:
        app, other = LLMApplication(client, modules), LLMApplication(client, modules)
        assert len(app.log()) == 0
        for n in range(20):
            await app["a"](x="1")
            assert len(app.log()) == 2 * n + 1
            await other["a"](x="1")
        assert len(app.log(mine=True)) == 20
        assert len(app.log(3)) == 3
        assert len(app.log(text="1: 1")) == 40
    bare = LLMApplication(LLMScriptedClient("x"), modules)
    with pytest.raises(LLMApplicationError, match="text needs a ledger"):
        bare.log(text="x")


def test_pruning_removes_what_was_asked_for_and_nothing_else(ledger, path):
    """By model, by age, everything; media go with the last answer that needs them."""
    assert ledger.prune(model="n") == {"answers": 1, "media": 0}
    assert ledger.prune(before=time.time() - 60) == {"answers": 0, "media": 0}
    assert counts(path) == {"answers": 3, "calls": 5, "claims": 0, "media": 1}
    assert ledger.prune(calls=True) == {"answers": 3, "calls": 5, "media": 1}
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"Greet me" not in content
    assert b"Guten" not in content
    assert PNG not in content


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-claims", "-claims-wal"])
async def test_a_ledger_is_never_exported_over_itself(command, ledger, path, tmp_path, ending):
    """Whatever name its place is given; in use, too, nothing of it is touched."""
    link = tmp_path / "link"
    link.symlink_to(path.with_name(path.name + ending))
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client, "another")
        for target in (link, path.with_name(path.name + ending)):
            with pytest.raises(LLMConfigError, match="is the ledger itself"):
                ledger.export(target)
            assert command("export", str(target))[0] != 0
    assert ledger.verify() == []
    assert counts(path)["answers"] == 5


async def test_numbers_are_never_given_twice(ledger, path):
    """After pruning, the sequence goes on."""
    ledger.prune(calls=True)
    async with LLMLedgerClient(Echo(), path) as client:
        await ask(client)
    assert seqs(ledger.calls()) == [6]


async def test_pruning_a_ledger_in_use(path):
    """Rows vanish under an open client; it asks again and goes on."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        await ask(client)
        Ledger(path).prune()
        assert not (await ask(client)).from_ledger
        assert (await ask(client)).from_ledger


def test_a_sound_file_verifies_and_a_damaged_one_does_not(ledger, path):
    """Broken JSON, changed media, a wrong key, torn pages."""
    assert ledger.verify() == []
    db = sqlite3.connect(path)
    db.execute("UPDATE answers SET request = 'x' WHERE id = 1")
    db.execute("UPDATE answers SET fingerprint = x'00' WHERE id = 2")
    db.execute("UPDATE media SET data = x'00'")
    db.commit()
    db.close()
    problems = "\n".join(ledger.verify())
    assert "answer 1 cannot be read" in problems
    assert "1 bytes instead of 32" in problems
    assert "other bytes" in problems
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    path.write_bytes(content)
    assert any("SQLite" in problem for problem in ledger.verify())


def test_a_missing_ledger_is_said(tmp_path):
    """No empty file is made by looking."""
    with pytest.raises(FileNotFoundError, match="no ledger at"):
        Ledger(tmp_path / "none.db")
    assert not list(tmp_path.iterdir())


# The command


@pytest.fixture
def command(ledger, capsys):
    def run(*words: str) -> tuple[int, str]:
        try:
            code = cli.main(["ledger", words[0], "--path", str(ledger.path), *words[1:]])
        except SystemExit as exit_:
            code = exit_.code
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_command_lists_and_filters(command):
    """`ls` as a table and as JSON lines."""
    code, out = command("ls")
    assert code == 0
    assert len(out.splitlines()) == 6
    code, out = command("ls", "--json", "--model", "m", "--text", "greet", "-n", "1")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [2]
    assert command("ls", "--since", "1h", "--status", "stop")[1].count("stop") == 3
    code, out = command("ls", "--since", "yesterday")
    assert code == 2
    assert "--since" in out


def test_the_command_shows_and_compares(command):
    """`show` and `diff`; exit code 1 where calls differ, or where there is none."""
    assert "Guten Tag" in command("show", "1")[1]
    assert json.loads(command("show", "1", "--json")[1])["response"]["response_text"] == "Guten Tag"
    code, out = command("diff", "1", "2")
    assert code == 1
    assert "+Greet me in French" in out
    assert command("diff", "1", "1") == (0, "prompt and answer are the same\n")
    code, out = command("show", "77")
    assert code == 1
    assert "no call number 77" in out


def test_the_command_exports_and_removes(command, tmp_path):
    """`export` and `prune` say how many; `prune` wants to know what."""
    code, out = command("export", str(tmp_path / "x.jsonl"))
    assert (code, out.split()[0]) == (0, "4")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 4
    code, out = command("prune")
    assert code == 2
    assert "--before AGE, --model NAME or --all" in out
    assert "0 answers" in command("prune", "--before", "30d")[1]
    assert json.loads(command("prune", "--all", "--calls", "--json")[1]) == {
        "answers": 4, "calls": 5, "media": 1
    }  # fmt: skip
    assert command("ls")[1] == "no calls\n"


def test_the_command_verifies(command, path):
    """Exit code 1 for a file that is not sound, or is no ledger."""
    assert command("verify")[0] == 0
    db = sqlite3.connect(path)
    db.execute("UPDATE answers SET response = 'x' WHERE id = 1")
    db.commit()
    db.close()
    code, out = command("verify")
    assert code == 1
    assert "answer 1" in out
    assert json.loads(command("verify", "--json")[1])["problems"]
    path.write_bytes(b"junk" * 1000)
    code, out = command("verify")
    assert code == 1
    assert "cannot be opened as a ledger" in out
