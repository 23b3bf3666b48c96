"""Program with large language models as normal workers.

You write every prompt, every data flow and every branch; the model does one small, clear job at a
time. Start with `connect`, `LLMApplication` and ``app["module"](...)``; see docs/ and notebooks/.

Names load on first use, so that ``import aitoolman`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import postprocess as postprocess
    from . import zmqclient as zmqclient
    from ._application.app import LLMApplication as LLMApplication
    from ._batch.compare import compare as compare
    from ._batch.plan import Plan as Plan
    from ._batch.result import Batch as Batch
    from ._config import load_config as load_config
    from ._config import load_config_str as load_config_str
    from ._connect import connect as connect
    from ._datamodel import (
        Attempt as Attempt,
    )
    from ._datamodel import (
        CallInfo as CallInfo,
    )
    from ._datamodel import (
        Exchange as Exchange,
    )
    from ._datamodel import (
        FinishReason as FinishReason,
    )
    from ._datamodel import (
        GenericError as GenericError,
    )
    from ._datamodel import (
        LLMApiRequestError as LLMApiRequestError,
    )
    from ._datamodel import (
        LLMApplicationError as LLMApplicationError,
    )
    from ._datamodel import (
        LLMBatchError as LLMBatchError,
    )
    from ._datamodel import (
        LLMCancelledError as LLMCancelledError,
    )
    from ._datamodel import (
        LLMConfigError as LLMConfigError,
    )
    from ._datamodel import (
        LLMContentFilterError as LLMContentFilterError,
    )
    from ._datamodel import (
        LLMDirectRequest as LLMDirectRequest,
    )
    from ._datamodel import (
        LLMError as LLMError,
    )
    from ._datamodel import (
        LLMLengthLimitError as LLMLengthLimitError,
    )
    from ._datamodel import (
        LLMModuleRequest as LLMModuleRequest,
    )
    from ._datamodel import (
        LLMModuleResult as LLMModuleResult,
    )
    from ._datamodel import (
        LLMProviderRequest as LLMProviderRequest,
    )
    from ._datamodel import (
        LLMProviderResponse as LLMProviderResponse,
    )
    from ._datamodel import (
        LLMResponseFormatError as LLMResponseFormatError,
    )
    from ._datamodel import (
        LLMUnknownError as LLMUnknownError,
    )
    from ._datamodel import (
        LLMUnknownNameError as LLMUnknownNameError,
    )
    from ._datamodel import (
        LLMWorkflowError as LLMWorkflowError,
    )
    from ._datamodel import (
        MediaContent as MediaContent,
    )
    from ._datamodel import (
        Message as Message,
    )
    from ._datamodel import (
        ModelDescription as ModelDescription,
    )
    from ._datamodel import (
        RequestPreview as RequestPreview,
    )
    from ._datamodel import (
        TaskDependencyError as TaskDependencyError,
    )
    from ._datamodel import (
        ToolCall as ToolCall,
    )
    from ._ledger.client import LLMLedgerClient as LLMLedgerClient
    from ._ledger.reader import Ledger as Ledger
    from ._notebook.collector import NotebookChannelCollector as NotebookChannelCollector
    from ._notebook.nested import enable_nested_loops as enable_nested_loops
    from ._provider.formats import (
        AnthropicFormat as AnthropicFormat,
    )
    from ._provider.formats import (
        LLMFormatStrategy as LLMFormatStrategy,
    )
    from ._provider.formats import (
        OpenAICompatibleFormat as OpenAICompatibleFormat,
    )
    from ._provider.formats import (
        StreamEvent as StreamEvent,
    )
    from ._provider.formats import (
        register_format as register_format,
    )
    from ._provider.manager import LLMProviderManager as LLMProviderManager
    from ._provider.manager import RequestTask as RequestTask
    from ._provider.resources import ResourceManager as ResourceManager
    from ._transport.channels import Channel as Channel
    from ._transport.channels import TextFragmentChannel as TextFragmentChannel
    from ._transport.client import LLMClient as LLMClient
    from ._transport.collectors import ChannelCollector as ChannelCollector
    from ._transport.collectors import DefaultTextChannelCollector as DefaultTextChannelCollector
    from ._transport.local import LLMLocalClient as LLMLocalClient
    from ._transport.scripted import LLMScriptedClient as LLMScriptedClient
    from ._transport.scripted import ScriptedReply as ScriptedReply
    from ._transport.show import show as show
    from ._transport.xml_filter import BaseXmlTagFilter as BaseXmlTagFilter
    from ._transport.xml_filter import XmlTagToChannelFilter as XmlTagToChannelFilter
    from ._workflow.debug import DebugRun as DebugRun
    from ._workflow.history import WorkflowHistory as WorkflowHistory
    from ._workflow.steps import StepRecord as StepRecord
    from ._workflow.tasks import LLMTask as LLMTask
    from ._workflow.tasks import Task as Task
    from ._workflow.tasks import TaskStatus as TaskStatus
    from ._workflow.workflow import LLMWorkflow as LLMWorkflow
    from .zmqclient import LLMZmqClient as LLMZmqClient

__version__ = "0.9.0"

_PUBLIC = {
    "_batch.compare": ["compare"],
    "_batch.plan": ["Plan"],
    "_batch.result": ["Batch"],
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
        "RequestPreview",
        "TaskDependencyError",
        "ToolCall",
    ],
    "_ledger.client": ["LLMLedgerClient"],
    "_ledger.reader": ["Ledger"],
    "_notebook.collector": ["NotebookChannelCollector"],
    "_notebook.nested": ["enable_nested_loops"],
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
    "_workflow.debug": ["DebugRun"],
    "_workflow.history": ["WorkflowHistory"],
    "_workflow.steps": ["StepRecord"],
    "_workflow.tasks": ["LLMTask", "Task", "TaskStatus"],
    "_workflow.workflow": ["LLMWorkflow"],
    "zmqclient": ["LLMZmqClient"],
}
_HOME_OF = {name: module for module, names in _PUBLIC.items() for name in names}
_SUBMODULES = ["postprocess", "zmqclient"]

__all__ = [
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


def load_ipython_extension(ipython: Any) -> None:
    """What ``%load_ext aitoolman`` calls."""
    from ._notebook.extension import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """What ``%unload_ext aitoolman`` calls."""
    from ._notebook.extension import unload

    unload(ipython)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
