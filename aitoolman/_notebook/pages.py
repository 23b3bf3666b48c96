"""What each kind of value looks like in a notebook."""

from __future__ import annotations

import base64
import dataclasses
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._config import defaults
from .._secrets import mask_url
from .page import block, chip, cut, dim, fold, json_text, pairs, raw_block, table, text
from .status import failure_of, result_facts, status_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .._application.app import LLMApplication
    from .._application.module import Module
    from .._datamodel import (
        Attempt,
        Exchange,
        LLMError,
        LLMModuleResult,
        MediaContent,
        Message,
        RequestPreview,
        ToolCall,
    )

__all__ = [
    "application_page",
    "error_page",
    "media_page",
    "message_page",
    "messages_page",
    "module_page",
    "preview_page",
    "result_page",
]

THUMBNAIL_BYTES = 200_000
"""Pictures up to this size are shown; others are described."""

_MARK = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.S)
_ROLE_TONE = {"system": "odd", "assistant": "good"}


# Results


def result_page(result: LLMModuleResult) -> str:
    """The answer, and everything about it folded below."""
    bad = result.status.is_error
    name = result.module_name or "direct request"
    head = f"<b>{text(name)}</b> {chip(status_word(result), 'bad' if bad else 'good')}"
    facts = " · ".join([result.model_name, *result_facts(result)])
    parts = [f"<div>{head} {dim(facts)}</div>"]
    failure = failure_of(result)
    if failure is not None:
        parts.append(f"<div><b>{text(failure)}</b></div>")
    parts += _answer(result)
    if result.tool_calls:
        parts.append(_tool_calls(result.tool_calls))
    if result.response_reasoning:
        words = len(result.response_reasoning.split())
        parts.insert(1, fold(f"reasoning ({words} words)", block(result.response_reasoning)))
    parts += _background(result)
    return "".join(parts)


def _answer(result: LLMModuleResult) -> Iterator[str]:
    data, answer = result.data, result.response_text
    if data is None or data == answer:
        if answer:
            yield block(answer)
        return
    shown = data if isinstance(data, str) else json_text(_plain(data))
    yield block(shown)
    yield fold("answer as it came", block(answer))


def _plain(data: Any) -> Any:
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return dataclasses.asdict(data)
    dump = getattr(data, "model_dump", None)
    return dump(mode="json") if callable(dump) else data


def _tool_calls(calls: Iterable[ToolCall]) -> str:
    rows = [
        (f"<b>{text(c.name)}</b>", block(json_text(c.arguments) if c.arguments is not None
                                         else c.arguments_text))
        for c in calls
    ]  # fmt: skip
    return table(["tool", "arguments"], rows)


def _background(result: LLMModuleResult) -> Iterator[str]:
    if len(result.attempts) > 1 or any(a.outcome != "ok" for a in result.attempts):
        yield fold(f"{len(result.attempts)} attempts", _attempts(result.attempts))
    for note in result.notes:
        yield f"<div>{dim(note)}</div>"
    count = len(result.request.messages)
    yield fold(f"{count} messages sent", messages_page(result.request.messages))
    if result.exchange is not None:
        yield fold("request and response as they were", _exchange(result.exchange))


def _attempts(attempts: Iterable[Attempt]) -> str:
    rows = [
        (text(a.model_name), text(a.outcome), text(a.status or ""), f"{a.duration:.2f} s",
         f"{a.wait:.1f} s" if a.wait else "", text(a.reason))
        for a in attempts
    ]  # fmt: skip
    return table(["model", "outcome", "HTTP", "took", "then waited", "reason"], rows)


def _exchange(exchange: Exchange) -> str:
    headers = "\n".join(f"{k}: {v}" for k, v in exchange.request_headers.items())
    answer = "\n".join(f"{k}: {v}" for k, v in exchange.response_headers.items())
    return (
        block(f"POST {exchange.url}\n{headers}\n\n{cut(exchange.request_body)}")
        + block(f"HTTP {exchange.status}\n{answer}\n\n{cut(exchange.response_body)}")
    )  # fmt: skip


