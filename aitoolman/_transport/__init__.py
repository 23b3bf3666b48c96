"""Transport: how requests travel to a model and streamed text travels back.

Other layers use the clients (`LLMClient`, `LLMLocalClient`, `LLMScriptedClient`), the channels with
their collectors, the XML filters, and `show`.
"""

from __future__ import annotations

from .channels import Channel, ChannelStatistics, MessageWriter, TextFragmentChannel, open_writer

__all__ = [
    "Channel",
    "ChannelStatistics",
    "MessageWriter",
    "TextFragmentChannel",
    "open_writer",
]
