"""Error answers of all vendors in one sentence, and what to do about them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._provider.formats.base import VendorError
from aitoolman._provider.formats.errors import classify, parse_error_body, request_error

BODIES = [
    # OpenAI
    (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota",
                     "param": None, "code": "insufficient_quota"}},
     "You exceeded your current quota", "insufficient_quota", "stop"),
    (429, {"error": {"message": "Rate limit reached", "type": "requests",
                     "code": "rate_limit_exceeded"}},
     "Rate limit reached", "rate_limit_exceeded", "wait"),
    (400, {"error": {"message": "This model's maximum context length is 8192 tokens",
                     "code": "context_length_exceeded"}},
     "This model's maximum context length is 8192 tokens", "context_length_exceeded", "stop"),
    (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}},
     "Incorrect API key", "invalid_api_key", "stop"),
    # Anthropic
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
     "Overloaded", "overloaded_error", "wait"),
    (400, {"type": "error", "error": {"type": "invalid_request_error",
                                      "message": "prompt is too long: 210000 tokens"}},
     "prompt is too long: 210000 tokens", "invalid_request_error", "stop"),
    (400, {"type": "error", "error": {"type": "invalid_request_error",
                                      "message": "Your credit balance is too low"}},
     "Your credit balance is too low", "invalid_request_error", "stop"),
    # Gemini wraps it in a list
    (429, [{"error": {"code": 429, "message": "Resource exhausted",
                      "status": "RESOURCE_EXHAUSTED"}}],
     "Resource exhausted", "RESOURCE_EXHAUSTED", "wait"),
    (503, [{"error": {"code": 503, "message": "The model is overloaded.",
                      "status": "UNAVAILABLE"}}],
     "The model is overloaded.", "UNAVAILABLE", "wait"),
    # vLLM
    (400, {"object": "error", "message": "bad request", "type": "BadRequestError", "code": 400},
     "bad request", "BadRequestError", "stop"),
    # Ollama
    (404, {"error": "model 'x' not found"}, "model 'x' not found", None, "stop"),
    # Mistral
    (422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden",
           "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
           "type": "invalid_request_error", "param": None, "code": None},
     "Extra inputs are not permitted", "invalid_request_error", "stop"),
    (422, {"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]},
     "Field required", "missing", "stop"),
    (401, {"message": "Unauthorized", "request_id": "x"}, "Unauthorized", None, "stop"),
    # llama.cpp
    (400, {"error": {"code": 400, "message": "the request exceeds the available context size",
                     "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}},
     "the request exceeds the available context size", "exceed_context_size_error", "stop"),
    # OpenRouter
    (502, {"error": {"code": 502, "message": "Provider returned error",
                     "metadata": {"raw": "upstream broke", "provider_name": "X"}}},
     "Provider returned error: upstream broke", None, "retry"),
    # DashScope
    (400, {"code": "DataInspectionFailed", "message": "Output data may be inappropriate",
           "request_id": "x"},
     "Output data may be inappropriate", "DataInspectionFailed", "stop"),
    # Ark
    (429, {"error": {"code": "RequestBurstTooFast", "message": "too fast", "param": "",
                     "type": "TooManyRequests"}}, "too fast", "RequestBurstTooFast", "wait"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "message", "code", "what"), BODIES, ids=[b[2][:24] for b in BODIES]
)
def test_every_vendors_error_is_understood(
    status: int, body: object, message: str, code: str | None, what: str
) -> None:
    """Message, code and class of the errors that vendors really send."""
    error = parse_error_body(status, json.dumps(body))
    assert (error.message, error.code) == (message, code)
    assert classify(status, error) == what


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
         "502 Bad Gateway"),
        ("<html><style>x{}</style><body><h1>Sorry &amp; bye</h1></body></html>", "Sorry & bye"),
        ("upstream connect error\nreset", "upstream connect error reset"),
        ("", "Bad Gateway"),
        ("null", "Bad Gateway"),
        ("{}", "Bad Gateway"),
        ('"just text"', "just text"),
        ("[" * 100_000, "[" * 297 + "..."),
        ('{"error": null, "message": "m"}', "m"),
        ('{"error": {}}', '{"error": {}}'),
    ],
    ids=["html", "html-body", "text", "empty", "null", "object", "string", "deep", "null-error",
         "empty-error"],
)  # fmt: skip
def test_bodies_that_are_no_error_object_still_say_something(body: str, message: str) -> None:
    """HTML, plain text and nothing at all become one short line."""
    assert parse_error_body(502, body).message == message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "message", "code", "type", "detail", "status", "metadata"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_gives_one_short_line(body: object) -> None:
    """Whatever a server sends, there is a message, on one line, of bounded length."""
    error = parse_error_body(500, json.dumps(body))
    assert error.message
    assert "\n" not in error.message
    assert len(error.message) <= 300
    assert error.code is None or isinstance(error.code, str)
    assert error.status is None or 100 <= error.status <= 599
    assert classify(500, error) in ("wait", "retry", "stop")


@given(st.text(), st.integers(100, 599))
def test_any_text_gives_one_line(body: str, status: int) -> None:
    """No body breaks the reader."""
    assert "\n" not in parse_error_body(status, body).message


@pytest.mark.parametrize(
    ("status", "code", "what"),
    [
        (400, None, "stop"), (401, None, "stop"), (402, None, "stop"), (403, None, "stop"),
        (404, None, "stop"), (405, None, "stop"), (413, None, "stop"), (422, None, "stop"),
        (408, None, "retry"), (409, None, "retry"), (500, None, "retry"), (502, None, "retry"),
        (503, None, "retry"), (504, None, "retry"), (524, None, "retry"),
        (429, None, "wait"), (529, None, "wait"), (500, "overloaded_error", "wait"),
        (403, "rate_limit_exceeded", "wait"), (500, "insufficient_quota", "stop"),
        (None, None, "retry"), (200, "overloaded_error", "wait"), (200, "api_error", "retry"),
        (200, "invalid_request_error", "stop"), (200, "insufficient_quota", "stop"),
        (200, "context_length_exceeded", "stop"), (200, "content_filter", "stop"),
    ],
)  # fmt: skip
def test_statuses_and_codes_have_a_class(status: int | None, code: str | None, what: str) -> None:
    """WAIT, RETRY and STOP, also for errors inside a 200 stream."""
    assert classify(status, VendorError("something", code)) == what


def test_a_status_inside_a_stream_error_counts() -> None:
    """OpenRouter writes the upstream's status as a number into the stream."""
    error = parse_error_body(200, '{"error": {"code": 429, "message": "slow down"}, "choices": []}')
    assert error.status == 429
    assert classify(200, error) == "wait"


def test_the_exception_carries_the_vendors_words() -> None:
    """`vendor_error` is on the exception, and the code is in its text."""
    failure = request_error(VendorError("Overloaded", "overloaded_error"))
    assert str(failure) == "Overloaded (overloaded_error)"
    assert failure.vendor_error.code == "overloaded_error"
