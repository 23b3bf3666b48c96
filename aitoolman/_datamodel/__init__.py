"""The words that all layers share: messages, requests, results, errors. No I/O happens here."""

from __future__ import annotations

from .callinfo import CallInfo, current_call, use_call
from .errors import (
    ConfigProblem,
    FinishReason,
    GenericError,
    LLMApiRequestError,
    LLMApplicationError,
    LLMBatchError,
    LLMCancelledError,
    LLMConfigError,
    LLMContentFilterError,
    LLMError,
    LLMLengthLimitError,
    LLMResponseFormatError,
    LLMUnknownError,
    LLMUnknownNameError,
    LLMWorkflowError,
    TaskDependencyError,
    did_you_mean,
    near_names,
)
from .messages import MediaContent, Message, ToolCall
from .requests import LLMDirectRequest, LLMModuleRequest, LLMProviderRequest, Output, TextSink
from .results import (
    Attempt,
    Exchange,
    LLMModuleResult,
    LLMProviderResponse,
    ModelDescription,
    RequestPreview,
)

__all__ = [
    "Attempt",
    "CallInfo",
    "ConfigProblem",
    "Exchange",
    "FinishReason",
    "GenericError",
    "LLMApiRequestError",
    "LLMApplicationError",
    "LLMBatchError",
    "LLMCancelledError",
    "LLMConfigError",
    "LLMContentFilterError",
    "LLMDirectRequest",
    "LLMError",
    "LLMLengthLimitError",
    "LLMModuleRequest",
    "LLMModuleResult",
    "LLMProviderRequest",
    "LLMProviderResponse",
    "LLMResponseFormatError",
    "LLMUnknownError",
    "LLMUnknownNameError",
    "LLMWorkflowError",
    "MediaContent",
    "Message",
    "ModelDescription",
    "Output",
    "RequestPreview",
    "TaskDependencyError",
    "TextSink",
    "ToolCall",
    "current_call",
    "did_you_mean",
    "near_names",
    "use_call",
]
