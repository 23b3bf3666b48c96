"""The scripted client: answers, streams, ends and cancels like any other client."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import (
    FinishReason,
    LLMApiRequestError,
    LLMError,
    LLMLengthLimitError,
    LLMLocalClient,
    LLMProviderResponse,
    LLMScriptedClient,
    Message,
    ScriptedReply,
    ToolCall,
)
from aitoolman._datamodel import CallInfo, use_call
from aitoolman._loops import background, run_sync
from aitoolman._transport.scripted_reply import split_words

pytestmark = pytest.mark.usefixtures("nothing_left")

HELLO = [Message(role="user", content="hello")]


class Sink:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[str | None] = []

    async def write(self, message: str | None) -> None:
        self.written.append(message)


async def ask(client: LLMScriptedClient, model: str = "any", **more: Any) -> LLMProviderResponse:
    request = await client.request(model, HELLO, **more)
    return await request.response


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


async def test_a_list_is_answered_in_order() -> None:
    """Texts and replies come one to a request, in the order of the requests."""
    client = LLMScriptedClient(["one", ScriptedReply("two")])
    assert [(await ask(client)).response_text for _ in range(2)] == ["one", "two"]


async def test_concurrent_requests_take_their_replies_in_order_of_asking() -> None:
    """Who asks first gets the first reply, however long it takes."""
    client = LLMScriptedClient([ScriptedReply("slow", delay=0.01), "quick"])
    requests = [await client.request("m", HELLO) for _ in range(2)]
    texts = [(await r.response).response_text for r in requests]
    assert texts == ["slow", "quick"]


async def test_an_exhausted_list_is_an_answer_that_says_so() -> None:
    """The error names the request and what to do."""
    client = LLMScriptedClient(["only"])
    await ask(client)
    response = await ask(client)
    assert response.status is FinishReason.error_request
    assert "no reply left for request number 2" in str(response.error_text)
    assert "'hello'" in str(response.error_text)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_sees_the_request(is_async: bool) -> None:
    """Its argument is the request, and its text the answer, sync or async."""

    def answer(request: Any) -> str:
        return f"{request.model_name}: {request.messages[-1].content}"

    async def answer_async(request: Any) -> str:
        await asyncio.sleep(0)
        return answer(request)

    client = LLMScriptedClient(answer_async if is_async else answer)
    assert (await ask(client, "gpt")).response_text == "gpt: hello"


async def test_one_reply_answers_every_request() -> None:
    """A lone text is no list of letters."""
    client = LLMScriptedClient("same")
    assert [(await ask(client)).response_text for _ in range(3)] == ["same"] * 3


async def test_an_endless_iterable_is_a_script() -> None:
    """Replies are taken one by one."""
    client = LLMScriptedClient(itertools.cycle(["yes", "no"]))
    assert [(await ask(client)).response_text for _ in range(3)] == ["yes", "no", "yes"]


@pytest.mark.parametrize("raised", [False, True])
async def test_an_llm_error_becomes_its_status(raised: bool) -> None:
    """Given or raised, the answer has the error's status and words."""

    def answer(request: Any) -> LLMError:
        if raised:
            raise LLMLengthLimitError("too long")
        return LLMLengthLimitError("too long")

    response = await ask(LLMScriptedClient(answer))
    assert (response.finish_reason, response.error_text) == ("length", "too long")


async def test_a_failed_assertion_of_the_script_reaches_the_test() -> None:
    """A bug in the function is not hidden in an answer."""

    def answer(request: Any) -> str:
        assert request.model_name == "other", "asked the wrong model"
        return ""

    sink = Sink()
    with pytest.raises(AssertionError, match="asked the wrong model"):
        await ask(LLMScriptedClient(answer), output_channel=sink)
    assert sink.written == [None]


async def test_a_script_that_gives_no_reply_says_what_it_gave() -> None:
    """Numbers are no replies."""
    with pytest.raises(TypeError, match="not 7"):
        await ask(LLMScriptedClient([7]))  # type: ignore[list-item]


