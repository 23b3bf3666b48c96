"""Calls: what is sent, what comes back, and whose mistake is whose."""

from __future__ import annotations

import asyncio
import copy
import dataclasses

import pytest

from aitoolman._application.app import LLMApplication
from aitoolman._datamodel import (
    CallInfo,
    FinishReason,
    LLMApiRequestError,
    LLMApplicationError,
    LLMCancelledError,
    LLMDirectRequest,
    LLMLengthLimitError,
    LLMModuleRequest,
    LLMResponseFormatError,
    LLMUnknownNameError,
    MediaContent,
    Message,
    use_call,
)
from aitoolman._transport.client import LLMClient

from .doubles import WEATHER, Worker, module

HELLO = [Message("user", "Hello")]


async def test_a_module_call_sends_the_rendered_prompt_and_returns_the_answer():
    """The shortest program there is."""
    worker = Worker("Bonjour")
    result = await LLMApplication(worker, module("To {{lang}}: {{text}}"))["m"](
        lang="fr", text="Hello"
    )
    assert worker.sent() == [("user", "To fr: Hello")]
    assert result.data == result.text == result.response_text == "Bonjour"
    assert result.status is FinishReason.stop
    assert result.module_name == "m"
    assert result.request_params == {"lang": "fr", "text": "Hello"}
    assert result.request.messages == [Message("user", "To fr: Hello")]
    assert [r.response_text for r in result.responses] == ["Bonjour"]


async def test_a_direct_request_goes_out_as_it_stands_and_writes_to_no_channel():
    """`call` takes a request without a module."""
    worker = Worker({"response_text": "Hi", "fragments": []})
    app = LLMApplication(worker)
    result = await app.call(LLMDirectRequest("gpt-4", HELLO, options={"n": 1}))
    assert result.data == "Hi"
    assert result.module_name is None
    assert worker.last.model_name == "gpt-4"
    assert worker.last.options == {"n": 1}
    assert worker.last.output_channel is None
    assert worker.last.reasoning_channel is None


async def test_a_module_request_gives_what_the_subscript_gives():
    """`call` takes a request through a module."""
    worker = Worker()
    app = LLMApplication(worker, module())
    await app.call(LLMModuleRequest("m", {"text": "a"}))
    await app["m"](text="a")
    assert worker.sent(0) == worker.sent(1) == [("user", "a")]


async def test_the_order_is_system_examples_context_prompt():
    """Context stands between examples and prompt."""
    worker = Worker()
    config = module(template={"system": "S"}, examples=[{"user": "e", "assistant": "a"}])
    context = [Message("user", "before"), Message("assistant", "yes")]
    await LLMApplication(worker, config)["m"](text="now", _context_messages=context)
    assert worker.sent() == [
        ("system", "S"),
        ("user", "e"),
        ("assistant", "a"),
        ("user", "before"),
        ("assistant", "yes"),
        ("user", "now"),
    ]


async def test_the_system_message_of_the_context_wins_over_the_template():
    """There is one system message, first, and the template's is not even rendered."""
    worker = Worker()
    config = module(template={"system": "{{ undefined_here }}"})
    config["module"]["m"]["examples"] = [{"user": "e", "assistant": "a"}]
    context = [Message("system", "mine"), Message("user", "before")]
    await LLMApplication(worker, config)["m"](text="now", _context_messages=context)
    assert [text for _, text in worker.sent()] == ["mine", "e", "a", "before", "now"]
    assert len(context) == 2


async def test_media_stand_on_the_prompt():
    """One or several media go with the user prompt."""
    worker = Worker()
    app = LLMApplication(worker, module())
    picture = MediaContent("image", url="http://x/y.png")
    await app["m"](text="look", _media_content=picture)
    assert worker.last.messages[-1].media == [picture]
    await app["m"](text="look", _media_content=[picture, picture])
    assert worker.last.messages[-1].media == [picture, picture]


