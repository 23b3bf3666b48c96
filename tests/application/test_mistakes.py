"""A caller's mistakes in a request: one clear error at once, nothing sent."""

from __future__ import annotations

import pytest

import aitoolman
from aitoolman import LLMApplicationError, LLMDirectRequest, LLMModuleRequest, Message

CONFIG = {"module": {"x": {"model": "m", "template": {"user": "u"}}}}
HI = [Message("user", "hi")]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (LLMDirectRequest("m", None), "messages must be a list of aitoolman.Message"),
        (LLMDirectRequest("m", [None]), "messages must be a list of aitoolman.Message"),
        (
            LLMDirectRequest("m", [Message("user", ["parts"])]),
            "content of a message is text, not a l",
        ),
        (LLMDirectRequest("m", [Message("user", "x", "f.png")]), "media_content must be"),
        (LLMDirectRequest("m", HI, options="fast"), "options must be a dict, not a str"),
        (LLMDirectRequest("m", HI, options=[1]), "options must be a dict, not a list"),
        (LLMDirectRequest("m", HI, tools="f"), "tools must be a dict, not a str"),
        (LLMDirectRequest("m", HI, tools={"f": "x"}), "tool 'f' must be a dict, not a str"),
        (LLMModuleRequest("x", {}, options=[1]), "options must be a dict, not a list"),
        (LLMModuleRequest("x", {}, tools=[1]), "tools must be a dict, not a list"),
        (LLMModuleRequest("x", {}, context_messages=5), "context_messages must be a list"),
    ],
    ids=str,
)
async def test_a_value_of_the_wrong_type_is_named(request_, text):
    """Not an AttributeError from somewhere inside."""
    client = aitoolman.LLMScriptedClient(["answer"])
    app = aitoolman.LLMApplication(client, CONFIG)
    with pytest.raises(LLMApplicationError, match=text):
        await app.call(request_)
    assert not client.requests


async def test_no_context_is_an_empty_one():
    """`context_messages=None` in a request means what it says."""
    client = aitoolman.LLMScriptedClient(["answer"])
    app = aitoolman.LLMApplication(client, CONFIG)
    result = await app.call(LLMModuleRequest("x", {}, context_messages=None))
    assert result.data == "answer"


async def test_a_value_without_a_name_is_told_which_names_there_are():
    """Whoever writes app["m"]("hello") learns what to write instead."""
    client = aitoolman.LLMScriptedClient([])
    config = {"module": {"x": {"model": "m", "template": {"user": "{{ text }} {{ tone }}"}}}}
    module = aitoolman.LLMApplication(client, config)["x"]
    with pytest.raises(LLMApplicationError, match=r"'x' .* by name: pass text=\.\.\., tone=\.\.\."):
        await module("hello")
    with pytest.raises(LLMApplicationError, match="by name"):
        module.render("hello")
    with pytest.raises(LLMApplicationError, match="by name"):
        await module.preview("hello")
    assert not client.requests
