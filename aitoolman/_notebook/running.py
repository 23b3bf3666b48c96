"""One call of a module, shown in the cell while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from .._application.outputs import find_sink
from .._datamodel import LLMError
from .._transport.channels import TextFragmentChannel
from .._transport.xml_filter import XmlTagToChannelFilter
from .status import failure_of, result_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._application.app import LLMApplication
    from .._datamodel import LLMModuleResult
    from .._transport.channel_base import Channel

__all__ = ["Outputs", "run_shown"]


class Outputs(NamedTuple):
    """Where one call writes, and what of it is shown."""

    output: Any
    reasoning: Any
    shown: dict[str, Channel[Any]]


def private_outputs(app: LLMApplication, name: str) -> Outputs:
    """Channels of this call alone, so that nothing left over from other calls is shown with it.

    A module that writes through an XML filter has one channel per tag; what writes to an object of
    the user's own goes there as well.
    """
    config = app[name].config
    sink = find_sink(config.output_channel, app.channels)
    reasoning = find_sink(config.reasoning_channel, app.channels)
    shown: dict[str, Channel[Any]] = {}
    thoughts = None
    if reasoning is not None:
        thoughts = shown["reasoning"] = TextFragmentChannel()
    if type(sink) is XmlTagToChannelFilter:
        return Outputs(_private_filter(app, sink, shown), thoughts, shown)
    answer = shown["answer"] = TextFragmentChannel()
    plain = sink is None or isinstance(sink, TextFragmentChannel)
    return Outputs(answer if plain else _Both(answer, sink), thoughts, shown)


def _private_filter(app: LLMApplication, sink: Any, shown: dict[str, Any]) -> XmlTagToChannelFilter:
    names = {id(channel): name for name, channel in app.channels.items()}
    default: Any = None
    tags: dict[str, Any] = {}
    for tag, channel in sink._sinks.items():
        label = names.get(id(channel)) or tag or "text"
        target = shown.setdefault(label, TextFragmentChannel())
        if tag is None:
            default = target
        else:
            tags[tag] = target
    return XmlTagToChannelFilter(default, tags)


class _Both:
    """Writes to the view and to the user's own sink."""

    def __init__(self, view: TextFragmentChannel, sink: Any) -> None:
        self._view = view
        self._sink = sink

    async def write(self, message: str | None) -> None:
        self._view.write_nowait(message)
        await self._sink.write(message)


async def run_shown(
    app: LLMApplication, name: str, params: Mapping[str, Any], make_collector: Any
) -> LLMModuleResult:
    """Call a module and show it; everything is shown when this returns.

    Raises:
        LLMApplicationError: The caller's mistake; nothing was sent and nothing is shown.
        asyncio.CancelledError: The request is ended; the text so far stays.
    """
    module = app[name]
    outputs = private_outputs(app, name)
    module.render(**params)  # a mistake raises here, before anything is shown
    collector = make_collector(outputs.shown)
    listening = asyncio.create_task(collector.start_listening())
    try:
        result = await module(
            **params, _output_channel=outputs.output, _reasoning_channel=outputs.reasoning or ""
        )
        _conclude(collector, result_status(result), failure_of(result))
    except LLMError as exc:
        _conclude(collector, "", str(exc))
        raise
    finally:
        collector.close()
        await asyncio.wait([listening])
    listening.result()
    return result


def _conclude(collector: Any, status: str, error: str | None) -> None:
    if hasattr(collector, "conclude"):
        collector.conclude(status, error)