CONFIGURED = module(
    options={"temperature": 0},
    stream=True,
    output_channel="stdout",
    reasoning_channel="reasoning",
    tools={"clock": {"description": "Tells the time"}},
)


async def test_a_request_that_overrides_nothing_keeps_what_is_configured():
    """None keeps, for every setting."""
    worker = Worker()
    app = LLMApplication(worker, CONFIGURED)
    result = await app["m"](
        text="x", _model_name=None, _options=None, _tools=None, _stream=None,
        _context_messages=None, _media_content=None, _output_channel=None,
        _reasoning_channel=None, _post_processor=None, _sample=None, _fresh=None,
    )  # fmt: skip
    assert worker.last.model_name == "fast"
    assert worker.last.options == {"temperature": 0}
    assert list(worker.last.tools) == ["clock"]
    assert worker.last.stream is True
    assert result.request.output_channel == "stdout"
    assert result.request.reasoning_channel == "reasoning"


async def test_overrides_replace_whole_and_empty_means_nothing():
    """Options and tools of a request replace the module's; an empty dict or text switches off."""
    worker = Worker()
    app = LLMApplication(worker, CONFIGURED)
    await app["m"](text="x", _options={"top_p": 1}, _tools={"t": {"description": "d"}})
    assert worker.last.options == {"top_p": 1}
    assert list(worker.last.tools) == ["t"]
    result = await app["m"](
        text="x", _model_name="big", _options={}, _tools={}, _stream=False,
        _output_channel="", _reasoning_channel="",
    )  # fmt: skip
    assert worker.last.model_name == "big"
    assert (worker.last.options, worker.last.tools, worker.last.stream) == ({}, {}, False)
    assert worker.last.output_channel is None
    assert result.request.output_channel == ""


async def test_a_modules_options_and_tools_replace_the_defaults_whole():
    """Inheritance from `module_default` is one level deep."""
    worker = Worker()
    config = module(options={"b": 2}) | {
        "module_default": {"options": {"a": 1}, "tools": {"d": {"description": "x"}}}
    }
    app = LLMApplication(worker, config)
    await app["m"](text="x")
    assert worker.last.options == {"b": 2}
    assert list(worker.last.tools) == ["d"]


async def test_an_empty_table_stands_for_the_global_tool():
    """In the module, and in a request's overrides."""
    worker = Worker()
    tool = {"description": "Weather", "param": {"city": {"type": "string"}}}
    config = {"tools": {"weather": tool}} | module(tools={"weather": {}})
    app = LLMApplication(worker, config)
    await app["m"](text="x")
    assert worker.last.tools == {"weather": tool}
    await app["m"](text="x", _tools={"weather": {}, "own": {"description": "y"}})
    assert worker.last.tools == {"weather": tool, "own": {"description": "y"}}
    with pytest.raises(LLMUnknownNameError, match="did you mean 'weather'"):
        await app["m"](text="x", _tools={"wether": {}})


async def test_the_applications_alias_is_applied_before_the_clients():
    """The client is asked for the aliased name; the result says who answered."""
    worker = Worker()
    app = LLMApplication(worker, {"model_alias": {"fast": "entry"}} | module())
    result = await app["m"](text="x")
    assert worker.last.model_name == "entry"
    assert result.model_name == "entry"
    await app.call(LLMDirectRequest("fast", HELLO))
    assert worker.last.model_name == "entry"


async def test_what_is_passed_in_is_never_changed():
    """Configuration, request and lists stay as they were, whatever the client does."""

    class Greedy(Worker):
        async def request(self, model_name, messages, tools=None, options=None, **rest):
            messages.append("mine")
            tools["t"] = options["o"] = 1
            return await super().request(model_name, messages[:-1], tools, options, **rest)

    config = copy.deepcopy(CONFIGURED)
    processors, channels = {}, {}
    app = LLMApplication(Greedy(), config, processors, channels)
    context = [Message("user", "c")]
    request = LLMModuleRequest("m", {"text": "x"}, context_messages=context, tools={}, options={})
    before = copy.deepcopy(request)
    await app.call(request)
    direct = LLMDirectRequest("m", list(HELLO), tools={}, options={})
    result = await app.call(direct)
    assert result.request == direct
    app.add_processor("p", str)
    app.add_channel("c", object())
    assert request == before
    assert direct == LLMDirectRequest("m", HELLO, tools={}, options={})
    assert config == CONFIGURED
    assert (processors, channels, len(context)) == ({}, {}, 1)
    assert app["m"].config.options == {"temperature": 0}