async def test_streamed_fragments_reach_the_channels_with_one_end_each() -> None:
    """Words are streamed, reasoning first, and each message ends once."""
    out, thought = Sink(), Sink()
    client = LLMScriptedClient([ScriptedReply("Hello big world", reasoning="let me see")])
    response = await ask(client, stream=True, output_channel=out, reasoning_channel=thought)
    assert out.written == ["Hello", " big", " world", None]
    assert thought.written == ["let", " me", " see", None]
    assert response.response_reasoning == "let me see"


async def test_fragments_are_streamed_as_given() -> None:
    """The cut is the script's, and the text is what they give."""
    out = Sink()
    client = LLMScriptedClient([ScriptedReply(fragments=["<a", ">x</", "a>"])])
    response = await ask(client, stream=True, output_channel=out)
    assert out.written == ["<a", ">x</", "a>", None]
    assert response.response_text == "<a>x</a>"


async def test_an_unstreamed_answer_is_one_fragment() -> None:
    """Without stream the channel gets the text whole."""
    out = Sink()
    await ask(LLMScriptedClient(["a b c"]), output_channel=out)
    assert out.written == ["a b c", None]


@given(st.text())
def test_words_joined_are_the_text(text: str) -> None:
    """Splitting loses nothing, and no fragment is empty."""
    assert "".join(split_words(text)) == text
    assert all(split_words(text))


async def test_tool_calls_come_with_ids_and_parsed_arguments() -> None:
    """Mappings become tool calls; broken JSON is kept as text."""
    calls = [
        {"name": "add", "arguments": {"a": 1}},
        {"name": "add", "arguments": '{"a": '},
        ToolCall("sub", "{}", {}, id="mine"),
    ]
    response = await ask(LLMScriptedClient([ScriptedReply(tool_calls=calls)]))
    assert response.finish_reason == "tool_calls"
    first, broken, own = response.response_tool_calls
    assert (first.name, first.arguments, first.arguments_text) == ("add", {"a": 1}, '{"a": 1}')
    assert broken.arguments is None
    assert own.id == "mine"
    assert first.id
    assert first.id != broken.id
    assert response.response_message is not None
    assert response.response_message.tool_calls == response.response_tool_calls


async def test_every_field_of_a_response_is_filled() -> None:
    """Times, counts and the one attempt are there, given numbers untouched."""
    reply = ScriptedReply("four", reasoning="hm", prompt_tokens=12, cached_tokens=5, cost=0.25)
    response = await ask(LLMScriptedClient([reply]), context_id="app/1")
    assert response.context_id == "app/1"
    assert response.start_time is not None
    assert response.start_time > 1_600_000_000
    assert response.queue_time == response.queue_length == 0
    assert response.time_to_first_token is not None
    assert response.total_response_time is not None
    assert 0 <= response.time_to_first_token <= response.total_response_time
    assert (response.prompt_tokens, response.cached_tokens, response.cost) == (12, 5, 0.25)
    assert response.reasoning_tokens == 1
    assert response.total_tokens == 12 + (response.completion_tokens or 0)
    (attempt,) = response.attempts
    assert (attempt.outcome, attempt.status, attempt.prompt_tokens) == ("ok", 200, 12)


async def test_an_error_reply_keeps_its_partial_text() -> None:
    """Text before the failure is in the answer and in the channel."""
    out = Sink()
    client = LLMScriptedClient([ScriptedReply("half an", error_text="the line broke")])
    response = await ask(client, stream=True, output_channel=out)
    assert (response.finish_reason, response.response_text) == ("error: request", "half an")
    assert response.attempts[0].reason == "the line broke"
    with pytest.raises(LLMApiRequestError, match="the line broke"):
        response.status.raise_for_status(response.error_text)
    assert out.written[-1] is None


