"""Writes docs/api.md from the public names and their docstrings: ``python -m tests.api_page``."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from pathlib import Path
from typing import Any

import aitoolman
import aitoolman.postprocess

PAGE = Path(__file__).parent.parent / "docs" / "api.md"

SECTIONS = {
    "Start": ["connect", "load_config", "load_config_str", "show"],
    "Application": ["LLMApplication", "LLMModuleRequest", "LLMDirectRequest", "LLMModuleResult"],
    "Workflow": ["LLMWorkflow", "Task", "LLMTask", "TaskStatus"],
    "Messages": ["Message", "MediaContent", "ToolCall"],
    "Clients": ["LLMClient", "LLMLocalClient", "LLMLedgerClient", "LLMScriptedClient"],
    "Channels": ["Channel", "TextFragmentChannel", "ChannelCollector"],
    "Providers": ["LLMProviderManager", "LLMProviderRequest", "LLMProviderResponse"],
    "Errors": ["FinishReason"],
}
HOMES = {
    "_application": "Application",
    "_workflow": "Application",
    "_ledger": "Clients",
    "_provider": "Providers",
    "_batch": "Dataframes",
    "_notebook": "Notebook",
    "_service": "Clients",
    "zmqclient": "Clients",
}


def page() -> str:
    """The whole page."""
    parts = [
        "# API\n\nEvery public name of `aitoolman`, with its own words. This page is generated:"
        " `python -m tests.api_page`.\n"
    ]
    for title, names in sections().items():
        parts.append(f"## {title}\n")
        parts += [entry(name, getattr(aitoolman, name)) for name in names]
    parts.append("## aitoolman.postprocess\n")
    module = aitoolman.postprocess
    parts += [entry(f"postprocess.{name}", getattr(module, name)) for name in module.__all__]
    return "\n".join(parts)


def sections() -> dict[str, list[str]]:
    """Each public name in one section, those named above first."""
    placed = {name: title for title, names in SECTIONS.items() for name in names}
    found = {title: list(names) for title, names in SECTIONS.items()}
    for name in aitoolman.__all__:
        value = getattr(aitoolman, name)
        if name in placed or name.startswith("__") or inspect.ismodule(value):
            continue
        found.setdefault(section_of(value), []).append(name)
    return found


def section_of(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, Exception):
        return "Errors"
    parts = getattr(value, "__module__", "").split(".")
    if "_transport" in parts:
        return "Clients" if "client" in value.__name__.lower() else "Channels"
    return next((HOMES[part] for part in parts if part in HOMES), "Values")


def entry(name: str, value: Any) -> str:
    lines = [f"### `{name}`\n", "```text", f"{name}{signature(value)}", "```\n", doc(value), ""]
    if isinstance(value, type):
        lines += members(value)
    return "\n".join(lines)


def signature(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, (Exception, enum.Enum)):
        return ""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    text = _tidy(str(found))
    if len(text) < 80:
        return text
    lines = "".join(f"    {_tidy(part)},\n" for part in _parameters(found))
    end = "" if found.return_annotation is found.empty else f" -> {found.return_annotation!r}"
    return f"(\n{lines}){_tidy(end)}"


def _parameters(found: inspect.Signature) -> list[str]:
    parts, starred = [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parts.append(str(parameter))
    return parts


def _tidy(text: str) -> str:
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return re.sub(r"<factory>|<[^<>]* at 0x\w+>", "...", text)


def doc(value: Any) -> str:
    """The docstring, its Google-style headings in bold."""
    text = inspect.getdoc(value) or ""
    if text.startswith(f"{getattr(value, '__name__', '')}("):
        return ""  # what a NamedTuple or dataclass writes by itself
    text = re.sub(r"^(Args|Attributes|Raises|Returns|Yields):$", r"\n**\1**\n", text, flags=re.M)
    text = re.sub(r"^    (\w[\w ,.]*):\s", r"- `\1`: ", text, flags=re.M)
    return re.sub(r"^ {8}(?=\S)", "  ", text, flags=re.M).replace("``", "`")


def members(kind: type) -> list[str]:
    """One line for each public method and property that the class defines itself."""
    if dataclasses.is_dataclass(kind) or issubclass(kind, (tuple, Exception, enum.Enum)):
        candidates = [
            (n, m)
            for n, m in vars(kind).items()
            if inspect.isfunction(m) or isinstance(m, property)
        ]
    else:
        candidates = list(vars(kind).items())
    lines = []
    for name, member in candidates:
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        if first:
            call = "" if isinstance(member, property) else "()"
            lines.append(f"- `.{name}{call}`: {first}".replace("``", "`"))
    return [*lines, ""] if lines else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
