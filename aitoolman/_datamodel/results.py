"""What comes back: a provider's response, each attempt at it, and an application's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    TypeVar,
)

from .._sync import Sync, call_user_function
from .errors import FinishReason, LLMApplicationError, did_you_mean
from .messages import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .requests import LLMDirectRequest

__all__ = [
    "UNUSABLE_ENTRY",
    "Attempt",
    "Exchange",
    "LLMModuleResult",
    "LLMProviderResponse",
    "ModelDescription",
    "RequestPreview",
]

UNUSABLE_ENTRY = "unusable_entry"


class Attempt(NamedTuple):
    """One try at a request: what was asked of whom, how it ended, what it cost."""

    model_name: str
    """The ``[api]`` entry that was asked."""
    start_time: float
    """Unix time of sending."""
    duration: float
    """Seconds from sending to the end of the answer or the failure."""
    outcome: str
    """``"ok"``, or why not: ``"wait"``, ``"retry"``, ``"stop"`` or ``"cancelled"``."""
    status: int | None = None
    """HTTP status, None where no answer came."""
    vendor_code: str | None = None
    """The vendor's own error code or type, for example ``"insufficient_quota"``; our own word
    ``"unusable_entry"`` where nothing can be sent at all: a variable not set, a package missing."""
    reason: str = ""
    """One sentence, empty for a good answer."""
    wait: float = 0.0
    """Seconds waited before the next attempt."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


class Exchange(NamedTuple):
    """The last exact request and response of a call; only secrets are masked."""

    url: str
    request_headers: dict[str, str]
    request_body: str
    """The JSON text that was sent."""
    status: int | None = None
    response_headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    response_body: str = ""
    """The text that came back: JSON, or the raw event stream."""


class RequestPreview(NamedTuple):
    """A request as it would be sent, without sending it."""

    model_name: str
    """The ``[api]`` entry after alias resolution."""
    messages: list[Message]
    body: dict[str, Any]
    """The JSON body."""
    prompt_tokens: int
    """Estimated from the text."""
    cost: float | None = None
    """Estimated cost of the prompt alone; None where a price is missing."""
    max_cost: float | None = None
    """The same with the longest answer allowed; None where no limit or price is known."""
    url: str | None = None
    """Where it would go; None through a service."""
    headers: dict[str, str] | None = None
    """Secrets masked; None through a service."""


class ModelDescription(NamedTuple):
    """What a model name stands for, as far as answers depend on it. Never holds a key."""

    model_name: str
    """The name that was asked for."""
    digest: str
    """SHA-256 (hex) over all that can change an answer: vendor model, URL, format, body options."""
    entries: tuple[str, ...] = ()
    """The ``[api]`` entries behind the name, in the order they are tried."""
    limits: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """``parallel``, ``rpm``, ``tpm`` in force now."""
    price: dict[str, float] | None = None
    """Per million tokens: ``input``, ``output``, ``cached_input``; None where unknown."""


@dataclass
class LLMProviderResponse:
    """A provider's answer with its times and counts."""

    client_id: str
    context_id: str | None
    request_id: str
    model_name: str
    stream: bool

    # Times: `start_time` is Unix time, all others are seconds.
    start_time: float | None = None
    queue_time: float | None = None
    queue_length: int | None = None
    time_to_first_token: float | None = None
    total_response_time: float | None = None

    response_text: str = ""
    response_reasoning: str = ""
    response_tool_calls: list[ToolCall] = field(default_factory=list)

    finish_reason: str | None = None
    """The value of a `FinishReason`."""
    error_text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    response_message: Message | None = None

    # beyond the specification
    cached_tokens: int | None = None
    """Those of `prompt_tokens` that the vendor read from its cache."""
    reasoning_tokens: int | None = None
    """Those of `completion_tokens` spent on reasoning."""
    total_tokens: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    cost: float | None = None
    """Money for all attempts, in the currency of the prices; None where one is missing."""
    from_ledger: bool = False
    """True where a ledger gave the answer: times and cost are those of the original call."""
    exchange: Exchange | None = None
    notes: list[str] = field(default_factory=list)
    """What was left out or converted on the way, one sentence each."""
    stream_state: Any = field(default=None, repr=False, compare=False)
    """A format strategy's own notes while a stream runs; None afterwards."""

    def __repr__(self) -> str:
        return (
            f"LLMProviderResponse({self.model_name!r}, {self.finish_reason!r}, "
            f"{_short(self.error_text or self.response_text)!r}{_origin(self.from_ledger)})"
        )

    @property
    def status(self) -> FinishReason:
        """`finish_reason` as a member."""
        return FinishReason.of(self.finish_reason)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _origin(from_ledger: bool) -> str:
    return ", from the ledger" if from_ledger else ""


N = TypeVar("N", int, float)


def _total(values: Iterable[N | None]) -> N | None:
    """The sum, or None where one addend (or all of them) is unknown."""
    addends = list(values)
    known = [value for value in addends if value is not None]
    return sum(known) if known and len(known) == len(addends) else None


