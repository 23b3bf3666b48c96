"""What a vendor's wire format has to know: requests to JSON, JSON and events to responses."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx_sse

    from ..._datamodel import LLMProviderRequest, LLMProviderResponse, Message, ToolCall

__all__ = ["LLMFormatStrategy", "StreamEvent", "VendorError"]


class StreamEvent(NamedTuple):
    """What one server-sent event added to the response."""

    text: str = ""
    reasoning: str = ""
    done: bool = False
    """True: the vendor said that the stream is over (``[DONE]``, ``message_stop``)."""
    working: bool = False
    """True: no text yet a sign that the model works, such as a piece of a tool call."""


class VendorError(NamedTuple):
    """An error object as a vendor wrote it, in an error answer or inside a stream."""

    message: str
    code: str | None = None
    """The vendor's most specific code or type, for example ``"insufficient_quota"``."""
    status: int | None = None
    """An HTTP status named inside the body, where there is one."""


class LLMFormatStrategy(abc.ABC):
    """Converts requests and responses between this library and one vendor's format.

    One strategy serves all requests of one ``[api]`` entry, several at a time: it keeps nothing
    about a request on itself. What a stream needs between events stands in
    ``response.stream_state``.

    Args:
        config: The resolved ``[api]`` table of the model: ``model``, ``dialect`` ...
    """

    name: str = ""
    """The value of ``type`` in the configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    @abc.abstractmethod
    def serialize_tool_description(
        self, tools_configs: dict[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Tool definitions, in the ``param`` form or as JSON Schema, as the vendor wants them.

        Raises:
            LLMApplicationError: A definition that cannot be sent, naming the tool.
        """

    @abc.abstractmethod
    def parse_tool_calls(self, tool_calls: list[dict[str, Any]]) -> list[ToolCall]:
        """The vendor's tool calls in neutral words; broken JSON gives ``arguments=None``."""

    @abc.abstractmethod
    def serialize_message(self, message: Message) -> dict[str, Any]:
        """One message as the vendor wants it."""

    @abc.abstractmethod
    def make_request_body(self, request: LLMProviderRequest) -> dict[str, Any]:
        """The whole JSON body.

        Raises:
            LLMApplicationError: The request cannot be built (a missing media file, a wrong tool).
        """

    @abc.abstractmethod
    def parse_batch_response(
        self, response: LLMProviderResponse, response_data: dict[str, Any]
    ) -> None:
        """Fill `response` from a whole answer.

        Raises:
            LLMResponseFormatError: The answer is not in the vendor's format.
        """

    @abc.abstractmethod
    def parse_stream_event(
        self, response: LLMProviderResponse, event: httpx_sse.ServerSentEvent
    ) -> StreamEvent:
        """Fill `response` from one event and say what it added.

        Raises:
            LLMResponseFormatError: The event cannot be understood.
            LLMApiRequestError: The event is the vendor's error object; its ``args`` hold the text
                and its ``vendor_error`` the `VendorError`.
        """

    # With defaults, so that a strategy of one's own needs only the methods above.

    def make_request(self, request: LLMProviderRequest) -> tuple[dict[str, Any], list[str]]:
        """The JSON body, and a sentence for each thing that was left out or converted.

        Raises:
            LLMApplicationError: As `make_request_body`.
        """
        return self.make_request_body(request), []

    def request_headers(self) -> dict[str, str]:
        """Headers that this format needs besides the configured ones, the key's header included."""
        key = self.config.get("api_key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def finish_stream(self, response: LLMProviderResponse) -> None:
        """Called once when a stream is over, whole or not: assemble tool calls and the message."""
        response.stream_state = None

    def parse_error(self, status: int, body: str) -> VendorError:
        """What an error answer says; the default understands the usual forms."""
        from .errors import parse_error_body

        return parse_error_body(status, body)

    def convert_message(self, message: Message) -> Message:
        """A message that carries this dialect's `raw_value`, in neutral words for other vendors."""
        return message._replace(raw_value=None, dialect=None)
