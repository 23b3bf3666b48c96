"""How a call can end, and the error for each end.

The tree::

    LLMError                        base: catch this around a call and raise_for_status()
    ├── LLMLengthLimitError         the answer hit its token limit
    ├── LLMContentFilterError       the vendor's moderation cut the answer
    ├── LLMApiRequestError          the request failed: HTTP status, connection, unknown model
    ├── LLMResponseFormatError      the answer came, but could not be understood
    ├── LLMApplicationError         a mistake in the application's own code or configuration
    │   ├── LLMUnknownNameError     an unknown module, channel, processor, template (a KeyError)
    │   ├── LLMBatchError           a batch that stopped before its end
    │   └── LLMWorkflowError        a workflow that cannot go on
    │       └── TaskDependencyError one or more tasks failed
    ├── LLMCancelledError           the request was cancelled through the client
    ├── LLMUnknownError             the vendor gave a reason that nobody knows
    └── GenericError                any other failure
    LLMConfigError (ValueError)     mistakes in a configuration file, all of them at once
"""

from __future__ import annotations

import difflib
import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ConfigProblem",
    "FinishReason",
    "GenericError",
    "LLMApiRequestError",
    "LLMApplicationError",
    "LLMBatchError",
    "LLMCancelledError",
    "LLMConfigError",
    "LLMContentFilterError",
    "LLMError",
    "LLMLengthLimitError",
    "LLMResponseFormatError",
    "LLMUnknownError",
    "LLMUnknownNameError",
    "LLMWorkflowError",
    "TaskDependencyError",
]


class LLMError(RuntimeError):
    """A call to a language model that did not end well.

    Attributes:
        result: The result (or response) the error was raised for, if there is one.
    """

    result: Any = None

    def __init__(self, *args: object, result: Any = None) -> None:
        super().__init__(*args)
        if result is not None:
            self.result = result


class LLMLengthLimitError(LLMError):
    """The answer reached its token limit; the text so far is in the result."""


class LLMContentFilterError(LLMError):
    """The vendor's moderation stopped or refused the answer."""


class LLMApiRequestError(LLMError):
    """The request failed: an HTTP error, a lost connection, a timeout, an unknown model.

    Attributes:
        vendor_error: What the vendor said (message, code, status), where it said something.
    """

    vendor_error: Any = None


class LLMResponseFormatError(LLMError):
    """The answer arrived but could not be understood, by the transport or by a post-processor."""


class LLMApplicationError(LLMError):
    """A mistake in the application: a missing variable, a tool that does not fit, a wrong call."""


class LLMUnknownNameError(LLMApplicationError, KeyError):
    """A name that nothing is registered under; the message lists the nearest known ones."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class LLMBatchError(LLMApplicationError):
    """A batch that stopped before its end; nothing that was answered is lost.

    Attributes:
        batch: The `Batch` with all results so far.
    """

    def __init__(self, message: str, batch: Any = None) -> None:
        super().__init__(message)
        self.batch = batch

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook."""
        return [f"{type(self).__name__}: {self}"]


class LLMWorkflowError(LLMApplicationError):
    """A workflow that is built wrongly or cannot go on."""


class TaskDependencyError(LLMWorkflowError):
    """Tasks failed, themselves or through a task before them.

    Attributes:
        failed_tasks: Every task that failed, in the order of failing.
    """

    def __init__(self, message: str, failed_tasks: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.failed_tasks = list(failed_tasks)


class LLMCancelledError(LLMError):
    """The request was cancelled through the client; the partial text is in the result."""


class LLMUnknownError(LLMError):
    """The vendor named a finish reason that is not known here."""


class GenericError(LLMError):
    """Any other failure; the message says what happened."""


class ConfigProblem(NamedTuple):
    """One mistake in a configuration file."""

    key: str
    """The dotted path of the key, as written in TOML: ``api."fast".timeout``."""
    message: str
    """What is wrong and what would be right."""


class LLMConfigError(ValueError):
    """Every mistake found in one configuration.

    Attributes:
        file: The file, where known.
        problems: All mistakes, in the order of the file's tables.
    """

    def __init__(self, problems: Sequence[ConfigProblem], file: str | None = None) -> None:
        self.problems = list(problems)
        self.file = file
        where = file or "configuration"
        lines = (f"{where}: {_bounded(p.key)}: {_bounded(p.message)}" for p in self.problems)
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.file)