# Requests and messages


def preview_page(preview: RequestPreview) -> str:
    """The request as it would be sent."""
    facts = [("model", text(preview.model_name)), ("tokens", f"≈{preview.prompt_tokens}")]
    if preview.cost is not None:
        most = "" if preview.max_cost is None else f", at most {preview.max_cost:.6f}"
        facts.append(("cost", f"{preview.cost:.6f} for the prompt{most}"))
    if preview.url:
        facts.append(("URL", text(preview.url)))
    if preview.headers:
        shown = "\n".join(f"{k}: {v}" for k, v in preview.headers.items())
        facts.append(("headers", text(shown)))
    return (
        f"<div><b>Request, not sent</b></div>{pairs(facts)}"
        + messages_page(preview.messages)
        + fold("body", block(json_text(preview.body)))
    )


def messages_page(messages: Sequence[Message]) -> str:
    """Messages below one another."""
    return "".join(message_page(message) for message in messages)


def message_page(message: Message) -> str:
    """One message: role, text, media, tool calls."""
    role = message.role or (message.raw_value or {}).get("role") or "raw"
    parts = [f"<div>{chip(role, _ROLE_TONE.get(role, 'plain'))}</div>"]
    if message.reasoning_content:
        parts.append(fold("reasoning", block(message.reasoning_content)))
    if message.tool_call_id:
        parts.append(f"<div>{dim(f'answers {message.tool_call_id}')}</div>")
    if message.content:
        parts.append(block(message.content))
    parts += [media_page(media) for media in message.media]
    if message.tool_calls:
        parts.append(_tool_calls(message.tool_calls))
    if message.raw_value is not None:
        parts.append(fold("the vendor's own message", block(json_text(message.raw_value))))
    return "".join(parts)


def media_page(media: MediaContent) -> str:
    """A thumbnail of a small local picture, else what it is; nothing is fetched."""
    data, mime = _picture(media)
    if data is None:
        return f"<div>{dim(repr(media))}</div>"
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    style = "max-width:240px;max-height:160px;margin:2px 0"
    name = Path(media.filename).name if media.filename else f"{len(data)} bytes"
    return f'<div><img src="{source}" style="{style}"><br>{dim(f"{mime} {name}")}</div>'


_MIME = re.compile(r"image/(png|jpeg|gif|webp)")


def _picture(media: MediaContent) -> tuple[bytes | None, str]:
    mime = media.mime_type or mimetypes.guess_type(media.filename or "")[0] or ""
    if media.raw_value is not None or not _MIME.fullmatch(mime):
        return None, mime
    if media.data is not None:
        return (media.data if len(media.data) <= THUMBNAIL_BYTES else None), mime
    try:
        path = Path(media.filename or "")
        small = path.is_file() and path.stat().st_size <= THUMBNAIL_BYTES
        return (path.read_bytes() if small else None), mime
    except OSError:
        return None, mime


# Modules and applications


def module_page(module: Module) -> str:
    """A module's prompt with its variables marked, and its settings."""
    config = module.config
    names = " ".join(chip(name, "good") for name in module.variables) or dim("no variables")
    parts = [f"<div><b>{text(module.name)}</b> {dim(config.model or 'no model')} {names}</div>"]
    if config.description:
        parts.append(f"<div>{text(config.description)}</div>")
    if config.system_template is not None:
        parts.append(f"<div>{chip('system', 'odd')}</div>{marked(config.system_template)}")
    if config.examples:
        turns = "".join(
            block(e.user if isinstance(e.user, str) else json_text(dict(e.user)))
            + f"<div>{chip('assistant', 'good')}</div>{block(e.assistant)}"
            for e in config.examples
        )
        parts.append(fold(f"{len(config.examples)} examples", turns))
    parts.append(f"<div>{chip('user')}</div>{marked(config.user_template)}")
    settings = list(_settings(config))
    return "".join(parts) + (pairs(settings) if settings else "")


