"""Request bodies: options, tools, media, and what is refused before anything is sent."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from aitoolman import LLMApplicationError, MediaContent, Message
from aitoolman._provider.formats import make_format

from .bench import request

PNG = b"\x89PNG\r\n\x1a\n123"


def body(asked: Any, kind: str = "openai", **config: Any) -> dict[str, Any]:
    return make_format(kind, {"model": "m", **config}).make_request_body(asked)


def notes(asked: Any, kind: str = "openai", **config: Any) -> list[str]:
    return make_format(kind, {"model": "m", **config}).make_request(asked)[1]


# Options


def test_a_requests_options_win_over_body_options() -> None:
    """The configuration's fields are a base; a request lays its own over them; None removes one."""
    found = body(
        request("hi", temperature=0.9, top_p=None),
        body_options={"temperature": 0.1, "top_p": 0.5, "seed": 3},
    )
    assert found == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.9,
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("dialect", "given", "sent"),
    [
        ("openai", "max_tokens", "max_completion_tokens"),
        ("mistral", "max_completion_tokens", "max_tokens"),
        ("generic", "max_tokens", "max_tokens"),
        ("generic", "max_completion_tokens", "max_completion_tokens"),
        ("mistral", "seed", "random_seed"),
    ],
)
def test_fields_go_out_under_the_vendors_name(dialect: str, given: str, sent: str) -> None:
    """A limit set in one vendor's word works at another's."""
    found = body(request("hi", **{given: 7}), dialect=dialect)
    assert found[sent] == 7
    assert given == sent or given not in found


def test_an_option_wins_also_when_the_names_differ() -> None:
    """`max_tokens` of the request replaces `max_completion_tokens` of the configuration."""
    found = body(
        request("hi", max_tokens=5), dialect="openai", body_options={"max_completion_tokens": 9}
    )
    assert found["max_completion_tokens"] == 5


def test_refused_fields_are_left_out_with_a_note() -> None:
    """What this vendor answers with an error is not sent, and the response says so."""
    asked = request("hi", top_k=3, temperature=1)
    assert "top_k" not in body(asked, dialect="openai")
    assert notes(asked, dialect="openai") == ["option 'top_k' left out: openai refuses it"]
    assert body(asked, dialect="vllm")["top_k"] == 3


def test_qwen_thinks_in_streams_only() -> None:
    """Without a stream thinking is switched off, not refused by the vendor."""
    options = {"enable_thinking": True, "thinking_budget": 50}
    found = body(request("hi", **options), dialect="qwen")
    assert found["enable_thinking"] is False
    assert "thinking_budget" not in found
    assert len(notes(request("hi", **options), dialect="qwen")) == 2
    found = body(request("hi", stream=True, **options), dialect="qwen")
    assert (found["enable_thinking"], found["thinking_budget"]) == (True, 50)


def test_streams_ask_for_usage_where_the_vendor_allows_it() -> None:
    """`stream_options.include_usage` is sent, merged with the user's; never without a stream."""
    mine = {"stream_options": {"x": 1}}
    assert body(request("hi", stream=True))["stream_options"] == {"include_usage": True}
    found = body(request("hi", stream=True), body_options=mine)
    assert found["stream_options"] == {"include_usage": True, "x": 1}
    assert "stream_options" not in body(request("hi"), body_options=mine)
    assert "stream_options" not in body(request("hi", stream=True), dialect="mistral")
    quirk = {"stream_usage": False}
    assert "stream_options" not in body(request("hi", stream=True), quirks=quirk)


def test_the_request_alone_says_model_messages_and_stream() -> None:
    """Options of these names change nothing, with a note."""
    asked = request("hi")
    asked.options = {"model": "other", "messages": [], "stream": True}
    assert body(asked) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert len(notes(asked)) == 3


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("name", ["tools", "stream_options", "metadata"])
def test_an_option_of_the_wrong_type_is_named(kind: str, name: str) -> None:
    """Fields that we merge with ours are checked first."""
    asked = request("hi", stream=True)
    asked.options = {name: 3}
    if (kind, name) == ("anthropic", "stream_options"):
        assert "stream_options" not in body(asked, kind)
        return
    with pytest.raises(LLMApplicationError, match=f"option '{name}' must be a"):
        body(asked, kind)


