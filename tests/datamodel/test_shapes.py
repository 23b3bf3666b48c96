"""Section 2 of the specification: every class, field, order and default as printed."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect

import pytest

import aitoolman
from aitoolman import (
    LLMDirectRequest,
    LLMModuleRequest,
    LLMModuleResult,
    LLMProviderRequest,
    LLMProviderResponse,
    MediaContent,
    Message,
    ToolCall,
)

REQUIRED = inspect.Parameter.empty

PRINTED = {
    Message: [
        ("role", None),
        ("content", None),
        ("media_content", None),
        ("reasoning_content", None),
        ("tool_call_id", None),
        ("raw_value", None),
    ],
    MediaContent: [
        ("media_type", REQUIRED),
        ("raw_value", None),
        ("data", None),
        ("mime_type", None),
        ("filename", None),
        ("url", None),
        ("options", None),
    ],
    ToolCall: [
        ("name", REQUIRED),
        ("arguments_text", REQUIRED),
        ("arguments", REQUIRED),
        ("id", None),
        ("type", "function"),
    ],
    LLMDirectRequest: [
        ("model_name", REQUIRED),
        ("messages", REQUIRED),
        ("tools", None),
        ("options", None),
        ("stream", False),
        ("output_channel", None),
        ("reasoning_channel", None),
        ("post_processor", None),
    ],
    LLMModuleRequest: [
        ("module_name", REQUIRED),
        ("template_params", REQUIRED),
        ("model_name", None),
        ("context_messages", []),
        ("media_content", None),
        ("tools", None),
        ("options", None),
        ("stream", None),
        ("output_channel", None),
        ("reasoning_channel", None),
    ],
}


@pytest.mark.parametrize("kind", PRINTED, ids=lambda kind: kind.__name__)
def test_named_tuple_has_the_printed_fields_first(kind):
    """Constructor calls by position mean what the specification says; additions come after."""
    parameters = list(inspect.signature(kind).parameters.values())
    printed = PRINTED[kind]
    assert [(p.name, p.default) for p in parameters[: len(printed)]] == printed
    assert all(p.default is not REQUIRED for p in parameters[len(printed) :])


RESULT_FIELDS = (
    "model_name module_name request post_processor response_text response_reasoning text"
    " tool_calls status error_text request_params response_message data"
)
RESPONSE_FIELDS = (
    "client_id context_id request_id model_name stream start_time queue_time queue_length"
    " time_to_first_token total_response_time response_text response_reasoning"
    " response_tool_calls finish_reason error_text prompt_tokens completion_tokens"
    " response_message"
)


@pytest.mark.parametrize(
    ("kind", "names", "required"),
    [(LLMModuleResult, RESULT_FIELDS, 3), (LLMProviderResponse, RESPONSE_FIELDS, 5)],
    ids=["LLMModuleResult", "LLMProviderResponse"],
)
def test_dataclass_has_the_printed_fields_first(kind, names, required):
    """The printed fields come first, in order; only the first ones are required."""
    fields = dataclasses.fields(kind)
    expected = names.split()
    assert [f.name for f in fields[: len(expected)]] == expected
    needed = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    assert needed == expected[:required]


def test_result_defaults():
    """A result is a good, empty one until something is filled in."""
    request = LLMDirectRequest("m", [])
    result = LLMModuleResult("m", None, request)
    assert result.status is aitoolman.FinishReason.stop
    assert (result.text, result.response_text, result.tool_calls, result.data) == ("", "", [], None)
    result.raise_for_status()


def test_provider_request_takes_every_field_by_keyword_without_a_loop():
    """A request can be made where no loop runs; both channels may be None."""
    request = LLMProviderRequest(
        client_id="c", context_id=None, request_id="r", model_name="m", messages=[],
        tools={}, options={}, stream=True, output_channel=None, reasoning_channel=None,
        is_cancelled=False,
    )  # fmt: skip
    assert request.stream is True


async def test_provider_request_makes_its_future_when_first_needed():
    """Inside a loop the response future appears and stays the same one."""
    request = LLMProviderRequest("c", None, "r", "m", [])
    assert isinstance(request.response, asyncio.Future)
    assert request.response is request.response


async def test_provider_request_keeps_a_given_future():
    """A future that the caller made is used."""
    future = asyncio.get_running_loop().create_future()
    assert LLMProviderRequest("c", None, "r", "m", [], response=future).response is future


def test_default_context_messages_are_shared_and_stay_empty():
    """The printed default is one list; making requests never fills it."""
    first, second = LLMModuleRequest("m", {}), LLMModuleRequest("m", {})
    assert first.context_messages == second.context_messages == []


def test_media_is_one_or_many():
    """`media` gives a list whatever was put in."""
    item = MediaContent("image", url="http://x/y.png")
    assert Message(media_content=item).media == [item]
    assert Message(media_content=[item, item]).media == [item, item]
    assert Message().media == []


def test_reprs_are_short_and_hold_no_bytes():
    """Nobody gets a picture's bytes or a long answer into a log by printing a value."""
    media = MediaContent("image", data=b"\x00" * 100_000, mime_type="image/png")
    assert "100000 bytes" in repr(media)
    assert len(repr(media)) < 200
    response = LLMProviderResponse("c", None, "r", "m", False, response_text="x" * 10_000)
    assert len(repr(response)) < 200
    result = LLMModuleResult("m", "mod", LLMDirectRequest("m", []), response_text="y" * 10_000)
    assert len(repr(result)) < 200


def response(**values):
    return LLMProviderResponse("c", None, "r", "m", False, **values)


def test_result_sums_its_responses():
    """Tokens, cost and attempts of all responses count; one unknown makes a sum unknown."""
    attempt = aitoolman.Attempt("m", 0.0, 1.0, "ok")
    one = response(prompt_tokens=3, completion_tokens=4, cost=0.5, attempts=[attempt])
    two = response(prompt_tokens=5, completion_tokens=None, cost=0.25, attempts=[attempt, attempt])
    result = LLMModuleResult("m", None, LLMDirectRequest("m", []), responses=[one, two])
    assert result.prompt_tokens == 8
    assert result.completion_tokens is None
    assert result.cost == 0.75
    assert len(result.attempts) == 3
    assert not result.from_ledger


def test_result_without_responses_knows_nothing():
    """No response: sums are None, not 0."""
    result = LLMModuleResult("m", None, LLMDirectRequest("m", []))
    assert result.prompt_tokens is None
    assert result.cost is None
    assert result.exchange is None