async def test_an_unknown_module_is_a_key_error_at_the_subscript():
    """The name is looked up before anything is called, with near names."""
    app = LLMApplication(Worker(), module())
    config = {"module": {"translator": {"model": "m", "template": {"user": "x"}}}}
    with pytest.raises(KeyError, match="did you mean 'translator'"):
        LLMApplication(Worker(), config)["translater"]
    with pytest.raises(KeyError):
        app[0]
    with pytest.raises(KeyError, match="no module 'n'"):
        await app.call(LLMModuleRequest("n", {}))


async def test_an_unknown_underscore_keyword_is_an_error_with_near_names():
    """A misspelt option is never taken for a variable."""
    worker = Worker()
    app = LLMApplication(worker, module())
    with pytest.raises(LLMUnknownNameError, match="did you mean '_stream'"):
        await app["m"](text="x", _steam=True)
    assert worker.requests == []


MISTAKES = {
    "undefined variable": LLMModuleRequest("m", {}),
    "unknown output channel": LLMModuleRequest("m", {"text": "x"}, output_channel="stdot"),
    "unknown reasoning channel": LLMModuleRequest("m", {"text": "x"}, reasoning_channel="thought"),
    "no channel at all": LLMModuleRequest("m", {"text": "x"}, output_channel=5),
    "unknown processor": LLMModuleRequest("m", {"text": "x"}, post_processor="parse_jsn"),
    "parameters that are no dict": LLMModuleRequest("m", "text"),
    "context that holds no messages": LLMModuleRequest(
        "m", {"text": "x"}, context_messages=[{"role": "user"}]
    ),
    "context that is one message": LLMModuleRequest(
        "m", {"text": "x"}, context_messages=Message("user", "x")
    ),
    "media that are none": LLMModuleRequest("m", {"text": "x"}, media_content="cat.png"),
    "direct: unknown channel": LLMDirectRequest("m", HELLO, output_channel="stdot"),
    "direct: unknown processor": LLMDirectRequest("m", HELLO, post_processor="parse_jsn"),
    "direct: one message": LLMDirectRequest("m", HELLO[0]),
    "no request": "hello",
}


@pytest.mark.parametrize("request_", MISTAKES.values(), ids=MISTAKES)
async def test_a_callers_mistake_raises_at_once_and_nothing_is_sent(request_):
    """Mistakes in the program are exceptions, not results."""
    worker = Worker()
    with pytest.raises(LLMApplicationError):
        await LLMApplication(worker, module()).call(request_)
    assert worker.requests == []


async def test_a_module_without_a_model_says_where_to_set_it():
    """No model anywhere is the caller's mistake."""
    app = LLMApplication(Worker(), {"module": {"m": {"template": {"user": "x"}}}})
    with pytest.raises(LLMApplicationError, match="module_default"):
        await app["m"]()
    assert (await app["m"](_model_name="any")).data == "ok"


async def test_data_is_none_unless_the_answer_ended_with_stop():
    """A processor runs on `stop` only, on the raw text."""
    cut = {"response_text": '{"a": 1', "finish_reason": "length"}
    tools = {"response_text": "{}", "finish_reason": "tool_calls", "response_tool_calls": [WEATHER]}
    worker = Worker(cut, tools, '{"a": 1}')
    app = LLMApplication(worker, module(post_processor="parse_json"))
    first, second, third = [await app["m"](text="x") for _ in range(3)]
    assert (first.data, first.status, first.text) == (None, FinishReason.length, '{"a": 1')
    with pytest.raises(LLMLengthLimitError):
        first.raise_for_status()
    assert (second.data, second.tool_calls) == (None, [WEATHER])
    assert (third.data, third.response_text) == ({"a": 1}, '{"a": 1}')


