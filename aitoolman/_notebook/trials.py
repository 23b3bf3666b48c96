"""``--try``: the prompt just edited, over a few rows, against its last version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from .._application.app import LLMApplication
from .._ledger.client import LLMLedgerClient
from .._loops import background
from .arguments import usage
from .page import chip, dim, json_text, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._application.module import Module
    from .._datamodel import LLMModuleResult
    from .._transport.client import LLMClient
    from .extension import Extension
    from .session import Session

__all__ = ["Trial", "TrialRow", "try_module"]

MAX_ROWS = 200
"""More rows than this are a batch, not a try."""
AT_ONCE = 16
_SHOWN = 300


class TrialRow(NamedTuple):
    """One row under the new prompt."""

    inputs: dict[str, Any]
    answer: Any
    """The post-processed answer, or the error's text."""
    before: Any
    """The answer under the prompt before; None the first time."""
    label: Any
    result: LLMModuleResult

    @property
    def failed(self) -> bool:
        return self.result.status.is_error

    @property
    def flipped(self) -> bool:
        """True where the answer is another than before."""
        return self.before is not None and self.before != self.answer


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
        """The share of rows answered right; None without labels."""
        return _share([_same(r.answer, r.label) for r in self.rows]) if self.labelled else None

    @property
    def accuracy_before(self) -> float | None:
        """The same for the prompt before; None without labels or for the first try."""
        known = [r for r in self.rows if r.before is not None]
        return _share([_same(r.before, r.label) for r in known]) if self.labelled else None

    def summary(self) -> str:
        """One line."""
        parts = [f"{self.name}: {len(self.rows)} rows"]
        if any(r.before is not None for r in self.rows):
            parts.append(f"{len(self.flipped)} changed")
        failed = sum(r.failed for r in self.rows)
        parts += [f"{failed} failed"] if failed else []
        if self.accuracy is not None:
            before = "" if self.accuracy_before is None else f"{self.accuracy_before:.0%} → "
            parts.append(f"accuracy {before}{self.accuracy:.0%}")
        asked = sum(not r.result.from_ledger for r in self.rows)
        parts.append(f"{asked} asked, {len(self.rows) - asked} from the ledger")
        return " · ".join(parts)

    def __repr__(self) -> str:
        lines = [self.summary()]
        for index, row in enumerate(self.rows):
            mark = "*" if row.flipped else " "
            known = f" (right: {row.label})" if self.labelled else ""
            before = "" if row.before is None else f"{_short(row.before)} → "
            lines.append(f"{mark} {index}: {before}{_short(row.answer)}{known}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = list(self.rows[0].inputs) if self.rows else []
        head = ["", *names, "before", "now", *(["right"] if self.labelled else []), ""]
        rows = [self._cells(index, row) for index, row in enumerate(self.rows)]
        return f"<div><b>{text(self.summary())}</b></div>{table(head, rows)}"

    def _cells(self, index: int, row: TrialRow) -> list[str]:
        cells = [dim(index), *(text(_short(value)) for value in row.inputs.values())]
        cells.append("" if row.before is None else dim(_short(row.before)))
        tone = "plain"
        if self.labelled:
            tone = "good" if _same(row.answer, row.label) else "bad"
        cells.append(chip(_short(row.answer), "bad" if row.failed else tone))
        cells += [text(_short(row.label))] if self.labelled else []
        marks = [chip("changed", "odd")] if row.flipped else []
        marks += [dim("from ledger")] if row.result.from_ledger else []
        return [*cells, " ".join(marks)]


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None


def _same(answer: Any, label: Any) -> bool:
    return answer == label or str(answer).strip() == str(label).strip()


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json_text(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


async def try_module(
    extension: Extension, module: Module, rows: Any, label: str | None, fresh: bool
) -> Trial:
    """Run a module over rows: what changed since the last time.

    Args:
        extension: Remembers the answers of the last time.
        module: The module as just defined.
        rows: A dataframe, a list of dictionaries, or a list of values for the one open variable.
        label: The column with the right answers.
        fresh: Ask for every row again.

    Raises:
        UsageError: The rows don't fit the module, or are too many.
    """
    tables = _rows_of(rows, module, label)
    app = _trial_app(extension.session, module._app)
    progress = Progress(extension, module.name, len(tables))
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(row: Mapping[str, Any]) -> LLMModuleResult:
        inputs = {name: row[name] for name in module.variables}
        async with gate:
            result = await app[module.name](
                **inputs, _output_channel="", _reasoning_channel="", _fresh=fresh or None
            )
        progress.advance()
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(row)) for row in tables]
    trial = _compared(extension.session, module, tables, [t.result() for t in tasks], label)
    if progress.replace(trial):
        extension.displayed(trial)
    return trial


def _rows_of(rows: Any, module: Module, label: str | None) -> list[dict[str, Any]]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.to_dict("records")
    if isinstance(rows, (str, bytes, dict)) or not hasattr(rows, "__len__"):
        raise usage("--try takes a dataframe or a list of rows")
    if len(rows) > MAX_ROWS:
        raise usage(
            f"--try is for up to {MAX_ROWS} rows, these are {len(rows)}; try a part of them"
        )
    needed = module.variables
    tables = [row if isinstance(row, dict) else _single(row, needed, module.name) for row in rows]
    wanted = [*needed, *([label] if label else [])]
    for index, row in enumerate(tables):
        missing = [name for name in wanted if name not in row]
        if missing:
            have = ", ".join(map(str, row))
            raise usage(f"row {index} has no {', '.join(missing)}; it has {have}")
    return tables


def _single(value: Any, needed: list[str], name: str) -> dict[str, Any]:
    if len(needed) != 1:
        raise usage(f"module {name!r} has the variables {', '.join(needed)}: rows must name them")
    return {needed[0]: value}


def _trial_app(session: Session, app: LLMApplication) -> LLMApplication:
    """An application whose answers are reused, whatever the client is."""
    trial = LLMApplication(_reusing(session, app.client), app._modules, app.processors)
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


def _compared(
    session: Session,
    module: Module,
    tables: Sequence[Mapping[str, Any]],
    results: Sequence[LLMModuleResult],
    label: str | None,
) -> Trial:
    before = session.trials.get(module.name, {})
    now: dict[Any, Any] = {}
    rows = []
    for table_, result in zip(tables, results, strict=True):
        inputs = {name: table_[name] for name in module.variables}
        key = json_text({k: v for k, v in table_.items() if k != label})
        answer = result.error_text if result.status.is_error else result.data
        answer = [c._asdict() for c in result.tool_calls] if result.tool_calls else answer
        now[key] = answer
        right = table_[label] if label else None
        rows.append(TrialRow(inputs, answer, before.get(key), right, result))
    session.trials[module.name] = before | now
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
