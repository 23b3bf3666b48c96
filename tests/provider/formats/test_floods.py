"""Streams of a hundred thousand odd pieces: each costs what it costs at the beginning.

The bounds are ten times what the slowest machine needed; work that grows with the square of the
length misses them by far.
"""

from __future__ import annotations

import json
import time

import pytest
from httpx_sse import ServerSentEvent

from aitoolman._provider.formats.registry import make_format

from .bench import new_response

PIECES = 40_000
BOUND = 5.0


def delta(**fields):
    return {"choices": [{"index": 0, "delta": fields}]}


def call(**fields):
    return delta(tool_calls=[fields])


def finish(number):
    choice = {"index": 0, "delta": {"content": "x" * 1000}, "finish_reason": "stop"}
    return {"choices": [choice]}


def block(kind, number, **fields):
    return {"type": f"content_block_{kind}", **({"index": number} if number else {}), **fields}


def opened_in_turn(number):
    text = {"type": "text", "text": "a"}
    if number % 2:
        return block("start", number, content_block=text)
    return block("delta", 0, delta={"type": "text_delta", "text": "x"})


def stopped_again(number):
    if number % 2:
        return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return block("delta", 0, delta={"type": "text_delta", "text": "x" * 1000})


FLOODS = {
    "white space": lambda i: delta(content=" " * 20),
    "finish reasons": finish,
    "new ids": lambda i: call(index=0, id=f"c{i}", function={"name": "f", "arguments": "{}"}),
    "new indexes": lambda i: call(index=i, function={"arguments": "{"}),
    "ids alone": lambda i: call(id=f"c{i}", function={"arguments": "{"}),
    "closing braces": lambda i: call(id="c", function={"name": "f", "arguments": "{}"[i > 0] * 9}),
    "after the end": lambda i: call(
        index=0, id="c", function={"name": "f", "arguments": " " * 9 if i else '{"a": 1}'}
    ),
    "objects": lambda i: call(index=0, id="c", function={"name": "f", "arguments": {"a": i}}),
}
ANTHROPIC_FLOODS = {"opened in turn": opened_in_turn, "stopped again": stopped_again}
CASES = [("openai", FLOODS[name]) for name in FLOODS]
CASES += [("anthropic", ANTHROPIC_FLOODS[name]) for name in ANTHROPIC_FLOODS]


@pytest.mark.parametrize(("kind", "piece"), CASES, ids=[*FLOODS, *ANTHROPIC_FLOODS])
def test_a_piece_costs_as_much_at_the_end_as_at_the_beginning(kind, piece):
    """No vendor holds the event loop with pieces that make us read all that came before."""
    strategy = make_format(kind, {"model": "m"})
    response = new_response()
    start = time.process_time()
    for number in range(PIECES):
        strategy.parse_stream_event(response, ServerSentEvent(data=json.dumps(piece(number))))
        assert time.process_time() - start < BOUND, f"{number} pieces took too long"
    strategy.finish_stream(response)
    assert time.process_time() - start < BOUND
    assert response.response_message is not None