async def test_a_processor_that_raises_gives_error_format_with_the_reason():
    """`call` does not raise for it, `raise_for_status` does."""

    def picky(text):
        raise ValueError("no verdict in it")

    app = LLMApplication(Worker("hm"), module(post_processor="picky"), {"picky": picky})
    result = await app["m"](text="x")
    assert result.status is FinishReason.error_format
    assert "no verdict in it" in result.error_text
    assert result.data is None
    assert result.response_text == "hm"
    with pytest.raises(LLMResponseFormatError, match="no verdict") as caught:
        result.raise_for_status()
    assert caught.value.result is result


async def test_processors_may_be_added_or_replaced_after_construction():
    """Names resolve at call time."""
    app = LLMApplication(Worker("hm"), module(post_processor="late"))
    with pytest.raises(LLMUnknownNameError):
        await app["m"](text="x")
    app.add_processor("late", str.upper)
    assert (await app["m"](text="x")).data == "HM"
    app.processors["late"] = len
    result = await app["m"](text="x")
    assert (result.data, result.text, result.post_processor) == (2, "hm", "late")


async def test_a_processor_can_be_given_directly_sync_or_async():
    """`_post_processor` takes a function, or an empty text for none."""

    async def shout(text):
        return text.upper()

    app = LLMApplication(Worker("hm"), module(post_processor="parse_json"))
    assert (await app["m"](text="x", _post_processor=shout)).data == "HM"
    assert (await app["m"](text="x", _post_processor="")).data == "hm"
    direct = LLMDirectRequest("m", HELLO, post_processor=len)
    assert (await app.call(direct)).data == 2


async def test_format_retries_ask_again_with_the_answer_and_the_error():
    """The model sees its own answer and what is wrong; every response is in the result."""
    worker = Worker("never", "mind", '{"a": 1}')
    config = module(post_processor="parse_json", format_retries=2)
    result = await LLMApplication(worker, config)["m"](text="x")
    assert result.data == {"a": 1}
    assert [r.response_text for r in result.responses] == ["never", "mind", '{"a": 1}']
    assert [m for m, _ in worker.sent()] == ["user", "assistant", "user", "assistant", "user"]
    assert worker.sent()[1] == ("assistant", "never")
    assert worker.sent()[3] == ("assistant", "mind")
    assert "could not be used" in worker.sent()[2][1]
    assert worker.sent(0) == [("user", "x")]


async def test_a_retried_answer_is_replayed_exactly():
    """The assistant turn is the vendor's own message."""
    original = Message("assistant", "hm", raw_value={"role": "assistant", "content": "hm", "id": 7})
    worker = Worker({"response_text": "hm", "response_message": original}, "{}")
    config = module(post_processor="parse_json", format_retries=1)
    await LLMApplication(worker, config)["m"](text="x")
    assert worker.last.messages[1] is original


async def test_format_retries_stop_at_their_number_and_at_other_failures():
    """The last answer counts; a failure of another kind is not asked again."""
    config = module(post_processor="parse_json", format_retries=1)
    app = LLMApplication(Worker("no"), config)
    result = await app["m"](text="x")
    assert (result.status, len(result.responses)) == (FinishReason.error_format, 2)
    worker = Worker("no", {"finish_reason": "length"}, "{}")
    result = await LLMApplication(worker, config)["m"](text="x")
    assert (result.status, len(worker.requests)) == (FinishReason.length, 2)
    broken = {"finish_reason": "error: format", "error_text": "not JSON"}
    worker = Worker(broken)
    result = await LLMApplication(worker, config)["m"](text="x")
    assert (result.error_text, len(worker.requests)) == ("not JSON", 1)


