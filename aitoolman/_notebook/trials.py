"""``--try``: the prompt just edited, over a few rows, against its last version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from .._application.app import LLMApplication
from .._batch.binding import is_missing
from .._batch.result import BAD_ANSWER
from .._batch.source import ListSource, open_source
from .._ledger.client import LLMLedgerClient
from .._ledger.memory import memory_log
from .._loops import background
from .arguments import usage
from .page import chip, dim, json_text, table, text
from .status import failure_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from .._application.module import Module
    from .._batch.source import Source
    from .._datamodel import LLMModuleResult
    from .._transport.client import LLMClient
    from .extension import Extension
    from .session import Session

__all__ = ["Trial", "TrialRow", "fitting_rows", "try_module"]

MAX_ROWS = 200
"""More rows than this are a batch, not a try."""
AT_ONCE = 16
_SHOWN = 300


class TrialRow(NamedTuple):
    """One row under the new prompt, and what it gave under the prompt before."""

    inputs: dict[str, Any]
    label: Any
    """The right answer; None where nobody gave one."""
    result: LLMModuleResult
    earlier: LLMModuleResult | None
    """The result under the prompt before; None the first time."""

    @property
    def answer(self) -> Any:
        """The post-processed answer, the tool calls, or why there is none."""
        return _answer(self.result)

    @property
    def before(self) -> Any:
        """The same under the prompt before; None the first time."""
        return None if self.earlier is None else _answer(self.earlier)

    @property
    def failed(self) -> bool:
        return self.result.status.is_error

    @property
    def flipped(self) -> bool:
        """True where the answer is another than before."""
        return self.earlier is not None and self.before != self.answer

    def values(self) -> dict[str, Any]:
        """The row as one dictionary; the inputs keep their names."""
        said = {"answer": self.answer, "before": self.before, "label": self.label}
        return {**said, "changed": self.flipped, **self.inputs}


class Trial:
    """What a prompt answered, row by row, beside what it answered before its last edit.

    Attributes:
        rows: One `TrialRow` per row, in order.
        labelled: True where right answers were given.
    """

    def __init__(self, name: str, rows: Sequence[TrialRow], labelled: bool) -> None:
        self.name = name
        self.rows = list(rows)
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def flipped(self) -> list[int]:
        """The rows, counted from 0, whose answer has changed."""
        return [index for index, row in enumerate(self.rows) if row.flipped]

    @property
    def accuracy(self) -> float | None:
        """The share of labelled rows answered right; None without labels."""
        return _share([_right(row.result, row.label) for row in self.rows])

    @property
    def accuracy_before(self) -> float | None:
        """The same for the prompt before; None without labels or for the first try."""
        return _share([_right(row.earlier, row.label) for row in self.rows])

    @property
    def _again(self) -> bool:
        """False for the first try: there is nothing to compare with."""
        return any(row.earlier is not None for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas dataframe: inputs, ``answer``, ``before``, ``label``, ``changed``.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame([row.values() for row in self.rows])

    def summary(self) -> str:
        """One line."""
        count = len(self.rows)
        parts = [f"{self.name}: {count} row{'s' * (count != 1)}"]
        if self._again:
            parts.append(f"{len(self.flipped)} changed")
        failed = sum(r.failed for r in self.rows)
        parts += [f"{failed} failed"] if failed else []
        if self.accuracy is not None:
            before = "" if self.accuracy_before is None else f"{self.accuracy_before:.0%} → "
            parts.append(f"accuracy {before}{self.accuracy:.0%}")
        known = sum(r.result.from_ledger for r in self.rows)
        parts.append(f"{count - known} asked" + (f", {known} from the ledger" if known else ""))
        return " · ".join(parts)

    def __repr__(self) -> str:
        lines = [self.summary()]
        for index, row in enumerate(self.rows):
            mark = "*" if row.flipped else " "
            right = "" if row.label is None else f" (right: {row.label})"
            before = "" if row.earlier is None else f"{_shown(row.earlier)} → "
            lines.append(f"{mark} {index}: {before}{_shown(row.result)}{right}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = list(self.rows[0].inputs) if self.rows else []
        answers = ["before", "now"] if self._again else ["now"]
        head = ["", *names, *answers, *(["right"] if self.labelled else []), ""]
        rows = [self._cells(index, row) for index, row in enumerate(self.rows)]
        return f"<div><b>{text(self.summary())}</b></div>{table(head, rows)}"

    def _cells(self, index: int, row: TrialRow) -> list[str]:
        cells = [dim(index), *(text(_short(value)) for value in row.inputs.values())]
        if self._again:
            cells.append("" if row.earlier is None else dim(_shown(row.earlier)))
        cells.append(chip(_shown(row.result), _TONES[_right(row.result, row.label)]))
        cells += ["" if row.label is None else text(_short(row.label))] if self.labelled else []
        marks = [chip("changed", "odd")] if row.flipped else []
        marks += [dim("from ledger")] if row.result.from_ledger else []
        return [*cells, " ".join(marks)]


_TONES = {True: "good", False: "bad", None: "plain"}


def _answer(result: LLMModuleResult) -> Any:
    failure = failure_of(result)
    if failure is not None:
        return failure
    return [call._asdict() for call in result.tool_calls] or result.data


def _right(result: LLMModuleResult | None, label: Any) -> bool | None:
    """None where that cannot be said: nothing was asked, nobody gave a label, nothing came."""
    if result is None or label is None:
        return None
    if result.status.is_error:
        return False if result.status.value in BAD_ANSWER else None
    answer = _answer(result)
    return bool(answer == label or str(answer).strip() == str(label).strip())


def _share(right: Sequence[bool | None]) -> float | None:
    known = [one for one in right if one is not None]
    return sum(known) / len(known) if known else None


def _shown(result: LLMModuleResult) -> str:
    """The answer for people; where it is no use, why, and how it began."""
    if result.status.is_error and result.response_text:
        return _short(f"{_answer(result)}: {result.response_text}")
    return _short(_answer(result))


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json_text(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


async def try_module(
    extension: Extension,
    module: Module,
    tables: Sequence[Mapping[str, Any]],
    label: str | None,
    fresh: bool,
) -> Trial:
    """Run a module over rows: what changed since the last time.

    Args:
        extension: Remembers the answers of the last time.
        module: The module as just defined.
        tables: The rows, from `fitting_rows`.
        label: The column with the right answers.
        fresh: Ask for every row again.
    """
    app = _trial_app(extension.session, module._app)
    progress = Progress(extension, module.name, len(tables))
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(row: Mapping[str, Any]) -> LLMModuleResult:
        inputs = {name: row[name] for name in module.variables}
        async with gate:
            result = await app[module.name](
                **inputs, _output_channel="", _reasoning_channel="", _fresh=fresh or None
            )
        _remember(module._app, result)
        progress.advance()
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(row)) for row in tables]
    trial = _compared(extension.session, module, tables, [t.result() for t in tasks], label)
    if progress.replace(trial):
        extension.displayed(trial)
    return trial


def fitting_rows(rows: Any, module: Module, label: str | None) -> list[dict[str, Any]]:
    """The rows as dictionaries that have all that a module needs.

    Args:
        rows: A dataframe, a list of dictionaries, or a list of values for the one open variable.
        module: What is to be run over them.
        label: The column with the right answers.

    Raises:
        UsageError: The rows don't fit the module, or are too many.
    """
    if isinstance(rows, (str, bytes, dict)) or not hasattr(rows, "__len__"):
        raise usage("--try takes a dataframe or a list of rows")
    if len(rows) > MAX_ROWS:
        raise usage(
            f"--try is for up to {MAX_ROWS} rows, these are {len(rows)}; try a part of them"
        )
    needed = module.variables
    tables = _tables(open_source(rows, needed[0] if len(needed) == 1 else None))
    wanted = [*needed, *([label] if label else [])]
    for index, row in enumerate(tables):
        missing = [name for name in wanted if name not in row]
        if missing:
            have = ", ".join(map(str, row))
            raise usage(f"row {index} has no {', '.join(missing)}; it has {have}")
    return tables


def _tables(source: Source) -> list[dict[str, Any]]:
    if isinstance(source, ListSource):
        return [dict(row) for row in source.rows]
    values = source.values(source.columns, 0, source.length or 0)
    return [dict(zip(source.columns, row, strict=True)) for row in values]


def _trial_app(session: Session, app: LLMApplication) -> LLMApplication:
    """An application whose answers are reused, whatever the client is."""
    client = _reusing(session, app.client)
    context = f"{app.context_id}/try"
    trial = LLMApplication(client, app._modules, app.processors, context_id=context)
    trial.vars = app.vars
    return trial


def _reusing(session: Session, client: LLMClient) -> LLMClient:
    options = getattr(client, "options", None) or getattr(client, "_ledger", None)
    if getattr(options, "mode", "off") in ("read_write", "refresh", "replay"):
        return client
    known = session.trial_client
    if known is None or known.client is not client:
        if known is not None:
            asyncio.run_coroutine_threadsafe(known.drain(), background.loop)
        known = LLMLedgerClient(client, session.scratch() / "trials.db", "read_write")
        session.trial_client = known
    return known


def _remember(app: LLMApplication, result: LLMModuleResult) -> None:
    """Put a call into the log of the application's client, where no ledger of its own has it."""
    if app.client.ledger_path is None:
        model = app._modules.alias(result.request.model_name)
        for response in result.responses:
            asked = result.request if response is result.responses[-1] else None
            memory_log(app.client).add(model, app.context_id, response, asked)


