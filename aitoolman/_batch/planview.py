"""A plan as text and as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from .words import count, money, plural

if TYPE_CHECKING:
    from .._datamodel import Message
    from .estimate import Range
    from .plan import Plan

__all__ = ["plan_facts", "plan_html", "plan_text"]

_TEXT_SHOWN = 600


def plan_facts(plan: Plan) -> list[tuple[str, str]]:
    """What a plan shows, as name and sentence."""
    expected = plan.estimate
    return [
        ("rows", _rows(plan)),
        *_problems(plan),
        ("variables", _variables(plan)),
        ("model", plan.model_name),
        (
            "tokens",
            f"{_tokens(expected.prompt_tokens)} in, {_range(expected.completion_tokens)} out",
        ),
        ("cost", _money_range(expected.cost)),
        ("time", expected.advice),
        ("ledger", _ledger(plan)),
        *[("note", note) for note in plan.binding.notes],
    ]


def _rows(plan: Plan) -> str:
    survey, done = plan.survey, plan.state.settled
    if survey.rows is None:
        counted = f"; {done:,} done" if done else ""
        return f"unknown (an iterator): counted while they run{counted}"
    parts = [
        plural(survey.duplicates, "duplicate") if survey.duplicates else "",
        f"{survey.answered:,} already answered" if survey.answered else "",
        f"{survey.missing:,} with missing values ({plan.maker.missing})" if survey.missing else "",
        f"{survey.unrenderable:,} that cannot be rendered" if survey.unrenderable else "",
        f"{done:,} done" if done else "",
        f"{plan.left_to_send:,} to send",
    ]
    return f"{plural(survey.rows, 'row')}: {', '.join(filter(None, parts))}"


def _problems(plan: Plan) -> list[tuple[str, str]]:
    return [("", problem) for problem in plan.survey.problems]


def _variables(plan: Plan) -> str:
    binding = plan.binding
    parts = [f"{variable} = column {column!r}" for variable, column in binding.columns.items()]
    used = plan.maker.frozen.module.module.variables
    parts += [
        f"{name} = {_short(repr(value), 60)}"
        for name, value in binding.constants.items()
        if name in used and name not in binding.columns
    ]
    parts += [f"{name}: the template's default" for name in binding.unfilled]
    return ", ".join(parts) or "none"


def _tokens(number: float | None) -> str:
    return "unknown" if number is None else f"about {count(number)}"


def _range(numbers: Range) -> str:
    low, expected, high = map(count, numbers)
    if numbers.expected is None:
        return "unknown" if numbers.high is None else f"unknown (at most {high})"
    return f"about {expected} (from {low} to {high})"


def _money_range(numbers: Range) -> str:
    low, expected, high = map(money, numbers)
    if numbers == (None, None, None):
        return "unknown"
    return f"low {low}, expected {expected}, high {high}"


def _ledger(plan: Plan) -> str:
    mode = plan.ledger_mode
    path = plan.ledger or plan.app.client.ledger_path
    if mode == "off":
        return "off: answers are lost with this process, duplicates are sent again"
    if mode in ("read_write", "replay"):
        return mode if path is None else f"{path} ({mode})"
    return f"{path} ({mode}: no answer is reused, so a new process starts anew)"


def _short(text: str, limit: int = _TEXT_SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def _title(plan: Plan) -> str:
    begun = "it has run" if plan.state.settled else "nothing is sent yet"
    return f"Plan of {plan.module_name!r} over {plan.source.kind} rows; {begun}"


def plan_text(plan: Plan) -> str:
    """The plan for a terminal."""
    lines = [_title(plan)]
    lines += [f"  {name:<10} {sentence}" for name, sentence in plan_facts(plan)]
    for position, messages in plan.samples()[:1]:
        lines.append(f"Row {position} as it is sent:")
        for message in messages:
            content = _short(message.content or "").replace("\n", "\n      ")
            lines.append(f"  [{message.role}] {content}")
    return "\n".join(lines)


def plan_html(plan: Plan) -> str:
    """The plan for a notebook, everything in it escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(sentence)}</td></tr>"
        for name, sentence in plan_facts(plan)
    )
    samples = "".join(
        f"<details><summary>Row {position} as it is sent</summary>"
        + "".join(map(_message_html, messages if n == 0 else messages[-1:]))
        + "</details>"
        for n, (position, messages) in enumerate(plan.samples())
    )
    return f"<b>{html.escape(_title(plan))}</b><table>{rows}</table>{samples}"


def _message_html(message: Message) -> str:
    text = html.escape(_short(message.content or ""))
    return f"<b>{html.escape(message.role or '')}</b><pre>{text}</pre>"