async def test_failures_of_the_provider_are_results():
    """Status and reason come from the response."""
    failed = {"finish_reason": "error: request", "error_text": "HTTP 401", "response_text": "par"}
    result = await LLMApplication(Worker(failed), module())["m"](text="x")
    assert (result.status, result.error_text) == (FinishReason.error_request, "HTTP 401")
    assert (result.data, result.response_text) == (None, "par")
    with pytest.raises(LLMApiRequestError, match="HTTP 401"):
        result.raise_for_status()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LLMApiRequestError("no such model"), FinishReason.error_request),
        (LLMCancelledError("gone"), FinishReason.cancelled),
        (OSError("no route"), FinishReason.error),
    ],
    ids=["request", "cancelled", "foreign"],
)
async def test_an_exception_of_a_users_client_becomes_a_status(error, status):
    """A client that raises instead of answering breaks no caller."""
    result = await LLMApplication(Worker(error), module())["m"](text="x")
    assert result.status is status
    assert str(error) in result.error_text
    assert len(result.responses) == 1


async def test_a_response_future_with_an_exception_becomes_a_status():
    """So does one that fails later, or answers with something else."""

    class Odd(Worker):
        async def request(self, *args, **kwargs):
            request = await super().request(*args, **kwargs)
            request.response.cancel()
            request.response = asyncio.get_running_loop().create_future()
            request.response.set_exception(OSError("lost"))
            return request

    class Wrong(Odd):
        async def request(self, *args, **kwargs):
            request = await Worker.request(self, *args, **kwargs)
            request.response.set_result("text")
            return request

    assert "lost" in (await LLMApplication(Odd(), module())["m"](text="x")).error_text
    wrong = await LLMApplication(Wrong(), module())["m"](text="x")
    assert (wrong.status, wrong.data) == (FinishReason.error, None)


async def test_a_client_that_gives_no_finish_reason_is_taken_at_its_word():
    """A user's client need not fill it."""
    worker = Worker(
        {"response_text": "fine", "finish_reason": None},
        {"error_text": "bad", "finish_reason": None},
        {"response_tool_calls": [WEATHER], "finish_reason": None},
    )
    app = LLMApplication(worker, module())
    statuses = [(await app["m"](text="x")).status for _ in range(3)]
    assert statuses == [FinishReason.stop, FinishReason.error, FinishReason.tool_calls]


async def test_cancelled_through_the_client_is_a_result():
    """Another task cancels the request; the caller gets a status, no exception."""
    worker = Worker(gate=asyncio.Event())
    call = asyncio.ensure_future(LLMApplication(worker, module())["m"](text="x"))
    await worker.started.wait()
    await worker.cancel(worker.last.request_id)
    result = await call
    assert result.status is FinishReason.cancelled
    with pytest.raises(LLMCancelledError):
        result.raise_for_status()


async def test_cancelling_the_awaiting_task_ends_the_request():
    """CancelledError travels on, and the client has been told."""
    worker = Worker(gate=asyncio.Event())
    call = asyncio.ensure_future(LLMApplication(worker, module())["m"](text="x"))
    await worker.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert worker.cancelled == [worker.last.request_id]
    assert worker.last.response.cancelled()


async def test_a_timeout_around_a_call_ends_the_request():
    """`asyncio.timeout` works as around anything else."""
    worker = Worker(gate=asyncio.Event())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await LLMApplication(worker, module())["m"](text="x")
    assert worker.cancelled == [worker.last.request_id]


async def test_a_client_whose_cancel_hangs_or_fails_does_not_hold_the_cancelled_caller():
    """A second cancellation cuts the wait; a failing cancel is only logged."""

    class Stuck(Worker):
        async def cancel(self, request_id):
            await super().cancel(request_id)
            self.hang = asyncio.get_running_loop().create_future()
            await self.hang

    class Failing(Worker):
        async def cancel(self, request_id):
            raise OSError("gone")

    for worker in (Stuck(gate=asyncio.Event()), Failing(gate=asyncio.Event())):
        call = asyncio.ensure_future(LLMApplication(worker, module())["m"](text="x"))
        await worker.started.wait()
        call.cancel()
        if isinstance(worker, Stuck):
            await worker.cancelling.wait()
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if isinstance(worker, Stuck):
            worker.hang.cancel()