def test_system_roles_follow_the_dialect() -> None:
    """`developer` is kept where known, else sent as `system`; a quirk turns it round."""
    asked = request(Message("developer", "a"), Message("system", "b"), "hi")

    def roles(**config: Any) -> list[str]:
        return [m["role"] for m in body(asked, **config)["messages"]]

    assert roles(dialect="openai") == ["developer", "system", "user"]
    assert roles(dialect="deepseek") == ["system", "system", "user"]
    assert roles(quirks={"system_roles": ["developer"]}) == ["developer", "developer", "user"]


def test_anthropic_gets_its_own_words() -> None:
    """Stop sequences, user, and a token limit above the thinking budget."""
    found = body(request("hi", stop="END", user="u1"), "anthropic")
    assert found["stop_sequences"] == ["END"]
    assert found["metadata"] == {"user_id": "u1"}
    assert found["max_tokens"] == 4096
    thinking = {"type": "enabled", "budget_tokens": 8000}
    assert body(request("hi", thinking=thinking), "anthropic")["max_tokens"] == 12096
    assert body(request("hi", max_completion_tokens=9), "anthropic")["max_tokens"] == 9


def test_headers_carry_the_key_as_the_vendor_wants_it() -> None:
    """Bearer for OpenAI's format, x-api-key and a version for Anthropic's; nothing without."""
    config = {"model": "m", "api_key": "k"}
    assert make_format("openai", config).request_headers() == {"Authorization": "Bearer k"}
    assert make_format("openai", {"model": "m"}).request_headers() == {}
    assert make_format("anthropic", config).request_headers() == {
        "anthropic-version": "2023-06-01",
        "x-api-key": "k",
    }


# Tools

