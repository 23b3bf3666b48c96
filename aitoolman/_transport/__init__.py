"""Transport: how requests travel to a model and streamed text travels back.

Other layers use the clients (`LLMClient`, `LLMLocalClient`, `LLMScriptedClient`), the channels with
their collectors, and the XML filters.
"""