def _bounded(text: str) -> str:
    """A text that a person may read: a name in it may have a million characters."""
    return text if len(text) <= 1000 else f"{text[:700]} ... {text[-200:]}"


class FinishReason(enum.Enum):
    """Why a call ended."""

    # the vendor's reasons
    stop = "stop"
    length = "length"
    content_filter = "content_filter"
    tool_calls = "tool_calls"

    # local reasons
    error = "error"
    error_request = "error: request"
    error_format = "error: format"
    error_app = "error: application"
    cancelled = "cancelled"

    unknown = "unknown"

    @classmethod
    def of(cls, reason: FinishReason | str | None) -> FinishReason:
        """The member for a value; a word nobody knows (or none) is ``unknown``."""
        if isinstance(reason, cls):
            return reason
        try:
            return cls(reason)
        except ValueError:
            return cls.unknown

    @classmethod
    def of_error(cls, error: BaseException) -> FinishReason:
        """The member that raises errors of this kind; ``error`` for any other exception."""
        kinds = ((reason, kind) for reason, (kind, _) in _ERRORS.items())
        return next((reason for reason, kind in kinds if isinstance(error, kind)), cls.error)

    @property
    def is_error(self) -> bool:
        """True where `raise_for_status` would raise."""
        return self in _ERRORS

    def raise_for_status(self, error_text: str | None = None, *, result: Any = None) -> None:
        """Raise the error that belongs to this reason.

        Args:
            error_text: The message; a short default stands in where there is none.
            result: Attached to the error as ``error.result``.

        Raises:
            LLMError: The leaf of the tree for this reason. ``stop`` and ``tool_calls`` pass.
        """
        # `self` is None in FinishReason.raise_for_status(None): an unset reason passes.
        if self in _ERRORS:
            error_class, default = _ERRORS[self]
            raise error_class(error_text or default, result=result)


_ERRORS: dict[FinishReason, tuple[type[LLMError], str]] = {
    FinishReason.length: (LLMLengthLimitError, "the answer reached its token limit"),
    FinishReason.content_filter: (LLMContentFilterError, "the vendor's moderation cut the answer"),
    FinishReason.error: (GenericError, "the call failed"),
    FinishReason.error_request: (LLMApiRequestError, "the request failed"),
    FinishReason.error_format: (LLMResponseFormatError, "the answer could not be understood"),
    FinishReason.error_app: (LLMApplicationError, "the application failed"),
    FinishReason.cancelled: (LLMCancelledError, "the request was cancelled"),
    FinishReason.unknown: (LLMUnknownError, "the vendor gave an unknown finish reason"),
}


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A clause that names the nearest known names, or lists a few when none is near."""
    names = [str(n) for n in known]
    if near := near_names(name, names, limit=limit):
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    if not names:
        return "none is defined"
    shown = ", ".join(repr(n) for n in sorted(names)[:10])
    return f"known: {shown}" + (" ..." if len(names) > 10 else "")


def near_names(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """The known names that `name` may be a slip of, the likeliest first."""
    ranked = sorted(((_likeness(str(name), str(n)), str(n)) for n in known), reverse=True)
    return [n for likeness, n in ranked[:limit] if likeness >= _NEAR]


_NEAR = 0.6
_LONG = 200


def _likeness(name: str, known: str) -> float:
    """From 0 to 1; a name that is cut short is like the longer one, though less than a slip."""
    name, known = name[:_LONG], known[:_LONG]  # the work grows with the square

    def ratio(other: str) -> float:
        return difflib.SequenceMatcher(None, name, other).ratio()

    beginning = 0.8 * ratio(known[: len(name)]) if len(name) > 2 else 0.0
    return max(ratio(known), beginning)