ADD_TASK = {
    "type": "function",
    "description": "Add schedule",
    "param": {
        "datetime": {"type": "string", "description": "Date", "required": False},
        "content": {"type": "string", "required": True, "enum": ["a", "b"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "datetime": {"type": "string", "description": "Date"},
        "content": {"type": "string", "enum": ["a", "b"]},
    },
    "required": ["content"],
}


def test_the_param_form_becomes_json_schema() -> None:
    """The specification's short form, for both formats."""
    asked = request("hi", tools={"add_task": ADD_TASK})
    function = {"name": "add_task", "description": "Add schedule", "parameters": SCHEMA}
    assert body(asked)["tools"] == [{"type": "function", "function": function}]
    assert body(asked, "anthropic")["tools"] == [
        {"name": "add_task", "description": "Add schedule", "input_schema": SCHEMA}
    ]


@pytest.mark.parametrize(
    "definition",
    [
        {"description": "Add schedule", "parameters": SCHEMA},
        {"description": "Add schedule", "input_schema": SCHEMA},
        {"type": "function", "function": {"description": "Add schedule", "parameters": SCHEMA}},
        ADD_TASK,
    ],
    ids=["parameters", "input_schema", "openai", "param"],
)
def test_four_ways_to_write_a_tool_are_one(definition: Any) -> None:
    """Plain JSON Schema under either vendor's name, OpenAI's nesting, and the short form."""
    function = body(request("hi", tools={"t": definition}))["tools"][0]["function"]
    assert function == {"name": "t", "description": "Add schedule", "parameters": SCHEMA}


def test_a_tool_without_arguments_is_fine() -> None:
    """An empty table is a tool that takes nothing."""
    function = body(request("hi", tools={"now": {}}))["tools"][0]["function"]
    assert function == {"name": "now", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("name", "definition", "rule"),
    [
        ("Tool Name", {}, "match"),
        ("x" * 65, {}, "match"),
        ("t", {"param": {"p": {"type": "string/integer/boolean"}}}, "impossible type"),
        ("t", {"param": {"p": {"type": "int"}}}, "'p' has the impossible type 'int'; did you mean"),
        ("t", {"param": {"p": {"type": ["string", "text"]}}}, "impossible type 'text'"),
        ("t", {"param": {"p": "string"}}, "must be a table"),
        ("t", {"param": {"p": {"type": "string", "required": "yes"}}}, "true or false"),
        ("t", {"param": {}, "parameters": {}}, "exclude each other"),
        ("t", {"parameters": {"type": "array"}}, "of type 'object'"),
        ("t", {"parameters": {"properties": []}}, "properties must be a table"),
        ("t", {"parameters": {"properties": {"p": {"type": "str"}}}}, "impossible type 'str'"),
        ("t", {"parameters": "x"}, "parameters must be a table"),
        ("t", {"description": 3}, "description must be a string"),
        ("t", {"type": 3}, "type must be a string"),
        ("t", [], "not a table"),
    ],
)  # fmt: skip
def test_an_impossible_tool_is_an_error_that_names_tool_and_rule(
    name: str, definition: Any, rule: str
) -> None:
    """It fails where it would be sent, as the application's mistake."""
    with pytest.raises(LLMApplicationError, match=rule) as caught:
        body(request("hi", tools={name: definition}))
    assert repr(name) in str(caught.value)


def test_vendors_own_tools_go_out_as_they_are() -> None:
    """A type other than function is a tool that the vendor runs."""
    tools = {"web_search": {"type": "web_search_20250305", "max_uses": 5}}
    assert body(request("hi", tools=tools), "anthropic")["tools"] == [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    ]
    assert body(request("hi", tools={"web_search": {"type": "web_search"}}))["tools"] == [
        {"type": "web_search"}
    ]


def test_tools_in_the_options_join_the_modules() -> None:
    """Vendor tools in `body_options` stand behind the request's own; an empty list is not sent."""
    found = body(request("hi", tools={"t": {}}), body_options={"tools": [{"type": "x"}]})
    assert [t["type"] for t in found["tools"]] == ["function", "x"]
    assert "tools" not in body(request("hi", tools={}), body_options={"tools": []})


NAMED = {"type": "function", "function": {"name": "t"}}


@pytest.mark.parametrize(
    ("choice", "openai", "anthropic"),
    [
        ("auto", "auto", {"type": "auto"}),
        ("required", "required", {"type": "any"}),
        ("none", "none", {"type": "none"}),
        (NAMED, NAMED, {"type": "tool", "name": "t"}),
        ({"type": "any"}, "required", {"type": "any"}),
        ({"type": "tool", "name": "t"}, NAMED, {"type": "tool", "name": "t"}),
        ({"type": "auto"}, "auto", {"type": "auto"}),
    ],
)
def test_the_choice_of_a_tool_is_translated(choice: Any, openai: Any, anthropic: Any) -> None:
    """Either vendor's words work with either vendor."""
    asked = request("hi", tools={"t": {}}, tool_choice=choice)
    assert body(asked)["tool_choice"] == openai
    assert body(asked, "anthropic")["tool_choice"] == anthropic


def test_one_call_at_a_time_is_translated() -> None:
    """`parallel_tool_calls = false` is a part of Anthropic's tool choice."""
    asked = request("hi", tools={"t": {}}, parallel_tool_calls=False)
    assert body(asked, "anthropic")["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }


# Media


def part(media: MediaContent, kind: str = "openai", **config: Any) -> dict[str, Any]:
    found = body(request(Message("user", None, media)), kind, **config)
    content: list[dict[str, Any]] = found["messages"][0]["content"]
    return content[0]


def url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_media_sources_have_the_specified_priority(tmp_path: Path) -> None:
    """raw_value, then data, then the file, then the URL."""
    file = tmp_path / "b.gif"
    file.write_bytes(b"GIF89a")
    media = MediaContent(
        "image",
        raw_value={"type": "raw"},
        data=PNG,
        mime_type="image/png",
        filename=str(file),
        url="https://x/y.png",
    )
    assert part(media) == {"type": "raw"}
    media = media._replace(raw_value=None)
    assert part(media)["image_url"]["url"] == url(PNG, "image/png")
    media = media._replace(data=None, mime_type=None)
    assert part(media)["image_url"]["url"] == url(b"GIF89a", "image/gif")
    media = media._replace(filename=None)
    assert part(media)["image_url"]["url"] == "https://x/y.png"


def test_a_missing_file_is_named() -> None:
    """The error says which file and why, before anything is sent."""
    with pytest.raises(LLMApplicationError, match=r"'/no/such\.png': No such file"):
        part(MediaContent("image", filename="/no/such.png"))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """Any failure to read names the path."""
    with pytest.raises(LLMApplicationError, match="Is a directory"):
        part(MediaContent("image", filename=str(tmp_path)))


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF1234WEBPVP8", "image/webp"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"GIF89a", "image/gif"),
    ],
)
def test_the_type_of_bare_data_is_guessed(data: bytes, mime: str) -> None:
    """A missing MIME type is read off the first bytes."""
    assert part(MediaContent("image", data=data))["image_url"]["url"] == url(data, mime)


def test_an_unknown_type_is_an_error_that_says_what_to_set() -> None:
    """Data that nobody recognizes needs `mime_type`."""
    with pytest.raises(LLMApplicationError, match="set mime_type"):
        part(MediaContent("image", data=b"?"))


def test_a_medium_without_a_source_is_an_error() -> None:
    """Nothing to send is the caller's mistake."""
    with pytest.raises(LLMApplicationError, match="no raw_value, data, filename or url"):
        part(MediaContent("image"))


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (MediaContent("video", url="https://x/v.mp4"),
         {"type": "video_url", "video_url": {"url": "https://x/v.mp4"}}),
        (MediaContent("audio", data=b"1", mime_type="audio/mpeg"),
         {"type": "input_audio", "input_audio": {"data": "MQ==", "format": "mp3"}}),
        (MediaContent("audio", url="https://x/a.wav"),
         {"type": "audio_url", "audio_url": {"url": "https://x/a.wav"}}),
        (MediaContent("document", data=b"%PDF-1"),
         {"type": "file", "file": {"filename": "document.pdf",
                                   "file_data": url(b"%PDF-1", "application/pdf")}}),
    ],
    ids=["video", "audio", "audio-url", "document"],
)  # fmt: skip
def test_each_kind_has_its_part(media: MediaContent, expected: Any) -> None:
    """Video, audio and documents in OpenAI's parts."""
    assert part(media) == expected


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (MediaContent("image", data=PNG), {"type": "image", "source": {
            "type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}}),
        (MediaContent("image", url="https://x/y.png"),
         {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        (MediaContent("image", url=url(PNG, "image/png")), {"type": "image", "source": {
            "type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}}),
        (MediaContent("document", data=b"hi", mime_type="text/markdown"), {
            "type": "document", "source": {
                "type": "text", "media_type": "text/plain", "data": "hi"}}),
        (MediaContent("document", data=b"%PDF-1", options={"citations": {"enabled": True}}), {
            "type": "document", "citations": {"enabled": True}, "source": {
                "type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}}),
    ],
    ids=["image", "url", "data-url", "text", "pdf"],
)  # fmt: skip
def test_anthropic_has_its_own_blocks(media: MediaContent, expected: Any) -> None:
    """Images and documents as Anthropic writes them."""
    assert part(media, "anthropic") == expected


@pytest.mark.parametrize(
    ("media", "kind", "config", "words"),
    [
        (MediaContent("video", url="u"), "anthropic", {}, "anthropic takes no 'video'"),
        (MediaContent("image", data=b"1", mime_type="image/tiff"), "anthropic", {}, "image/tiff"),
        (MediaContent("video", url="u"), "openai", {"dialect": "openai"}, "takes no 'video'"),
        (MediaContent("hologram", url="u"), "openai", {}, "takes no 'hologram'"),
        (MediaContent("image", url="data:image/png;base64,???"), "openai", {}, "no base64"),
    ],
)  # fmt: skip
def test_what_a_vendor_cannot_take_is_a_clear_error(
    media: MediaContent, kind: str, config: Any, words: str
) -> None:
    """Unsupported media and types name vendor and kind."""
    with pytest.raises(LLMApplicationError, match=words):
        part(media, kind, **config)


def test_media_options_stand_where_the_vendor_reads_them() -> None:
    """`detail` in the image, cache marks beside it, video settings where the dialect has them."""
    image = MediaContent("image", url="u", options={"detail": "low", "cache_control": {"x": 1}})
    assert part(image) == {
        "type": "image_url",
        "image_url": {"url": "u", "detail": "low"},
        "cache_control": {"x": 1},
    }
    video = MediaContent("video", url="u", options={"fps": 2})
    assert part(video, dialect="doubao")["video_url"] == {"url": "u", "fps": 2}
    assert part(video, dialect="qwen") == {"type": "video_url", "video_url": {"url": "u"}, "fps": 2}
    nested = MediaContent("image", url="u", options={"image_url": {"detail": "high"}})
    assert part(nested)["image_url"] == {"url": "u", "detail": "high"}


def test_several_media_follow_the_text() -> None:
    """A list of media is a list of parts behind the text; before it for Anthropic."""
    media = [MediaContent("image", url="a"), MediaContent("image", url="b")]
    asked = request(Message("user", "look", media))
    kinds = [p["type"] for p in body(asked)["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "image_url"]
    kinds = [p["type"] for p in body(asked, "anthropic")["messages"][0]["content"]]
    assert kinds == ["image", "image", "text"]
