"""Which column, constant or application variable fills each template variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Binding", "bind", "is_missing"]


class Binding(NamedTuple):
    """Where template variables get their values."""

    columns: dict[str, str]
    """Variable to column."""
    constants: dict[str, Any]
    """Variable to value, those of ``app.vars`` included."""
    unfilled: list[str]
    """Variables that nothing fills; a template may have a default for them."""
    notes: list[str]


def bind(
    variables: Iterable[str],
    available: list[str],
    columns: Mapping[str, str] | None,
    constants: Mapping[str, Any] | None,
    app_vars: Mapping[str, Any],
) -> Binding:
    """Find a source for each template variable.

    What `columns` says wins, then `constants`, then a column of the variable's own name, then
    ``app.vars``.

    Raises:
        LLMApplicationError: `columns` or `constants` names what is not there, or both the same
            variable.
    """
    names, fixed, notes = set(variables), dict(constants or {}), list[str]()
    given = _turned(dict(columns or {}), names, available, notes)
    _check(given, names, available, fixed)
    own = {v: v for v in sorted(names) if v in available and v not in fixed and v not in given}
    filled = given | own
    rest = names - filled.keys() - fixed.keys()
    unfilled = sorted(rest - app_vars.keys())
    return Binding(filled, {**app_vars, **fixed}, unfilled, notes)


def _turned(
    columns: dict[str, str], names: set[str], available: list[str], notes: list[str]
) -> dict[str, str]:
    """`columns` as variable to column, entries the other way round turned."""
    turned = {}
    for key, value in columns.items():
        if key not in names and value in names and key in available:
            notes.append(
                f"columns maps variable to column: {{{key!r}: {value!r}}} was turned round"
            )
            key, value = value, key
        turned[key] = value
    return turned


def _check(
    given: dict[str, str], names: set[str], available: list[str], fixed: dict[str, Any]
) -> None:
    for variable in fixed:
        if variable not in names:
            hint = did_you_mean(variable, sorted(names))
            raise LLMApplicationError(f"constants: there is no variable {variable!r}; {hint}")
    for variable, column in given.items():
        if variable not in names:
            hint = did_you_mean(variable, sorted(names))
            raise LLMApplicationError(f"columns: there is no variable {variable!r}; {hint}")
        if column not in available:
            hint = did_you_mean(column, available)
            raise LLMApplicationError(f"columns: there is no column {column!r}; {hint}")
        if variable in fixed:
            raise LLMApplicationError(f"{variable!r} is in both columns and constants")


_MISSING_TYPES = frozenset({"NAType", "NaTType"})


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and NA."""
    if value is None:
        return True
    kind = type(value)
    if kind is str:
        return False
    if kind.__name__ in _MISSING_TYPES:
        return True
    if getattr(value, "shape", ()) != ():
        return False
    try:
        return bool(value != value)  # what is not itself is not a number
    except Exception:  # noqa: BLE001 - a user's type may raise anything
        return False
