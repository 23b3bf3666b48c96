"""One vendor format per file; quirks of vendors that share a format are data, in `vendors`.

The provider's manager uses `make_format`, `classify` and the contract in `base`; applications may
register a format of their own with `register_format`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import LLMFormatStrategy, StreamEvent, VendorError
from .registry import find_format, format_names, make_format, register_format

if TYPE_CHECKING:
    from .anthropic import AnthropicFormat
    from .dialects import DIALECTS, Dialect, dialect_problems
    from .errors import classify, parse_error_body
    from .openai import OpenAICompatibleFormat

__all__ = [
    "DIALECTS",
    "AnthropicFormat",
    "Dialect",
    "LLMFormatStrategy",
    "OpenAICompatibleFormat",
    "StreamEvent",
    "VendorError",
    "classify",
    "dialect_problems",
    "find_format",
    "format_names",
    "make_format",
    "parse_error_body",
    "register_format",
]

# Loaded when first asked for: `import aitoolman` needs none of them.
_LAZY = {
    "AnthropicFormat": "anthropic",
    "DIALECTS": "dialects",
    "Dialect": "dialects",
    "OpenAICompatibleFormat": "openai",
    "classify": "errors",
    "dialect_problems": "dialects",
    "parse_error_body": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
