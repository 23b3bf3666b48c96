"""Data interface: vendors' formats, queues and limits, retries, the embedded model.

Other layers use `LLMProviderManager`, `ResourceManager`, the format strategies, `ReplyWriter` and
`estimate_tokens`.
"""