async def test_a_finish_reason_is_a_word_of_the_library() -> None:
    """A misspelled one is refused where it stands."""
    with pytest.raises(ValueError, match="lenght"):
        ScriptedReply("x", finish_reason="lenght")
    response = await ask(LLMScriptedClient([ScriptedReply("x", finish_reason="length")]))
    assert response.status is FinishReason.length


def test_a_text_that_its_fragments_contradict_is_refused() -> None:
    """Both may be given when they agree."""
    ScriptedReply("ab", fragments=["a", "b"])
    with pytest.raises(ValueError, match="fragments give 'ac'"):
        ScriptedReply("ab", fragments=["a", "c"])


def test_a_tool_call_without_a_name_is_refused() -> None:
    """The message says what a tool call is."""
    with pytest.raises(TypeError, match="'name' and 'arguments'"):
        ScriptedReply(tool_calls=[{"function": "add"}])


async def test_only_listed_models_exist() -> None:
    """Another name gets the error of an unknown model, and takes no reply."""
    client = LLMScriptedClient(["hi"], models=["small"])
    response = await ask(client, "smal")
    assert response.error_text == "there is no model 'smal'; did you mean 'small'?"
    assert (await ask(client, "small")).response_text == "hi"


async def test_requests_and_events_are_kept() -> None:
    """A test can look at what was sent and recorded."""
    client = LLMScriptedClient("ok")
    with use_call(CallInfo(source="batch", sample=2)):
        await ask(client, options={"temperature": 0}, tools={"t": {}})
    await client.audit_event("app", "approved", by="me")
    (request,) = client.requests
    assert (request.model_name, request.options, request.tools) == (
        "any",
        {"temperature": 0},
        {"t": {}},
    )
    assert request.call == CallInfo(source="batch", sample=2)
    assert client.events == [("app", "approved", {"by": "me"})]


async def test_what_is_passed_in_is_not_shared() -> None:
    """A list that the caller changes later is kept as it was sent."""
    client = LLMScriptedClient("ok")
    messages = list(HELLO)
    await (await client.request("m", messages)).response
    messages.append(Message(role="assistant", content="ok"))
    assert client.requests[0].messages == HELLO


async def test_a_cancelled_request_keeps_its_partial_text() -> None:
    """The answer says cancelled, and the channel gets its end once."""
    out = Sink()
    client = LLMScriptedClient([ScriptedReply("word " * 1000)], stream_delay=0.001)
    request = await client.request("m", HELLO, stream=True, output_channel=out)
    await until(lambda: len(out.written) >= 2)
    await client.cancel(request.request_id)
    response = await request.response
    assert response.finish_reason == "cancelled"
    assert response.response_text == "".join(str(w) for w in out.written[:-1]) != ""
    assert out.written.count(None) == 1
    assert response.attempts[0].outcome == "cancelled"


async def test_a_request_cancelled_before_it_began_ends_its_message() -> None:
    """Even then the status and the channel's end are there."""
    out = Sink()
    client = LLMScriptedClient("never seen")
    request = await client.request("m", HELLO, stream=True, output_channel=out)
    await client.cancel(request.request_id)
    assert (await request.response).finish_reason == "cancelled"
    assert out.written == [None]


async def test_cancel_ends_a_function_that_waits() -> None:
    """The function is cancelled as well."""
    ended = []

    async def never(request: Any) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return ""

    client = LLMScriptedClient(never)
    request = await client.request("m", HELLO)
    await asyncio.sleep(0)
    await client.cancel(request.request_id)
    assert (await request.response).finish_reason == "cancelled"
    assert ended == [True]


async def test_cancelling_the_awaiting_task_ends_the_request() -> None:
    """The cancellation travels on to the caller, and the message is ended."""
    out = Sink()
    client = LLMScriptedClient([ScriptedReply("x", delay=60)])
    task = asyncio.create_task(ask(client, output_channel=out))
    await until(lambda: client.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: out.written == [None])
    assert client.requests[0].is_cancelled


