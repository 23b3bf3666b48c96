"""The embedded model behind a server."""

from __future__ import annotations

import pytest

from aitoolman import LLMApplication, connect

from .conftest import TOKEN

MODULE = {
    "module": {
        "greet": {
            "model": "Fast-Model",
            "template": {"user": "Say hello to {{ name }}."},
            "options": {"max_tokens": 12, "temperature": 0},
            "stream": True,
        }
    }
}


@pytest.mark.model
@pytest.mark.timeout(180)
async def test_the_embedded_model_answers_through_a_server(serve, server_config):
    """One program text: the client is the server's address instead of "demo"."""
    server_config["api"] = {"embedded": {"type": "llamacpp", "model": "smollm2-135m"}}
    server_config["model_alias"] = {"Fast-Model": "embedded"}
    server_config["default"] = {"timeout": 120}
    server = await serve(server_config)
    async with connect(server.endpoint, token=TOKEN) as client:
        app = LLMApplication(client, MODULE)
        result = await app["greet"](name="Anna")
        assert result.text
        assert await app.channels["stdout"].read_whole_message() == result.text
        assert (await client.describe("Fast-Model")).entries == ("embedded",)
