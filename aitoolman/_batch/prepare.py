"""Rows to calls: cells to variables, variables to prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._application.call import Call
from .._datamodel import FinishReason, LLMApplicationError, LLMDirectRequest
from .binding import is_missing
from .engine import PreparedRow, RowResult

if TYPE_CHECKING:
    from .._application.resolved import ResolvedModule
    from .._datamodel import LLMModuleRequest
    from .binding import Binding
    from .source import Source

__all__ = ["CHUNK", "Frozen", "Missing", "RowMaker"]

CHUNK = 500
"""Rows that are read from the data at a time."""

Missing = Literal["skip", "error", "empty"]


class Frozen(NamedTuple):
    """A module and its variables as they were when the plan was made."""

    module: ResolvedModule
    request: LLMModuleRequest
    """The overrides of the plan's calls."""
    model_name: str
    """After the application's aliases."""
    binding: Binding


class RowMaker:
    """Makes the calls of a frozen module for the rows of a source."""

    def __init__(self, frozen: Frozen, source: Source, missing: Missing) -> None:
        self.frozen = frozen
        self.source = source
        self.missing = missing
        self._variables = tuple(frozen.binding.columns)
        self._names = list(frozen.binding.columns.values())
        self._template = LLMDirectRequest(
            frozen.model_name,
            [],
            {name: dict(tool) for name, tool in frozen.module.tools.items()},
            dict(frozen.module.options),
            post_processor=frozen.module.post_processor,
        )

    def cells(self, start: int, stop: int) -> list[tuple[Any, ...]]:
        """What the rows from `start` to `stop` hold for the templates; fewer at the end."""
        return self.source.values(self._names, start, stop)

    def rows(self, start: int, stop: int) -> list[PreparedRow]:
        """The rows from `start` to `stop`; fewer at the end of the data."""
        return [self.row(n, values) for n, values in enumerate(self.cells(start, stop), start)]

    def row(self, position: int, values: tuple[Any, ...], sample: int | None = None) -> PreparedRow:
        """One row."""
        gaps = [name for name, value in zip(self._names, values, strict=True) if is_missing(value)]
        if gaps and self.missing == "empty":
            values = tuple("" if is_missing(value) else value for value in values)
        elif gaps:
            return PreparedRow(position, None, self._gap(position, gaps))
        try:
            return PreparedRow(position, self.call(values, sample))
        except LLMApplicationError as exc:
            status = FinishReason.error_app.value
            return PreparedRow(position, None, RowResult(status, error=str(exc)))

    def _gap(self, position: int, gaps: list[str]) -> RowResult:
        what = f"no value in {', '.join(map(repr, gaps))}"
        if self.missing == "error":
            raise LLMApplicationError(
                f"row {position} has {what}; clean the data, or plan with missing='skip' or 'empty'"
            )
        return RowResult("skipped", error=what)

    def call(self, values: tuple[Any, ...], sample: int | None = None) -> Call:
        """The call for one row's cells.

        Raises:
            LLMApplicationError: The templates cannot be rendered with them.
        """
        frozen = self.frozen
        module, request = frozen.module, frozen.request
        params = dict(zip(self._variables, values, strict=True))
        messages = module.messages(
            {**frozen.binding.constants, **params}, request.context_messages, request.media_content
        )
        return Call(
            self._template._replace(messages=messages),
            module.name,
            params,
            module.format_retries,
            request.sample if sample is None else sample,
            request.fresh,
        )
