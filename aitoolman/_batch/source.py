"""Rows from a dataframe, a list of dicts or an iterator, a window at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .._datamodel import LLMApplicationError

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

_GONE: Mapping[str, Any] = {}

__all__ = ["FrameSource", "IteratorSource", "ListSource", "Source", "open_source"]


class Source(Protocol):
    """Rows by position. Frozen: what happens to the data outside changes nothing here."""

    kind: str
    """For people: ``pandas``, ``list`` ..."""
    columns: list[str]

    @property
    def length(self) -> int | None:
        """How many rows; None while an iterator is not at its end."""

    @property
    def seen(self) -> int:
        """How many rows are known so far."""

    def values(self, names: Sequence[str], start: int, stop: int) -> list[tuple[Any, ...]]:
        """The cells of some columns; fewer rows than asked for only at the end."""


class FrameSource:
    """Rows of a dataframe."""

    def __init__(self, frame: nw.DataFrame[Any]) -> None:
        self.frame = frame
        """A narwhals frame over a frozen copy."""
        self.kind = frame.implementation.name.lower()
        self.columns = list(frame.columns)

    @property
    def length(self) -> int:
        return len(self.frame)

    @property
    def seen(self) -> int:
        return len(self.frame)

    def values(self, names: Sequence[str], start: int, stop: int) -> list[tuple[Any, ...]]:
        """The cells of some columns, as Python values."""
        stop = min(stop, self.length)
        if not names or start >= stop:
            return [()] * max(0, stop - start)
        lists = [self.frame.get_column(name)[start:stop].to_list() for name in names]
        return list(zip(*lists, strict=True))


class ListSource:
    """Rows of a list of dicts."""

    kind = "list"

    def __init__(self, rows: list[Mapping[str, Any]], columns: list[str] | None = None) -> None:
        self.rows = rows
        found = dict.fromkeys(name for row in rows for name in row) if columns is None else columns
        self.columns = list(found)

    @property
    def length(self) -> int | None:
        return len(self.rows)

    @property
    def seen(self) -> int:
        return len(self.rows)

    def values(self, names: Sequence[str], start: int, stop: int) -> list[tuple[Any, ...]]:
        """The cells of some keys; a key that a row lacks is None."""
        return [tuple([row.get(name) for name in names]) for row in self.rows[start:stop]]


class IteratorSource(ListSource):
    """Rows of an iterator, which is asked for no more of them than are needed."""

    kind = "iterator"

    def __init__(self, rows: Iterator[Any], variable: str | None) -> None:
        self._rows = rows
        self._variable = variable
        self._ended = False
        super().__init__([], [])
        self._pull(1)
        self.columns = list(self.rows[0]) if self.rows else []

    @property
    def length(self) -> int | None:
        """Known at the end only."""
        return len(self.rows) if self._ended else None

    def values(self, names: Sequence[str], start: int, stop: int) -> list[tuple[Any, ...]]:
        """The cells of some keys, read from the iterator as far as needed."""
        self._pull(stop)
        return super().values(names, start, stop)

    def _pull(self, count: int) -> None:
        while len(self.rows) < count and not self._ended:
            try:
                row = next(self._rows)
            except StopIteration:
                self._ended = True
            else:
                self.rows.append(_as_row(row, len(self.rows), self._variable))

    def forget(self, start: int, stop: int) -> None:
        """Let go of rows that nobody will ask for again; only their places stay."""
        self.rows[start:stop] = [_GONE] * (stop - start)


def open_source(data: Any, variable: str | None) -> Source:
    """What reads `data`.

    Args:
        data: A pandas, polars or Arrow frame (or one column of it), a list of dicts, an iterator.
        variable: The one template variable that is open, where there is just one: then rows need
            not be dicts, a row is the variable's value.

    Raises:
        LLMApplicationError: Nothing here reads this.
    """
    frame = _as_frame(data, variable)
    if frame is not None:
        return FrameSource(frame)
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise LLMApplicationError(
            f"a plan takes a dataframe, a list of dicts or an iterator, not a {_kind(data)}"
        )
    if isinstance(data, Sequence):
        return ListSource([_as_row(row, n, variable) for n, row in enumerate(data)])
    return IteratorSource(iter(data), variable)


def _kind(data: Any) -> str:
    name = type(data).__name__
    return f"{name} (for a dict of columns: pandas.DataFrame(data))" if name == "dict" else name


def _as_row(row: Any, position: int, variable: str | None) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if variable is not None:
        return {variable: row}
    raise LLMApplicationError(
        f"row {position} is a {type(row).__name__}; rows are dicts (only where a module has just"
        " one open variable, a row may be its value)"
    )


def _as_frame(data: Any, variable: str | None) -> nw.DataFrame[Any] | None:
    """`data` frozen and behind narwhals; None where it is no dataframe."""
    import narwhals.stable.v2 as nw

    if isinstance(data, (str, bytes, Mapping, list, tuple, Iterator)):
        return None
    try:
        native = nw.from_native(data, pass_through=True, allow_series=True)
    except Exception as exc:  # two columns of one name, above all
        raise LLMApplicationError(f"this {_kind(data)} cannot be read: {exc}") from exc
    if isinstance(native, nw.LazyFrame):
        raise LLMApplicationError("a plan needs the rows themselves: call .collect() first")
    if isinstance(native, nw.Series):  # the one column fills the one variable
        native = native.alias(variable or native.name or "value").to_frame()
    if not isinstance(native, nw.DataFrame):
        return None
    frozen: nw.DataFrame[Any] = nw.from_native(_frozen(native.to_native()), eager_only=True)
    return frozen


def _frozen(frame: Any) -> Any:
    """A copy of its own; Arrow tables never change."""
    if hasattr(frame, "iloc"):
        return frame.copy()
    return frame.clone() if hasattr(frame, "clone") else frame
