"""Which requests have the same key, and which have not."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import (
    LLMApplication,
    LLMLedgerClient,
    LLMLocalClient,
    LLMScriptedClient,
    MediaContent,
    Message,
    ToolCall,
)
from aitoolman._datamodel import CallInfo, LLMProviderRequest
from aitoolman._ledger.fingerprint import canonical_request, fingerprint
from aitoolman._ledger.questions import Question

from .helpers import Echo, ask, start, user

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20

texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(texts, json_values, max_size=4)


def turn(role, content, tool_call_id, reasoning, raw):
    return Message(role, content, None, reasoning, tool_call_id, raw)


roles = st.sampled_from(["system", "user", "assistant", "tool"])
maybe = st.none() | texts
messages = st.lists(st.builds(turn, roles, maybe, maybe, maybe, st.none() | tables), max_size=4)


def key(turns, tools=None, options=None, digest="d", sample=0):
    return fingerprint(digest, canonical_request(turns, tools, options), sample)


def backwards(value):
    if isinstance(value, dict):
        return {k: backwards(v) for k, v in reversed(value.items())}
    return [backwards(v) for v in value] if isinstance(value, list) else value


@given(messages, tables, tables)
def test_the_order_of_keys_does_not_matter(turns, tools, options):
    """Two dicts that are equal make equal keys, at any depth; nothing given is changed."""
    before = copy.deepcopy((turns, tools, options))
    turned = [m._replace(raw_value=backwards(m.raw_value)) for m in turns]
    assert key(turns, tools, options) == key(turned, backwards(tools), backwards(options))
    assert (turns, tools, options) == before


@given(messages, tables, st.data())
def test_any_change_of_a_message_changes_the_key(turns, options, data):
    """Another text, a turn more or less, another order: another key."""
    seen = {key(turns, None, options)}
    for other in (
        [*turns, Message("user", "x")],
        [*turns, Message("user", "y")],
        [Message("system", "x"), *turns, Message("user", "")],
        [*turns, Message("assistant", "x")],
    ):
        changed = key(other, None, options)
        assert changed not in seen
        seen.add(changed)


def test_what_is_missing_and_what_is_none_are_the_same():
    """Fields that are not set leave no trace, so that new ones change no key."""
    assert key(user("x"), None, None) == key([Message(role="user", content="x")], {}, {})


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "other"},
        {"sample": 1},
        {"tools": {"t": {"description": "d"}}},
        {"options": {"temperature": 0.5}},
        {"turns": user("x", media_content=MediaContent("image", data=PNG))},
        {"turns": [Message("assistant", "x")]},
        {"turns": user("x", tool_calls=[ToolCall("f", "{}", {})])},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_can_change_an_answer_changes_the_key(other):
    """Model digest, sample, tools, options, media, role and tool calls count."""
    assert key(**({"turns": user("x")} | other)) != key(user("x"))


def media_key(*items):
    return key(user("x", media_content=list(items)))


def test_media_count_by_their_bytes(tmp_path):
    """A file and its bytes are the same medium; one byte more is another, wherever it stands."""
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.write_bytes(PNG)
    other.write_bytes(PNG)
    plain = media_key(MediaContent("image", data=PNG, mime_type="image/png"))
    assert media_key(MediaContent("image", filename=str(one))) == plain
    assert media_key(MediaContent("image", filename=str(other))) == plain
    other.write_bytes(PNG + b"1")
    assert media_key(MediaContent("image", filename=str(other))) != plain
    assert media_key(MediaContent("image", data=PNG, mime_type="image/jpeg")) != plain
    assert media_key(MediaContent("image", filename=str(one), options={"detail": "low"})) != plain
    assert media_key(MediaContent("image", url="http://x/a")) != plain
    assert media_key(MediaContent("image", raw_value={"type": "image"})) != plain


def test_media_are_told_once():
    """Ten times the same picture is kept once, by its hash."""
    turns = [m for _ in range(10) for m in user("x", media_content=MediaContent("image", data=PNG))]
    question = Question(LLMProviderRequest("c", None, "r", "m", turns))
    assert list(question.media.values()) == [PNG]
    assert PNG not in question.encoded


def test_streaming_context_and_freshness_do_not_count():
    """How an answer travels and who asks is not part of the question."""
    plain = Question(LLMProviderRequest("c", None, "r", "m", user("x"), {}, {}))
    other = Question(
        LLMProviderRequest("d", "ctx", "s", "alias", user("x"), {}, {}, stream=True,
                           call=CallInfo("source", 0, fresh=True))
    )  # fmt: skip
    assert plain.key("d") == other.key("d")


async def test_a_client_of_ones_own_is_told_by_class_and_model_name():
    """Three methods are enough: the default digest is class path and model name."""
    one, two = LLMScriptedClient("x"), LLMScriptedClient("y")
    assert (await one.describe("m")).digest == (await two.describe("m")).digest
    assert (await one.describe("m")).digest != (await one.describe("n")).digest
    assert (await one.describe("m")).digest != (await Echo().describe("m")).digest


def config(url="http://one.invalid/v1/chat/completions", **changes):
    entry = {"url": url, "model": "big", "api_key": "sk-one"} | changes.pop("entry", {})
    return {
        "api": {"a": entry, "b": {"url": url, "model": "small"}},
        "model_alias": {"x": "a", "list": ["a", "b"]},
    } | changes


async def digests(configuration, *names):
    async with LLMLocalClient(configuration) as client:
        return [(await client.describe(name)).digest for name in names]


async def test_a_digest_tells_what_an_entry_is_and_not_how_it_is_reached():
    """Keys, headers, retries, timeouts, limits and prices don't count; the rest does."""
    (plain,) = await digests(config(), "x")
    for entry in (
        {"api_key": "sk-other"},
        {"headers": {"X-Team": "a"}},
        {"max_retries": 9, "timeout": 3, "parallel": 7, "rpm": 9},
        {"price": {"input": 1, "output": 2}},
    ):
        assert await digests(config(entry=entry), "x") == [plain], entry
    for entry in (
        {"model": "other"},
        {"url": "http://two.invalid/v1/chat/completions"},
        {"body_options": {"temperature": 0.5}},
        {"type": "anthropic"},
    ):
        assert await digests(config(entry=entry), "x") != [plain], entry
    assert await digests(config(model_alias={"x": "b"}), "x") != [plain]
    assert await digests(config(model_alias={"x": ["a", "b"]}), "x") != [plain]
    assert await digests(config(), "a") == [plain]


