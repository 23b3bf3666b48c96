"""``aitoolman demo``: one streamed answer and a set of classified tickets, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import textwrap
import time
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from .._datamodel import FinishReason
from .console import Style, heading, shorten, styled, table, terminal_width

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import LLMApplication, LLMModuleResult, Message

__all__ = ["add_arguments", "label_of", "run"]

LABELS = {"payment": "billing", "crash": "bug", "login": "login", "question": "question"}
"""The words that the model answers with, and the labels that they stand for."""

QUESTION = "What does the support team of a software company do?"
DOCUMENTATION = "https://github.com/aitoolman/aitoolman"


class Answer(NamedTuple):
    """One ticket, what a person said about it, and what the model said."""

    text: str
    label: str
    result: LLMModuleResult

    @property
    def given(self) -> str:
        return self.result.data or "?"

    @property
    def right(self) -> bool:
        return self.given == self.label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "-n", "--tickets", type=_number, metavar="N", help="classify only the first N tickets"
    )


def _number(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("there has to be one ticket at least")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    tickets = _data("tickets.toml")["ticket"][: arguments.tickets]
    asyncio.run(_demo(tickets))
    return 0


def label_of(text: str) -> str:
    """The post-processor: the label that belongs to the model's word."""
    for word, label in LABELS.items():
        if word in text.lower():
            return label
    raise ValueError(f"the answer {text!r} has none of the words {', '.join(LABELS)}")


def _data(name: str) -> Any:
    from .. import load_config_str

    file = resources.files(__package__).joinpath("demo_data", name)
    return load_config_str(file.read_text(encoding="utf-8"))


async def _demo(tickets: list[dict[str, str]]) -> None:
    from .. import LLMApplication, connect

    print(f"aitoolman {__version__}: a small language model, run on this machine; no key needed.")
    prompts = _data("app_prompt.toml")
    async with connect("demo") as client:
        make_app = LLMApplication.factory(client, prompts, processors={"label": label_of})
        await _stream_one(make_app())
        begin = time.perf_counter()
        answers = await _classify(make_app, tickets)
        _show_answers(answers, time.perf_counter() - begin)
        if tickets:
            _show_prompt(make_app()["ticket_classifier"].render(text=tickets[0]["text"]))
    _show_next_steps()


async def _stream_one(app: LLMApplication) -> None:
    from .. import show

    heading("1. One answer, streamed")
    print(f'await app["answer"](question="{QUESTION}")\n', flush=True)
    async with show({"answer": app.channels["stdout"]}):
        result = await app["answer"](question=QUESTION)
    result.raise_for_status()
    first, whole = result.time_to_first_token or 0.0, result.total_response_time or 0.0
    said = f"{result.completion_tokens} tokens, the first after {first:.1f} s, all in {whole:.1f} s"
    print(styled(f"({said})", "dim"))


async def _classify(
    make_app: Callable[[], LLMApplication], tickets: list[dict[str, str]]
) -> list[Answer]:
    """All tickets at once; the client sends as many at a time as the model takes."""
    from tqdm import tqdm

    heading(f"2. {len(tickets)} support tickets, each through a module with examples")
    with tqdm(total=len(tickets), desc="classifying", unit="ticket", disable=None) as bar:

        async def classify(ticket: dict[str, str]) -> Answer:
            result = await make_app()["ticket_classifier"](text=ticket["text"])
            bar.update()
            return Answer(ticket["text"], ticket["label"], result)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(classify(ticket)) for ticket in tickets]
    answers = [task.result() for task in tasks]
    for answer in answers:
        if answer.result.status is not FinishReason.error_format:  # that is the model's own failure
            answer.result.raise_for_status()
    return answers


def _show_answers(answers: list[Answer], seconds: float) -> None:
    styles: list[Style | None] = [None if a.right else "red" for a in answers]
    titles = ("ticket", "model", "person", "", "seconds", "tokens")
    table(titles, [_row(a) for a in answers], styles, numbers=frozenset({4, 5}))
    for answer in answers:
        if answer.result.status.is_error:
            print(styled(f"{shorten(answer.text, 30)}  {answer.result.error_text}", "red"))
    right = sum(answer.right for answer in answers)
    verdict = styled(_verdict(right, len(answers)), "bold")
    print(f"\n{verdict} in {seconds:.1f} s: {_by_label(answers)}.\n{_HONEST}")


def _row(answer: Answer) -> tuple[str, ...]:
    result = answer.result
    mark = "" if answer.right else "wrong"
    seconds = f"{result.total_response_time or 0.0:.2f}"
    tokens = f"{result.prompt_tokens or 0} + {result.completion_tokens or 0}"
    return answer.text, answer.given, answer.label, mark, seconds, tokens


def _verdict(right: int, count: int) -> str:
    share = f" = {right / count:.0%}" if count else ""
    return f"{right} of {count} right{share}"


def _by_label(answers: list[Answer]) -> str:
    """The right ones of each label, so that no label hides behind the others."""
    labels = [label for label in LABELS.values() if any(a.label == label for a in answers)]
    of = {label: [a.right for a in answers if a.label == label] for label in labels}
    return ", ".join(f"{label} {sum(right)} of {len(right)}" for label, right in of.items())


_HONEST = (
    "Chance gives 25%. The model answers payment for billing and crash for bug.\n"
    "The first took longer: the model read the examples, and remembers them since. It has 135\n"
    "million parameters; a vendor's has thousands of times that, and the program around it stays\n"
    "the same. None of these tickets took part in choosing the prompt."
)


def _show_prompt(messages: list[Message]) -> None:
    heading("3. The prompt that was sent for the first ticket, whole")
    indent = " " * 11
    for message in messages:
        text = textwrap.fill(str(message.content), terminal_width() - 11)
        said = textwrap.indent(text, indent).lstrip()
        print(f"{styled(f'{message.role:>9}', 'dim')}  {said}")


def _show_next_steps() -> None:
    heading("4. Next")
    print(
        "aitoolman init my_app    a project of your own, which runs at once on this model\n"
        "docs/ and notebooks/     configuration, good practice, lessons to run:\n"
        f"                         {DOCUMENTATION}"
    )
