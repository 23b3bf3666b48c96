"""A model's text as Markdown that is safe to keep in a notebook.

What a model writes is shown with its Markdown, and can do nothing else: no ``<`` of it ever reaches
a page as markup, no picture is fetched, nothing closes the fold it stands in. All code is put into
``<code>`` and ``<pre>`` by us, escaped as HTML, so that nothing depends on whether a renderer and
this module agree where code begins.
"""

from __future__ import annotations

import html
import re

__all__ = ["MAX_REASONING", "answer_markdown", "fold", "safe_markdown"]

MAX_REASONING = 20_000
"""Characters of reasoning that are kept in the notebook."""

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})[^\n]*\n(.*?)(?:^ {0,3}\2[`~]* *$\n?|\Z)", re.M | re.S)
_SPAN = re.compile(r"(?<![`\\])(`+)(?!`)([^\n]+?)(?<!`)\1(?!`)")
_PRE = "margin:4px 0;padding:6px 8px;background:var(--jp-layout-color2,rgba(128,128,128,.1))"
_MARKS = re.compile(r"[\\`*_{}\[\]()#+\-.!|~$:@]")


def safe_markdown(text: str) -> str:
    """`text` with its Markdown, everything else in it escaped."""
    parts = []
    position = 0
    for found in _FENCE.finditer(text):
        parts.append(_prose(text[position : found.start()]))
        parts.append(_pre(found[3]))
        position = found.end()
    parts.append(_prose(text[position:]))
    return "".join(parts)


def answer_markdown(text: str) -> str:
    """An answer: data as it stands, prose with its Markdown."""
    stripped = text.strip()
    return _pre(text) if stripped[:1] in ("{", "[", "<") else safe_markdown(text)


def fold(summary: str, inside: str) -> str:
    """A folded section; `inside` is Markdown that is safe already."""
    return f"<details><summary>{html.escape(summary)}</summary>\n\n{inside}\n\n</details>\n\n"


def _pre(code: str) -> str:
    # Entities for Markdown's own signs too: some renderers look for them even in here.
    # A blank line would end the block in others, so line ends are written as entities as well.
    shown = html.escape(code.rstrip("\n"), quote=False).replace("\n", "&#10;")
    return f'\n\n<pre style="{_PRE}"><code style="background:none">{_coded(shown)}</code></pre>\n\n'


def _coded(escaped: str) -> str:
    entities = re.split(r"(&#?\w+;)", escaped)
    return "".join(
        part if index % 2 else _MARKS.sub(lambda m: f"&#{ord(m[0])};", part)
        for index, part in enumerate(entities)
    )


def _prose(text: str) -> str:
    parts = []
    position = 0
    for found in _SPAN.finditer(text):
        parts.append(_plain(text[position : found.start()]))
        code = _coded(html.escape(found[2].strip(), quote=False))
        parts.append(f"<code>{code}</code>")
        position = found.end()
    parts.append(_plain(text[position:]))
    return _hard_breaks("".join(parts))


def _plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("![", "&#33;[")
    # Money is no formula: a dollar sign in a tag of its own does not start one.
    return re.sub(r"\$(?=\d)", "<span>$</span>", text)


def _hard_breaks(text: str) -> str:
    """Line ends within a paragraph stay line ends."""
    return re.sub(r"(?<=\S)\n(?=[^\n])", "  \n", text)