MODULES = {
    "module_default": {"model": "m"},
    "module": {"a": {"template": {"system": "Be {{ mood }}.", "user": "{{ x }}"}}},
}


async def test_the_same_program_hits_through_any_wrapping_and_a_changed_one_misses(path):
    """Module, direct client, streamed or not: one key. Template, options and tools: another."""
    inner = Echo()
    async with LLMLedgerClient(inner, path) as client:
        app = LLMApplication(client, MODULES)
        await app["a"](x="1", mood="brief")
        for again in ({"_stream": True}, {"_stream": False}, {"_model_name": "m"}):
            assert (await app["a"](x="1", mood="brief", **again)).from_ledger
        turns = [Message("system", "Be brief."), Message("user", "1")]
        assert (await ask(client, messages=turns)).from_ledger
        async with LLMLedgerClient(client, path.with_name("outer.db")) as outer:
            assert (await ask(outer, messages=turns)).from_ledger
        other = LLMApplication(client, copy.deepcopy(MODULES))
        assert (await other["a"](x="1", mood="brief")).from_ledger
        other.add_module("a", {"template": {"system": "Be  {{ mood }}.", "user": "{{ x }}"}})
        for module, changed in (
            (other["a"], {}),
            (app["a"], {"_options": {"temperature": 1}}),
            (app["a"], {"_tools": {"t": {"description": "d"}}}),
            (app["a"], {"_sample": 1}),
            (app["a"], {"_model_name": "n"}),
        ):
            result = await module(x="1", mood="brief", **changed)
            assert not result.from_ledger, changed
    assert (await start(LLMScriptedClient("x"))).call.sample == 0