def _settings(config: Any) -> Iterator[tuple[str, str]]:
    if config.post_processor:
        yield "post-processor", text(config.post_processor)
    if config.format_retries:
        yield "format retries", text(config.format_retries)
    if config.tools:
        yield "tools", text(", ".join(config.tools))
    if config.options:
        yield "options", text(json_text(dict(config.options)))
    if config.output_channel != defaults.OUTPUT_CHANNEL:
        yield "output channel", text(config.output_channel or "none")


def marked(template: str) -> str:
    """A template's text with its variables and statements marked."""
    shown, parts, position = cut(template), list[str](), 0
    for found in _MARK.finditer(shown):
        parts.append(text(shown[position : found.start()]))
        parts.append(f'<b style="color:var(--jp-success-color1,#388e3c)">{text(found[0])}</b>')
        position = found.end()
    return raw_block("".join([*parts, text(shown[position:])]))


def application_page(app: LLMApplication) -> str:
    """Models, modules and what surrounds them; keys never show."""
    parts = [f"<div><b>{text(type(app).__name__)}</b> {dim(app.context_id)}</div>"]
    parts.append(_models(app))
    rows = [
        (f"<b>{text(name)}</b>", text(config.model or ""),
         " ".join(chip(v, "good") for v in app[name].variables), text(config.description, 200))
        for name, config in app.modules.items()
    ]  # fmt: skip
    if rows:
        parts.append(table(["module", "model", "variables", "description"], rows))
    else:
        parts.append(f"<div>{dim('no modules yet: define one with %%llm_module')}</div>")
    facts = [("client", text(type(app.client).__name__)), ("ledger", text(ledger_mode(app.client)))]
    if app.vars:
        facts.append(("vars", text(", ".join(app.vars))))
    if app.processors:
        facts.append(("processors", text(", ".join(app.processors))))
    return "".join(parts) + pairs(facts)


def _models(app: LLMApplication) -> str:
    config = getattr(_innermost(app.client), "config", None)
    entries: Mapping[str, Any] = getattr(config, "entries", None) or {}
    names = _aliases(app, config)
    rows = [
        (f"<b>{text(name)}</b>", text(entry.type), text(entry.model),
         text(mask_url(entry.url) if entry.url else ""), text(_key(entry)),
         text(", ".join(names.get(name, ()))))
        for name, entry in entries.items()
    ]  # fmt: skip
    return (
        table(["model", "type", "vendor model", "URL", "key", "also called"], rows) if rows else ""
    )


def _aliases(app: LLMApplication, config: Any) -> dict[str, list[str]]:
    """The other names of each model."""
    found: dict[str, list[str]] = {}
    for alias, targets in (getattr(config, "aliases", None) or {}).items():
        for target in [targets] if isinstance(targets, str) else targets:
            found.setdefault(target, []).append(alias)
    for alias, target in app._modules.config.aliases.items():
        found.setdefault(target, []).append(alias)
    return found


def _key(entry: Any) -> str:
    has_one = entry.api_key or any(
        n.lower() in ("authorization", "x-api-key") for n in entry.headers
    )
    return "***" if has_one else ""


def _innermost(client: Any) -> Any:
    """The client below the ledgers around it."""
    while not hasattr(client, "config") and hasattr(client, "client"):
        client = client.client
    return client


def ledger_mode(client: Any) -> str:
    """The mode and file of a client's ledger."""
    mode: str = client.ledger_mode
    return mode if client.ledger_path is None else f"{mode} {client.ledger_path}"


# Errors


def error_page(error: LLMError) -> str:
    """What went wrong, and the result it belongs to."""
    head = f"<div>{chip(type(error).__name__, 'bad')} <b>{text(error)}</b></div>"
    result = error.result
    return head + (result_page(result) if hasattr(result, "response_text") and
                   hasattr(result, "module_name") else "")  # fmt: skip
