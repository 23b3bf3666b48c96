"""Program with large language models as normal workers.

You write every prompt, every data flow and every branch; the model does one small, clear job at a
time. Start with `connect`, `LLMApplication` and ``app["module"](...)``; see docs/ and notebooks/.

Names load on first use, so that ``import aitoolman`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import postprocess
    from ._application.app import LLMApplication
    from ._config import load_config, load_config_str
    from ._connect import connect
    from ._datamodel import (
        Attempt,
        CallInfo,
        Exchange,
        FinishReason,
        GenericError,
        LLMApiRequestError,
        LLMApplicationError,
        LLMCancelledError,
        LLMConfigError,
        LLMContentFilterError,
        LLMDirectRequest,
        LLMError,
        LLMLengthLimitError,
        LLMModuleRequest,
        LLMModuleResult,
        LLMProviderRequest,
        LLMProviderResponse,
        LLMResponseFormatError,
        LLMUnknownError,
        LLMUnknownNameError,
        LLMWorkflowError,
        MediaContent,
        Message,
        ModelDescription,
        RequestPreview,
        TaskDependencyError,
        ToolCall,
    )
    from ._provider.formats import (
        AnthropicFormat,
        LLMFormatStrategy,
        OpenAICompatibleFormat,
        StreamEvent,
        register_format,
    )
    from ._provider.manager import LLMProviderManager, RequestTask
    from ._provider.resources import ResourceManager
    from ._transport.channels import Channel, TextFragmentChannel
    from ._transport.client import LLMClient
    from ._transport.collectors import ChannelCollector, DefaultTextChannelCollector
    from ._transport.local import LLMLocalClient
    from ._transport.scripted import LLMScriptedClient, ScriptedReply
    from ._transport.show import show
    from ._transport.xml_filter import BaseXmlTagFilter, XmlTagToChannelFilter

__version__ = "0.1.0"

_PUBLIC = {
    "_application.app": ["LLMApplication"],
    "_config": ["load_config", "load_config_str"],
    "_connect": ["connect"],
    "_datamodel": [
        "Attempt",
        "CallInfo",
        "Exchange",
        "FinishReason",
        "GenericError",
        "LLMApiRequestError",
        "LLMApplicationError",
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
        "RequestPreview",
        "TaskDependencyError",
        "ToolCall",
    ],
    "_provider.formats": [
        "AnthropicFormat",
        "LLMFormatStrategy",
        "OpenAICompatibleFormat",
        "StreamEvent",
        "register_format",
    ],
    "_provider.manager": ["LLMProviderManager", "RequestTask"],
    "_provider.resources": ["ResourceManager"],
    "_transport.channels": ["Channel", "TextFragmentChannel"],
    "_transport.client": ["LLMClient"],
    "_transport.collectors": ["ChannelCollector", "DefaultTextChannelCollector"],
    "_transport.local": ["LLMLocalClient"],
    "_transport.scripted": ["LLMScriptedClient", "ScriptedReply"],
    "_transport.show": ["show"],
    "_transport.xml_filter": ["BaseXmlTagFilter", "XmlTagToChannelFilter"],
}
_HOME_OF = {name: module for module, names in _PUBLIC.items() for name in names}
_SUBMODULES = ["postprocess"]

__all__ = [  # noqa: PLE0604 - the one list of public names is the table above
    *sorted([*_HOME_OF, *_SUBMODULES]),
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value  # the next access finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