async def test_cancel_all_reaches_a_context_and_those_below_it() -> None:
    """``batch`` means ``batch`` and ``batch/1``, but not ``batch2``."""
    client = LLMScriptedClient(ScriptedReply("x", delay=0.05))
    names = ["batch", "batch/1", "batch2", None]
    requests = [await client.request("m", HELLO, context_id=name) for name in names]
    await client.cancel_all("batch")
    ends = [(await r.response).finish_reason for r in requests]
    assert ends == ["cancelled", "cancelled", "stop", "stop"]


async def test_cancelling_what_is_over_or_unknown_changes_nothing() -> None:
    """Late and wrong cancels are ignored."""
    client = LLMScriptedClient("x")
    response = await ask(client)
    await client.cancel(response.request_id)
    await client.cancel("nobody")
    assert response.finish_reason == "stop"
    assert not client.requests[0].is_cancelled


async def test_close_ends_what_runs_and_a_later_request_is_refused() -> None:
    """Entering it again opens it again."""
    client = LLMScriptedClient(ScriptedReply("x", delay=60))
    async with client:
        request = await client.request("m", HELLO)
    assert (await request.response).finish_reason == "cancelled"
    with pytest.raises(RuntimeError, match="closed"):
        await client.request("m", HELLO)
    async with client:
        await client.request("m", HELLO)


async def test_a_sink_that_fails_is_an_error_of_the_application() -> None:
    """The answer says so; nothing is raised."""

    class Broken:
        async def write(self, message: str | None) -> None:
            raise OSError("disk full")

    response = await ask(LLMScriptedClient("x"), output_channel=Broken())
    assert response.status is FinishReason.error_app
    assert response.error_text == "the output channel failed: OSError: disk full"


def test_one_client_serves_several_loops_one_after_the_other() -> None:
    """Nothing in it belongs to a loop that is gone."""
    client = LLMScriptedClient(["first", "second"])
    texts = [asyncio.run(ask(client)).response_text for _ in range(2)]
    assert texts == ["first", "second"]


def test_it_works_from_the_background_loop_and_a_sync_function_may_block() -> None:
    """A sync script function runs in a worker thread there, and may itself wait for a sync call."""
    inner = LLMScriptedClient("deep")

    def answer(request: Any) -> str:
        return run_sync(ask(inner)).response_text

    assert run_sync(ask(LLMScriptedClient(answer))).response_text == "deep"


async def test_a_request_is_cancelled_from_another_loop() -> None:
    """Cancel finds the task on whatever loop it runs."""
    client = LLMScriptedClient(ScriptedReply("x", delay=60))

    async def start() -> LLMProviderResponse:
        return await ask(client)

    future = asyncio.run_coroutine_threadsafe(start(), background.loop)
    await until(lambda: client.requests)
    await client.cancel_all()
    response = await asyncio.wrap_future(future)
    assert response.finish_reason == "cancelled"


async def test_a_thousand_requests_with_random_ends_leave_nothing() -> None:
    """Whatever is cancelled, every message ends once and no request is kept as running."""
    client = LLMScriptedClient(ScriptedReply("a b c d"))
    sinks = [Sink() for _ in range(1000)]
    requests = [await client.request("m", HELLO, stream=True, output_channel=s) for s in sinks]
    for number, request in enumerate(requests):
        if number % 3 == 0:
            await client.cancel(request.request_id)
        elif number % 7 == 0:
            request.response.cancel()
        if number % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*(r.response for r in requests), return_exceptions=True)
    await until(lambda: not client._plays)
    assert all(s.written.count(None) == 1 for s in sinks)


async def test_the_secretless_description_depends_on_the_name_alone() -> None:
    """Two clients describe a model alike, so that kept answers are found again."""
    first, second = LLMScriptedClient("a"), LLMScriptedClient("b")
    assert await first.describe("m") == await second.describe("m")
    assert (await first.describe("m")).digest != (await first.describe("n")).digest


def test_the_shared_configuration_is_sound(provider_config: dict[str, Any]) -> None:
    """The fixture of the scripted vendor passes the checks of a client."""
    assert "fast" in repr(LLMLocalClient(provider_config))