@dataclass
class LLMModuleResult:
    """What a call of a module or a direct request gave."""

    model_name: str
    module_name: str | None
    request: LLMDirectRequest
    post_processor: str | None = None
    response_text: str = ""
    response_reasoning: str = ""
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    status: FinishReason = FinishReason.stop
    error_text: str | None = None
    request_params: dict[str, Any] = field(default_factory=dict)
    response_message: Message | None = None
    data: Any = None

    # beyond the specification
    responses: list[LLMProviderResponse] = field(default_factory=list)
    """The provider's responses of this call; several where ``format_retries`` asked again."""
    repaired: bool = False
    """True where a processor had to repair the text before it could be read (see `parse_json`)."""

    def __repr__(self) -> str:
        name = self.module_name or self.model_name
        return (
            f"LLMModuleResult({name!r}, {self.status.value!r}, "
            f"{_short(self.error_text or self.response_text)!r}{_origin(self.from_ledger)})"
        )

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens sent in all responses of the call; None where a vendor did not say."""
        return _total(r.prompt_tokens for r in self.responses)

    @property
    def completion_tokens(self) -> int | None:
        """Tokens received in all responses of the call; None where a vendor did not say."""
        return _total(r.completion_tokens for r in self.responses)

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens the vendor read from its cache."""
        return _total(r.cached_tokens for r in self.responses)

    @property
    def reasoning_tokens(self) -> int | None:
        """Completion tokens spent on reasoning."""
        return _total(r.reasoning_tokens for r in self.responses)

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        return _total(r.total_tokens for r in self.responses)

    @property
    def cost(self) -> float | None:
        """Money for all responses and attempts; None where a price is missing."""
        return _total(r.cost for r in self.responses)

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt of every response, in order."""
        return [a for r in self.responses for a in r.attempts]

    @property
    def from_ledger(self) -> bool:
        """True where every answer came from a ledger and the model was not asked."""
        return bool(self.responses) and all(r.from_ledger for r in self.responses)

    @property
    def exchange(self) -> Exchange | None:
        """The last exact request and response."""
        return self.responses[-1].exchange if self.responses else None

    @property
    def queue_time(self) -> float | None:
        """Seconds spent waiting for a free slot."""
        return _total(r.queue_time for r in self.responses)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from sending to the first fragment, of the last response."""
        return self.responses[-1].time_to_first_token if self.responses else None

    @property
    def total_response_time(self) -> float | None:
        """Seconds from first sending to the end, over all responses."""
        return _total(r.total_response_time for r in self.responses)

    @property
    def notes(self) -> list[str]:
        """What was left out or converted on the way."""
        return [n for r in self.responses for n in r.notes]

    @property
    def sync(self) -> Any:
        """The same names for code that does not await; tools run in worker threads."""
        return Sync(self)

    def raise_for_status(self) -> None:
        """Raise the error for a bad status.

        Raises:
            LLMError: The leaf of the tree that belongs to `status`, with this result attached.
        """
        self.status.raise_for_status(self.error_text, result=self)

    async def run_tool_calls(
        self, fn_map: dict[str, Callable[..., Any]], *, raise_errors: bool = False
    ) -> LLMDirectRequest | None:
        """Run the tools that the model called and build the request that carries on.

        Args:
            fn_map: Tool name to function, sync or async; called with the model's arguments as
                keywords, one after the other, in the model's order.
            raise_errors: Let a tool's exception travel to the caller. Otherwise an exception, an
                unknown tool and broken arguments are told to the model in the tool message.

        Returns:
            The follow-up request with the assistant's message and one tool message per call, or
            None where the model called no tool.

        Raises:
            LLMError: The status is bad (`raise_for_status`).
        """
        self.raise_for_status()
        if not self.tool_calls:
            return None
        answers = [await _answer_tool_call(call, fn_map, raise_errors) for call in self.tool_calls]
        assistant = self.response_message or Message(
            role="assistant", content=self.response_text, tool_calls=list(self.tool_calls)
        )
        messages = [*self.request.messages, assistant, *answers]
        return self.request._replace(messages=messages)


async def _answer_tool_call(
    call: ToolCall, fn_map: dict[str, Callable[..., Any]], raise_errors: bool
) -> Message:
    try:
        content = _as_text(await _run_tool(call, fn_map))
    except Exception as exc:
        if raise_errors:
            raise
        content = f"Error: {type(exc).__name__}: {exc}"
    return Message(role="tool", content=content, tool_call_id=call.id)


async def _run_tool(call: ToolCall, fn_map: dict[str, Callable[..., Any]]) -> Any:
    if call.name not in fn_map:
        hint = did_you_mean(call.name, fn_map)
        raise LLMApplicationError(f"there is no tool named {call.name!r}; {hint}")
    if call.arguments is None:
        raise LLMApplicationError(
            f"the arguments of {call.name!r} are no JSON object: {_short(call.arguments_text)}"
        )
    return await call_user_function(fn_map[call.name], **call.arguments)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    import msgspec

    return msgspec.json.encode(value, enc_hook=str).decode()
