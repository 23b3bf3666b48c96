"""Transport: how requests travel to a model and streamed text travels back.

Other layers use the clients (`LLMClient`, `LLMLocalClient`, `LLMScriptedClient`), the channels with
their collectors, the XML filters, and `show`.
"""

from __future__ import annotations

from .channels import Channel, ChannelStatistics, MessageWriter, TextFragmentChannel, open_writer
from .collectors import ChannelCollector, DefaultTextChannelCollector
from .show import ShowFactory, set_show_factory, show
from .xml_filter import BaseXmlTagFilter, XmlTagToChannelFilter

__all__ = [
    "BaseXmlTagFilter",
    "Channel",
    "ChannelCollector",
    "ChannelStatistics",
    "DefaultTextChannelCollector",
    "MessageWriter",
    "ShowFactory",
    "TextFragmentChannel",
    "XmlTagToChannelFilter",
    "open_writer",
    "set_show_factory",
    "show",
]
