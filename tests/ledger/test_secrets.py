"""A canary key, placed everywhere a key can stand, is in no ledger, export, error or log."""

from __future__ import annotations

import logging

import pytest

from aitoolman import LLMLedgerClient, LLMLocalClient, connect
from aitoolman._ledger.reader import Ledger
from tests.fake_llm import Reply

from .helpers import ask

CANARY = "canary-4f1e9b77/+&key"


def config(fake_llm, **entry):
    base = {"url": fake_llm.openai_url, "model": "big"}
    return {"default": {"max_retries": 0}, "api": {"m": base | entry}}


PLACES = {
    "api_key": lambda f: config(f, api_key=CANARY),
    "header": lambda f: config(f, headers={"X-Api-Key": CANARY}),
    "bearer": lambda f: config(f, headers={"Authorization": f"Bearer {CANARY}"}),
    "query": lambda f: config(f, url=f"{f.openai_url}?api_key=canary-4f1e9b77-plain"),
    "userinfo": lambda f: config(
        f, url=f.openai_url.replace("http://", "http://me:canary-4f1e9b77-plain@")
    ),
    "variable": lambda f: config(f, api_key="${CANARY_API_KEY}"),
}


def echoing(seen):
    """A vendor that says back whatever it was told, in the error or in the answer."""
    told = " ".join([*seen.headers.values(), seen.path])
    if "fail" in seen.last_text:
        return Reply(status=401, error=f"wrong key: {told}", error_code="invalid_api_key")
    return Reply(text=f"you said {told}", reasoning=told, chunks=[*f"you said {told}"])


@pytest.mark.parametrize("mode", ["record", "read_write"])
@pytest.mark.parametrize("place", PLACES)
async def test_the_canary_is_nowhere(tmp_path, fake_llm, monkeypatch, caplog, place, mode):
    """Echoed by the vendor or quoted by the prompt, streamed in single characters or whole."""
    monkeypatch.setenv("CANARY_API_KEY", CANARY)
    monkeypatch.setenv("AITOOLMAN_TEST", "1")
    fake_llm.script(echoing)
    path = tmp_path / "ledger.db"
    caplog.set_level(logging.DEBUG, "aitoolman")
    errors = []
    table = {"mode": mode, "path": str(path)}
    async with connect(PLACES[place](fake_llm), ledger=table) as client:
        for text in ("plain", "fail", f"my key is {CANARY}"):
            for stream in (False, True):
                response = await ask(client, text, model="m", stream=stream, fresh=True)
                errors.append(response.error_text or "")
        await client.audit_event("c", "signed in", key=CANARY)
    assert any(r.status == "stop" for r in Ledger(path).calls())
    Ledger(path).export(tmp_path / "export.jsonl")
    ledger = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    known = place in ("query", "userinfo")  # there, the canary of the prompt is no key of ours
    for spelling in ("canary-4f1e9b77-plain", *([] if known else [CANARY])):
        assert spelling.encode() not in ledger
        assert spelling.encode("unicode_escape") not in ledger
        assert not any(spelling in error for error in errors)
        assert spelling not in caplog.text
    if not known:
        for call in Ledger(path).calls():
            whole = Ledger(path).call(call.seq)
            assert "canary-4f1e9b77" not in "".join(f.text for f in whole.fragments)
            assert "canary-4f1e9b77" not in str(whole)


async def test_a_ledger_around_a_local_client_knows_its_secrets(tmp_path, fake_llm):
    """The client below says what is secret, whatever stands in between."""
    fake_llm.script(echoing)
    inner = LLMLedgerClient(LLMLocalClient(config(fake_llm, api_key=CANARY)), mode="off")
    path = tmp_path / "ledger.db"
    async with LLMLedgerClient(inner, path) as client:
        await ask(client, model="m")
    assert b"canary" not in path.read_bytes()
    assert "***" in (Ledger(path).call(1).response or {})["response_text"]


async def test_keys_are_known_before_they_are_used(tmp_path, fake_llm, caplog):
    """An event before the first call, and a prompt with the key of an entry that is never asked."""
    caplog.set_level(logging.DEBUG, "aitoolman")
    table = config(fake_llm)
    table["api"]["other"] = table["api"]["m"] | {"api_key": CANARY, "url": "${NOT_SET}"}
    path = tmp_path / "ledger.db"
    async with connect(table, ledger={"mode": "record", "path": str(path)}) as client:
        await client.audit_event("c", "signed in", key=CANARY)
        await ask(client, f"my key is {CANARY}", model="m")
    assert "canary" not in caplog.text
    assert len(Ledger(path).calls()) == 2
    assert b"canary" not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