async def test_the_client_is_called_with_the_specified_arguments_only():
    """A client of the user's own needs nothing else."""
    seen = {}

    class Strict(LLMClient):
        async def request(self, **given):
            seen.update(given)
            raise OSError

        async def cancel(self, request_id): ...

        async def audit_event(self, context_id, event_type, **kwargs): ...

    app = LLMApplication(Strict(), module(), context_id="ctx")
    await app["m"](text="x", _sample=3, _fresh=True)
    assert set(seen) == {
        "model_name", "messages", "tools", "options", "stream", "context_id", "output_channel",
        "reasoning_channel",
    }  # fmt: skip
    assert seen["context_id"] == "ctx"


async def test_source_sample_and_freshness_travel_as_call_info():
    """A lone application is its own source; its context variable holds during the request only."""
    worker = Worker()
    app = LLMApplication(worker, module(), context_id="ctx")
    await app["m"](text="x")
    assert worker.last.call == CallInfo("ctx", 0, False)
    await app["m"](text="x", _sample=2, _fresh=True)
    assert worker.last.call == CallInfo("ctx", 2, True)
    with use_call(CallInfo("batch", 1, True)):
        await app["m"](text="x")
        assert worker.last.call == CallInfo("batch", 1, True)
        await app["m"](text="x", _sample=0, _fresh=False)
        assert worker.last.call == CallInfo("batch", 0, False)


async def test_tool_calls_run_and_carry_on():
    """The follow-up request of a module's result is a request of its own."""
    worker = Worker(
        {"finish_reason": "tool_calls", "response_tool_calls": [WEATHER]},
        "It rains.",
    )
    app = LLMApplication(worker, module(tools={"weather": {"description": "d"}}))
    first = await app["m"](text="Oslo?")
    again = await first.run_tool_calls({"weather": lambda city: f"rain in {city}"})
    result = await app.call(again)
    assert result.data == "It rains."
    assert [m.role for m in worker.last.messages] == ["user", "assistant", "tool"]
    assert worker.last.messages[-1].content == "rain in Oslo"
    assert list(worker.last.tools) == ["weather"]


async def test_preview_shows_the_request_and_sends_nothing():
    """Aliases, options and messages are those of the call."""

    class Previewing(Worker):
        async def preview(self, *args):
            return args

    worker = Previewing()
    config = {"model_alias": {"fast": "entry"}} | module(options={"t": 0}, stream=True)
    app = LLMApplication(worker, config)
    preview = await app["m"].preview(text="x", _tools={"a": {"description": "b"}})
    assert preview == (
        "entry",
        [Message("user", "x")],
        {"a": {"description": "b"}},
        {"t": 0},
        True,
    )
    assert worker.requests == []
    with pytest.raises(LLMApplicationError):
        await app["m"].preview()


async def test_a_thousand_calls_at_once_keep_to_themselves():
    """Results belong to their callers, with nothing left over."""

    class Echo(Worker):
        async def _answer(self, request, reply):
            await asyncio.sleep(0)
            await super()._answer(request, request.messages[-1].content)

    app = LLMApplication(Echo(), module(output_channel="", reasoning_channel=""))
    results = await asyncio.gather(*(app["m"](text=str(n)) for n in range(1000)))
    assert [r.data for r in results] == [str(n) for n in range(1000)]
    assert len(asyncio.all_tasks()) == 1


async def test_a_result_is_not_bound_to_the_response_object():
    """Changing a result's lists leaves the response alone."""
    response = {"finish_reason": "tool_calls", "response_tool_calls": [WEATHER]}
    result = await LLMApplication(Worker(response), module())["m"](text="x")
    result.tool_calls.clear()
    assert result.responses[0].response_tool_calls == [WEATHER]
    assert dataclasses.asdict(result)["module_name"] == "m"
