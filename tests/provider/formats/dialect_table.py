"""Writes docs/dialects.md from the data: ``python -m tests.provider.formats.dialect_table``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from aitoolman._provider.formats.dialect import Dialect, Fact, quirk_doc, quirk_names
from aitoolman._provider.formats.dialects import DIALECTS

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "dialects.md"

_HEAD = """\
# Dialects

Vendors that share a format differ in details. Each difference is a *quirk*: one value in a table,
which an `[api]` entry chooses by `dialect = "..."` or by the host of its `url`, and overrides key
by key:

```toml
[api."my-server"]
url = "http://10.0.0.5:8000/v1/chat/completions"
model = "qwen3-32b"
dialect = "vllm"
quirks = { think_tags = "opened", stream_usage = false }
```

Whatever is left out or converted for a vendor stands in the `notes` of the response. Reading is
generous in every dialect: null in place of lists, tool calls without `index`, reasoning under two
names and usage in any chunk are understood always.

This page is generated from the data (`python -m tests.provider.formats.dialect_table`).
**Unproved** marks a value for which neither a page of the vendor nor an issue was found.
`owner/repo#N` is an issue or pull request on GitHub.
"""


def render() -> str:
    """The whole page."""
    parts = [_HEAD, _meanings(), "## The dialects\n", _overview()]
    parts += [_section(d) for d in DIALECTS.values() if d.evidence]
    return "\n".join(parts)


def _meanings() -> str:
    generic = DIALECTS["generic"]
    rows = [(f"`{n}`", quirk_doc(n), _shown(getattr(generic, n))) for n in quirk_names()]
    return "## The quirks\n\n" + _table(("quirk", "meaning", "generic"), rows)


def _overview() -> str:
    rows = [(f"`{d.name}`", f"`{d.format}`", _hosts(d)) for d in DIALECTS.values()]
    return _table(("dialect", "`type`", "recognized by"), rows)


def _hosts(dialect: Dialect) -> str:
    if dialect.name == "generic":
        return "every other OpenAI-compatible URL"
    known = [f"port {h[1:]}" if h.startswith(":") else f"`{h}`" for h in dialect.hosts]
    if dialect.name == "llamacpp":
        known.append('`type = "llamacpp"`')
    if dialect.name == "anthropic":
        known.append('every other URL of `type = "anthropic"`')
    return ", ".join(known) or "its name only"


def _section(dialect: Dialect) -> str:
    names = [n for n in quirk_names() if n in dialect.evidence]
    rows = [(f"`{n}`", _shown(getattr(dialect, n)), _source(dialect.evidence[n])) for n in names]
    return f"## {dialect.name}\n\n" + _table(("quirk", "value", "source"), rows)


def _source(fact: Fact) -> str:
    text = re.sub(r"(https://[^\s,()]+)", r"<\1>", fact.source)
    return text if fact.proved else f"**unproved**: {text}"


def _shown(value: Any) -> str:
    if value in ((), {}, None, ""):
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"`{v}`" for v in value)
    return f"`{json.dumps(value) if isinstance(value, (dict, bool)) else value}`".replace(
        "|", r"\|"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
