"""Looking without sending: digests that tell models apart, previews that show the request."""

from __future__ import annotations

import pytest

from aitoolman import LLMApiRequestError, LLMApplicationError, Message

BASE = {"url": "https://vendor.example/v1/chat/completions", "model": "one"}


@pytest.fixture
def digest(make_desk):
    """``await digest(**keys)`` of an entry with these keys."""

    async def digest(**keys):
        desk = make_desk(entries={"m": BASE | keys})
        return (await desk.manager.describe("m")).digest

    return digest


@pytest.mark.parametrize(
    "keys",
    [
        {"model": "two"},
        {"url": "https://other.example/v1/chat/completions"},
        {"type": "anthropic"},
        {"body_options": {"temperature": 0}},
        {"dialect": "vllm"},
    ],
    ids=str,
)
async def test_what_can_change_an_answer_changes_the_digest(digest, keys):
    """Vendor model, address, format, body options, dialect."""
    assert await digest(**keys) != await digest()


@pytest.mark.parametrize(
    "keys",
    [
        {"api_key": "sk-canary-0123456789"},
        {"headers": {"X-Trace": "1"}},
        {"timeout": 7},
        {"parallel": 2, "rpm": 9, "max_retries": 0},
        {"price": {"input": 1.0}},
        {"api_key": "${NO_SUCH_KEY}"},
        {"url": "https://user:password@vendor.example/v1/chat/completions"},
    ],
    ids=str,
)
async def test_keys_and_limits_do_not_change_the_digest(digest, keys):
    """A new key, another limit, another price: the same answers."""
    if "user:" in keys.get("url", ""):
        other = {"url": "https://me:secret@vendor.example/v1/chat/completions"}
        assert await digest(**keys) == await digest(**other)
    else:
        assert await digest(**keys) == await digest()


async def test_a_description_names_entries_limits_and_prices(make_desk):
    """In the order of trying; an alias of one entry is that entry."""
    entries = {"a": {"rpm": 5, "price": {"input": 1.0, "output": 2.0}}, "b": {"model": "other"}}
    desk = make_desk(entries=entries, aliases={"both": ["a", "b"], "swap": ["b", "a"], "one": "a"})
    both = await desk.manager.describe("both")
    assert both.entries == ("a", "b")
    assert both.limits == {"parallel": 10, "rpm": 5, "tpm": None}
    assert both.price == {"input": 1.0, "output": 2.0}
    digests = [(await desk.manager.describe(name)).digest for name in ("both", "swap", "a", "b")]
    assert len(set(digests)) == 4
    assert (await desk.manager.describe("one")).digest == (await desk.manager.describe("a")).digest


async def test_variables_count_where_they_are_set(make_desk, monkeypatch):
    """Re-pointing by the environment is a change; a variable that is missing harms nothing."""
    entry = {"url": "https://${WHERE}/v1/chat/completions", "model": "x", "api_key": "${WHO}"}
    digests = set()
    for place in (None, "one.example", "two.example"):
        if place:
            monkeypatch.setenv("WHERE", place)
        desk = make_desk(entries={"m": entry})
        digests.add((await desk.manager.describe("m")).digest)
    assert len(digests) == 3


async def test_a_preview_is_the_request_that_would_be_sent(make_desk, fake_llm):
    """The body is the very one, headers are masked, tokens and money are estimated."""
    desk = make_desk(api_key="sk-canary-0123456789", price={"input": 1.0, "output": 10.0})
    messages, options = [Message("user", "hello there")], {"max_tokens": 100}
    preview = await desk.manager.preview("m", messages, None, options, True)
    assert fake_llm.requests_seen == 0
    await desk.ask(messages=messages, options=options, stream=True)
    assert preview.body == fake_llm.requests[0].body
    assert preview.url == fake_llm.openai_url
    assert preview.headers["Authorization"] == "***"
    assert preview.cost == pytest.approx(preview.prompt_tokens / 1e6)
    assert preview.max_cost == pytest.approx(preview.cost + 1000 / 1e6)
    assert "canary" not in repr(preview)


async def test_a_preview_needs_no_key(make_desk):
    """What is missing is shown as it stands in the file."""
    desk = make_desk(api_key="${NO_SUCH_KEY}")
    preview = await desk.manager.preview("m", [Message("user", "hi")])
    assert preview.headers["Authorization"] == "Bearer ${NO_SUCH_KEY}"
    assert (preview.cost, preview.max_cost) == (None, None)


async def test_a_preview_of_the_embedded_model_starts_nothing(make_desk):
    """No address yet, but the body."""
    entries = {"m": {"type": "llamacpp", "model": "smollm2-135m", "url": None}}
    entries["m"].pop("url")
    from aitoolman import LLMProviderManager

    async with LLMProviderManager({"api": entries}) as manager:
        preview = await manager.preview("m", [Message("user", "hi")])
        assert preview.url is None
        assert preview.body["messages"] == [{"role": "user", "content": "hi"}]
        assert len((await manager.describe("m")).digest) == 64


async def test_mistakes_are_told_apart(make_desk):
    """An unknown model, and a request that cannot be built."""
    desk = make_desk()
    for call in (desk.manager.describe("x"), desk.manager.preview("x", [])):
        with pytest.raises(LLMApiRequestError, match="no model 'x'"):
            await call
    with pytest.raises(LLMApplicationError, match="bad name!"):
        await desk.manager.preview("m", [Message("user", "hi")], {"bad name!": {}})