def _compared(
    session: Session,
    module: Module,
    tables: Sequence[Mapping[str, Any]],
    results: Sequence[LLMModuleResult],
    label: str | None,
) -> Trial:
    known = session.trials.setdefault(module.name, {})
    keys = [json_text({n: v for n, v in row.items() if n != label}) for row in tables]
    rows = []
    for key, row, result in zip(keys, tables, results, strict=True):
        inputs = {name: row[name] for name in module.variables}
        right = None if label is None or is_missing(row[label]) else row[label]
        rows.append(TrialRow(inputs, right, result, known.get(key)))
    known.update(zip(keys, results, strict=True))
    return Trial(module.name, rows, label is not None)


class Progress:
    """A line that counts finished rows, and makes room for the trial when all are done."""

    def __init__(self, extension: Extension, name: str, count: int) -> None:
        self._text = f"{name}: {{}} of {count} rows"
        self._done = 0
        self._handle: Any = None
        if extension.in_notebook and count:
            from IPython.display import display

            content = {"text/plain": self._text.format(0)}
            self._handle = display(content, raw=True, display_id=True)

    def advance(self) -> None:
        """One more row is done."""
        self._done += 1
        if self._handle is not None:
            self._handle.update({"text/plain": self._text.format(self._done)}, raw=True)

    def replace(self, trial: Trial) -> bool:
        """Show the finished trial in the line's place; False where there is no line."""
        if self._handle is not None:
            content = {"text/plain": repr(trial), "text/html": trial._repr_html_()}
            self._handle.update(content, raw=True)
        return self._handle is not None
