"""What an application asks for, and what goes down to a provider."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Protocol,
    Union,
    runtime_checkable,
)

from .callinfo import CallInfo

if TYPE_CHECKING:
    from .messages import MediaContent, Message
    from .results import LLMProviderResponse

__all__ = ["LLMDirectRequest", "LLMModuleRequest", "LLMProviderRequest", "TextSink"]


@runtime_checkable
class TextSink(Protocol):
    """Whatever takes streamed text: a channel, one of its writers, an XML filter, your own."""

    async def write(self, message: str | None) -> None:
        """Take a fragment; None ends the message."""


Output = Union[str, TextSink, None]  # noqa: UP007 - evaluated
"""Where streamed text goes: a channel's name, anything that can be written to, or nowhere."""


class LLMDirectRequest(NamedTuple):
    """A request that stands for itself, with no module behind it."""

    model_name: str
    messages: list[Message]
    tools: dict[str, dict[str, Any]] | None = None
    options: dict[str, Any] | None = None
    stream: bool = False
    output_channel: Output = None
    reasoning_channel: Output = None
    post_processor: Any = None
    """A processor's name, a callable, or a type to parse into."""


class LLMModuleRequest(NamedTuple):
    """A request through a configured module. None keeps what the module says; ``{}`` means none."""

    module_name: str
    template_params: dict[str, Any]
    model_name: str | None = None
    context_messages: list[Message] = []  # noqa: RUF012 - the specification's default; never changed
    media_content: MediaContent | list[MediaContent] | None = None
    tools: dict[str, dict[str, Any]] | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None
    output_channel: Output = None
    reasoning_channel: Output = None

    # beyond the specification
    post_processor: Any = None
    sample: int | None = None
    """Which of several answers to the same prompt; None: as the surrounding code says."""
    fresh: bool | None = None
    """True asks the model even where a ledger holds an answer."""


@dataclass(eq=False)
class LLMProviderRequest:
    """A request on its way to a model provider."""

    client_id: str
    context_id: str | None
    request_id: str
    model_name: str
    messages: list[Message]
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    output_channel: TextSink | None = None
    reasoning_channel: TextSink | None = None
    is_cancelled: bool = False
    response: asyncio.Future[LLMProviderResponse] = None  # type: ignore[assignment]
    """The answer to wait for; made when first needed inside a running loop."""

    # beyond the specification
    call: CallInfo = CallInfo()  # noqa: RUF009 - immutable

    def __repr__(self) -> str:
        return (
            f"LLMProviderRequest({self.request_id!r}, model={self.model_name!r}, "
            f"{len(self.messages)} messages, stream={self.stream})"
        )


def _get_response(self: LLMProviderRequest) -> asyncio.Future[LLMProviderResponse]:
    future: asyncio.Future[LLMProviderResponse] | None = self.__dict__.get("_response")
    if future is None:
        future = asyncio.get_running_loop().create_future()
        self.__dict__["_response"] = future
    return future


def _set_response(
    self: LLMProviderRequest, value: asyncio.Future[LLMProviderResponse] | None
) -> None:
    self.__dict__["_response"] = value


# A property over the dataclass field: the constructor takes it, a missing one is made on demand.
LLMProviderRequest.response = property(_get_response, _set_response)  # type: ignore[assignment]
