"""A ``%%llm_module`` cell as a module's table."""

from __future__ import annotations

import re
from typing import Any

from .._config import load_config_str
from .arguments import usage, without_line_end

__all__ = ["module_table"]

_FRONT = re.compile(r"\A\s*\+\+\+[ \t]*\r?\n(.*?)^\+\+\+[ \t]*(?:\r?\n|\Z)", re.M | re.S)
_OPENED = re.compile(r"\A\s*\+\+\+[ \t]*\r?\n")


def module_table(cell: str, options: Any) -> dict[str, Any]:
    """The table that stands for the same module in a prompt file.

    Args:
        cell: The body: the user template, below TOML between two lines of ``+++`` if there is any.
        options: ``model``, ``system``, ``output`` and ``tools`` of the magic's line; they win.

    Raises:
        LLMConfigError: The TOML part is none.
        UsageError: There is no prompt, or the TOML part has no end.
    """
    found = _FRONT.match(cell)
    if found is None and _OPENED.match(cell):
        raise usage("the second line of +++ is missing: TOML goes between two of them")
    table: dict[str, Any] = dict(load_config_str(found[1])) if found else {}
    prompt = cell[found.end() :] if found else cell
    if not prompt.strip():
        raise usage("the prompt is missing: it is the body of the cell")
    template = dict(table.get("template") or {})
    if "user" in template:
        raise usage("template.user stands in the +++ part, and the body is the user template")
    table["template"] = template | {"user": without_line_end(prompt)}
    if options.system is not None:
        table["template"]["system"] = options.system
    if options.model is not None:
        table["model"] = options.model
    if options.output is not None:
        table["post_processor"] = options.output
    if options.tools:
        table["tools"] = {**table.get("tools", {}), **{name: {} for name in options.tools}}
    return table
