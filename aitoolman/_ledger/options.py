"""How a ledger behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from .._datamodel import LLMConfigError, did_you_mean
from .._datamodel.errors import ConfigProblem

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LedgerMode", "LedgerOptions"]

LedgerMode = Literal["off", "record", "read_write", "refresh", "replay"]


class LedgerOptions(NamedTuple):
    """Mode, retention and pace of one ledger client."""

    mode: str = "read_write"
    retention: str = "full"
    """``"full"``, or ``"metadata"``: numbers only, no prompts and no answers."""
    pace: float = 0.0
    """Replayed streams: 0 is at once, 1 as recorded, 2 twice as slow."""

    @property
    def records(self) -> bool:
        """True where calls are written to the file."""
        return self.mode not in ("off", "replay")

    @classmethod
    def checked(cls, mode: str, retention: str, pace: float, path: Path) -> LedgerOptions:
        """The options, or an error that names the allowed values.

        Raises:
            LLMConfigError: An unknown mode or retention, a negative pace, an export that is not
                replayed.
        """
        problems = []
        if mode not in get_args(LedgerMode):
            hint = did_you_mean(mode, get_args(LedgerMode))
            problems.append(ConfigProblem("ledger.mode", f"{mode!r} is no mode; {hint}"))
        if retention not in ("full", "metadata"):
            text = f"{retention!r} is not 'full' or 'metadata'"
            problems.append(ConfigProblem("ledger.retention", text))
        if not pace >= 0:
            problems.append(ConfigProblem("ledger.pace", f"{pace!r} is no number from 0 up"))
        if path.suffix == ".jsonl" and mode not in ("off", "replay"):
            text = f"{path} is an export, to be read with mode 'replay' only, not {mode!r}"
            problems.append(ConfigProblem("ledger.mode", text))
        if problems:
            raise LLMConfigError(problems)
        return cls(mode, retention, float(pace))
