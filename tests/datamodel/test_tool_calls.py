"""`run_tool_calls`: tools run in order, and the model hears of everything that went wrong."""

from __future__ import annotations

import pytest

import aitoolman
from aitoolman import FinishReason, LLMDirectRequest, LLMModuleResult, Message, ToolCall

ASKED = LLMDirectRequest("m", [Message("user", "weather?")], tools={"weather": {}}, stream=True)


def result_of(*calls: ToolCall, **values) -> LLMModuleResult:
    message = Message("assistant", "", tool_calls=list(calls), raw_value={"role": "assistant"})
    values = {"tool_calls": list(calls), "response_message": message, **values}
    return LLMModuleResult("m", None, ASKED, **values)


def call(name="weather", text='{"city": "Oslo"}', arguments=None, number=1) -> ToolCall:
    return ToolCall(name, text, {"city": "Oslo"} if arguments is None else arguments, f"id{number}")


async def test_no_calls_give_no_request():
    """Where the model called no tool there is nothing to carry on with."""
    assert await result_of().run_tool_calls({}) is None


async def test_follow_up_carries_the_exact_message_and_the_answers_in_order():
    """The conversation goes on with the assistant's own message and one answer per call."""

    async def later(city):
        return {"city": city, "degrees": 3}

    result = result_of(call(), call("time", "{}", {}, 2))
    request = await result.run_tool_calls({"weather": later, "time": lambda: "noon"})
    assert request.messages == [
        ASKED.messages[0],
        result.response_message,
        Message("tool", '{"city":"Oslo","degrees":3}', tool_call_id="id1"),
        Message("tool", "noon", tool_call_id="id2"),
    ]
    assert (request.model_name, request.tools, request.stream) == ("m", {"weather": {}}, True)
    assert ASKED.messages == [Message("user", "weather?")]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (call("wether"), "did you mean 'weather'"),
        (ToolCall("weather", "{broken", None, "id1"), "no JSON object"),
        (call(), "no such city"),
    ],
    ids=["unknown tool", "broken arguments", "tool raises"],
)
async def test_the_model_is_told_what_went_wrong(bad, said):
    """A failing call becomes a tool message; with raise_errors it travels to the caller."""

    def weather(city):
        raise LookupError("no such city")

    request = await result_of(bad).run_tool_calls({"weather": weather})
    assert said in request.messages[-1].content
    with pytest.raises((aitoolman.LLMApplicationError, LookupError), match=said):
        await result_of(bad).run_tool_calls({"weather": weather}, raise_errors=True)


async def test_a_bad_status_is_raised_first():
    """Tools of a failed call are not run."""
    ran = []
    result = result_of(call(), status=FinishReason.length)
    with pytest.raises(aitoolman.LLMLengthLimitError):
        await result.run_tool_calls({"weather": lambda city: ran.append(city)})
    assert not ran
