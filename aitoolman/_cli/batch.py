"""``aitoolman batch``: one module call per row of a file.

Exit codes: 0 every row has an answer (or was left out for a missing value), 1 it could not start,
2 called wrongly, 3 every row was asked and some failed, 4 it ended before the last row, 130 Ctrl-C.
The output file is written whole, at the end; where that is not reached, what there is goes to
``OUT.partial.csv``. The same command again goes on where the last one ended, killed or not.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMBatchError
from .interrupts import run_interruptible
from .places import (
    PROMPT_FILES,
    PROVIDER_FILES,
    add_processors,
    functions,
    name_and_value,
    prompt_file,
    provider_file,
)
from .tables import FORMATS, read_rows, write_rows

if TYPE_CHECKING:
    from .._batch.plan import Plan
    from .._batch.result import Batch
    from .._transport.client import LLMClient

__all__ = ["add_arguments", "run"]

SOME_FAILED = 3
INCOMPLETE = 4

_PAIRS = [
    ("--columns", "VARIABLE=COLUMN", "the column of a variable, if not its own name; repeatable"),
    ("--constants", "VARIABLE=TEXT", "the same text in every row; repeatable"),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (__doc__ or "").split("\n\n", 1)[1]
    parser.add_argument("input", metavar="IN", type=Path, help=f"{', '.join(FORMATS)}")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, help="where answers go")
    places = " or ".join(PROVIDER_FILES)
    parser.add_argument("-c", "--config", help=f"provider file, or: demo (default: {places})")
    places = " or ".join(PROMPT_FILES)
    parser.add_argument("-p", "--prompts", help=f"prompt file (default: {places})")
    parser.add_argument("-m", "--module", required=True)
    parser.add_argument("--plan", action="store_true", help="only show what would be sent")
    for name, value, text in _PAIRS:
        parser.add_argument(
            name, type=name_and_value, action="append", default=[], metavar=value, help=text
        )
    add_processors(parser)
    parser.add_argument("--answer", metavar="NAME", help="column of the answers (the module)")
    parser.add_argument("--missing", choices=["skip", "error", "empty"], default="skip")
    parser.add_argument("--model", help="another model than the module's")
    parser.add_argument("--ledger", help="default: .aitoolman/ledger.db beside the provider file")
    parser.add_argument("--limit", type=int, help="so many rows at most")
    parser.add_argument("--max-cost", type=float, help="money for this run")
    parser.add_argument("--max-errors", type=float, help="a number of rows, or a share below 1")
    parser.add_argument("--on-error", choices=["keep", "stop"], default="keep")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Exit codes 0 to 4 and 130, as above."""
    if arguments.output is None and not arguments.plan:
        arguments.refuse("say where the answers go: -o OUT, or only look: --plan")
    for path in (arguments.input, arguments.output):
        if path is not None and path.suffix not in FORMATS:
            arguments.refuse(f"{path}: the file must end in one of {', '.join(FORMATS)}")
    plans: list[Plan] = []
    try:
        return run_interruptible(_run(arguments, plans))
    except KeyboardInterrupt:
        if plans and not arguments.plan:
            _write(plans[0].batch, arguments.output)
        raise


async def _run(arguments: argparse.Namespace, plans: list[Plan]) -> int:
    as_table = ".parquet" in (arguments.input.suffix, getattr(arguments.output, "suffix", ""))
    data = read_rows(arguments.input, as_table=as_table)
    async with _client(arguments.config or provider_file() or PROVIDER_FILES[0]) as client:
        plan = await _plan(client, arguments, data)
        plans.append(plan)
        if arguments.plan:
            print(plan)
            return 0
        with contextlib.suppress(LLMBatchError):
            await _answer(plan, arguments)
        return _write(plan.batch, arguments.output)


def _client(source: str | Path) -> LLMClient:
    from .._connect import connect

    return connect(source)


async def _plan(client: LLMClient, arguments: argparse.Namespace, data: Any) -> Plan:
    from .._application.app import LLMApplication
    from .._batch.making import make_plan
    from .._config import load_config

    prompts = load_config(arguments.prompts or prompt_file() or PROMPT_FILES[0])
    app = LLMApplication(client, prompts, functions(arguments.processors))
    return await make_plan(
        app,
        arguments.module,
        data,
        columns=dict(arguments.columns),
        constants=dict(arguments.constants),
        missing=arguments.missing,
        output=arguments.answer,
        ledger=arguments.ledger,
        whole=arguments.plan,
        _model_name=arguments.model,
    )


async def _answer(plan: Plan, arguments: argparse.Namespace) -> None:
    try:
        await plan.run(
            arguments.limit,
            max_cost=arguments.max_cost,
            max_errors=arguments.max_errors,
            on_error=arguments.on_error,
            progress=not arguments.quiet,
        )
    except LLMBatchError as exc:
        print(f"aitoolman: {exc}", file=sys.stderr)
        raise


def _write(batch: Batch, output: Path) -> int:
    """Write the whole or the part, and say which; returns the exit code."""
    partial = output.with_suffix(f".partial{output.suffix}")
    target = output if batch.complete else partial
    write_rows(batch.frame, target)
    print(f"{batch!r}\nwritten to {target}", file=sys.stderr)
    if not batch.complete:
        return INCOMPLETE
    partial.unlink(missing_ok=True)
    return SOME_FAILED if batch.summary()["failed"] else 0
