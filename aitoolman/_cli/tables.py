"""Rows in files: CSV, JSON Lines and Parquet, by the ending of the name."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

__all__ = ["FORMATS", "read_rows", "write_rows"]

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 2**31 - 1


def read_rows(path: Path, *, as_table: bool) -> Any:
    """The rows of a file: dicts, or an Arrow table.

    Cells of a CSV file are texts, an empty one is missing.

    Raises:
        OSError: The file cannot be read.
        LLMApplicationError: It is not what its name says; the line is named.
    """
    if path.suffix == ".parquet":
        return _arrow().parquet.read_table(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        read = _read_jsonl if path.suffix == ".jsonl" else _read_csv
        try:
            rows = list(read(file, path))
        except (ValueError, csv.Error) as exc:
            raise LLMApplicationError(f"{path} cannot be read: {exc}") from exc
    if not as_table:
        return rows
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _arrow().table({name: [row.get(name) for row in rows] for name in names})


def _read_csv(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(file, delimiter=_DELIMITERS[path.suffix], strict=True)
    names = next(reader, [])
    if len(set(names)) != len(names):
        raise ValueError("two columns have the same name")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(names):
            raise ValueError(
                f"line {reader.line_num} has {len(cells)} cells, the first line has {len(names)}"
            )
        yield {name: cell or None for name, cell in zip(names, cells, strict=True)}


def _read_jsonl(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        yield row


def write_rows(frame: Any, path: Path) -> None:
    """Write rows (dicts, or an Arrow table) in place of `path`, all or nothing.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".parquet":
                _arrow().parquet.write_table(frame, file)
            else:
                file.writelines(_encoded(_rows(frame), path))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _rows(frame: Any) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame if isinstance(frame, list) else frame.to_pylist()
    return rows


def _encoded(rows: Sequence[dict[str, Any]], path: Path) -> Iterable[bytes]:
    if path.suffix == ".jsonl":
        for row in rows:
            yield (json.dumps(row, ensure_ascii=False, default=str) + "\n").encode()
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return
    line = _Line()
    writer = csv.writer(line, delimiter=_DELIMITERS[path.suffix], lineterminator="\n")
    for cells in [names, *([_cell(row.get(name)) for name in names] for row in rows)]:
        writer.writerow(cells)
        yield line.text.encode("utf-8", "replace")


class _Line:
    """Takes what a CSV writer writes, a row at a time."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as exc:
        raise LLMApplicationError("Parquet files need pyarrow: pip install pyarrow") from exc
    return pyarrow
