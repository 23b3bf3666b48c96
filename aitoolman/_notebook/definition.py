"""A ``%%llm_module`` cell as a module's table."""

from __future__ import annotations

import re
from typing import Any

from .._config import load_config_str
from .arguments import usage

__all__ = ["module_table"]

_FRONT = re.compile(r"\A\s*\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.M | re.S)


def module_table(cell: str, options: Any) -> dict[str, Any]:
    """The table that stands for the same module in a prompt file.

    Args:
        cell: The body: the user template, below TOML between two lines of ``+++`` if there is any.
        options: ``model``, ``system``, ``output`` and ``tools`` of the magic's line; they win.

    Raises:
        LLMConfigError: The TOML part is none.
        UsageError: There is no prompt.
    """
    found = _FRONT.match(cell)
    table: dict[str, Any] = dict(load_config_str(found[1])) if found else {}
    prompt = cell[found.end() :] if found else cell
    if not prompt.strip():
        raise usage("the prompt is missing: it is the body of the cell")
    template = dict(table.get("template") or {})
    if "user" in template:
        raise usage("template.user stands in the +++ part, and the body is the user template")
    table["template"] = template | {"user": prompt.removesuffix("\n")}
    if options.system is not None:
        table["template"]["system"] = options.system
    if options.model is not None:
        table["model"] = options.model
    if options.output is not None:
        table["post_processor"] = options.output
    if options.tools:
        table["tools"] = {**table.get("tools", {}), **{name: {} for name in options.tools}}
    return table
