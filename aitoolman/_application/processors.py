"""Post-processors: what a module's ``post_processor`` names, and running it on an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import postprocess
from .._datamodel import LLMApplicationError, LLMError, LLMUnknownNameError
from .typed import is_data_type, parser_for, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BUILT_IN", "Processed", "processor_name", "resolve_processor", "run_processor"]

_log = logging.getLogger("aitoolman.application")

_PREFIX = "builtin."
_LONG_TEXT = 100_000
"""From this many characters on, built-in processors leave the event loop to others."""


class Processed(NamedTuple):
    """What a post-processor made of an answer."""

    data: Any = None
    repaired: bool = False
    """True where broken JSON was repaired on the way, by whomever."""
    error: str | None = None
    """Why the answer could not be used, in a sentence that can be shown to the model."""


@dataclasses.dataclass(frozen=True)
class _BuiltIn:
    """A processor of the library's own: quick, and without a wait in it."""

    function: Callable[[str], Any]

    def __call__(self, text: str) -> Any:
        return self.function(text)


def processor_name(spec: Any) -> str | None:
    """What results call a post-processor: its name, or that of the function or type."""
    if spec is None or spec == "":
        return None
    if isinstance(spec, str):
        return spec
    if isinstance(spec, functools.partial):
        return processor_name(spec.func)
    if is_data_type(spec):
        return type_name(spec)
    return str(getattr(spec, "__name__", type(spec).__name__))


def resolve_processor(
    spec: Any, registry: Mapping[str, Callable[..., Any]]
) -> Callable[[str], Any] | None:
    """The function behind a post-processor's name, a function itself, or a type to parse into.

    Args:
        spec: ``"parse_json"``, ``"builtin.parse_xml:response"``, a name in `registry`, a callable
            that takes the text, or a type; None or ``""`` for none.
        registry: The application's own processors. Their names win, but for ``builtin.``.

    Raises:
        LLMUnknownNameError: Nothing has this name.
        LLMApplicationError: `spec` cannot be a post-processor.
    """
    if spec is None or spec == "":
        return None
    if isinstance(spec, str):
        return _by_name(spec, registry)
    if is_data_type(spec):
        return _BuiltIn(parser_for(spec))
    if callable(spec):
        return spec  # type: ignore[no-any-return]
    raise LLMApplicationError(
        f"a post-processor is a name, a function of the text, or a type; not {_kind(spec)}"
    )


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _by_name(name: str, registry: Mapping[str, Callable[..., Any]]) -> Callable[[str], Any]:
    own = registry.get(name)
    if own is not None and not name.startswith(_PREFIX):
        return _registered(name, own)
    word, colon, root = name.removeprefix(_PREFIX).partition(":")
    if word in _PLAIN and not colon:
        return _BuiltIn(_PLAIN[word])
    if word in _ROOTED and root.strip():
        return _BuiltIn(functools.partial(_rooted, _ROOTED[word], root.strip()))
    raise LLMUnknownNameError(_what_is_wrong(name, word, registry))


def _registered(name: str, own: Any) -> Callable[[str], Any]:
    processor = None if isinstance(own, str) else resolve_processor(own, {})
    if processor is None:
        raise LLMApplicationError(
            f"the post-processor {name!r} is {own!r}: it must be a function of the text, or a type"
        )
    return processor


def _what_is_wrong(name: str, word: str, registry: Mapping[str, Any]) -> str:
    if word in _ROOTED:
        return f"the post-processor {name!r} needs the name of a tag: '{word}:response'"
    if word in _PLAIN:
        return f"the post-processor {name!r} takes nothing after a colon: write {word!r}"
    own = [] if name.startswith(_PREFIX) else [str(known) for known in registry]
    known = [*own, *BUILT_IN]
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    return (
        f"there is no post-processor {name!r}; {hint} "
        f"(add your own with app.add_processor({name!r}, function); in a shell, with"
        f" --processors {name}=MODULE:FUNCTION)"
    )


def _rooted(function: Callable[[str, str], Any], root: str, text: str) -> Any:
    value = function(text, root)
    if value is None:
        raise ValueError(f"there is no <{root}> tag in the text.")
    return value


_PLAIN: dict[str, Callable[[str], Any]] = {"parse_json": postprocess.parse_json}
_ROOTED: dict[str, Callable[[str, str], Any]] = {
    "get_xml_tag_content": postprocess.get_xml_tag_content,
    "parse_xml": postprocess.parse_xml,
}
BUILT_IN = (*_PLAIN, *(f"{rooted}:response" for rooted in _ROOTED))
"""The names that every application knows, with a tag where they need one."""


async def run_processor(
    processor: Callable[[str], Any], text: str, *, in_thread: bool
) -> Processed:
    """Run a processor on an answer's text; what it raises becomes `Processed.error`.

    Args:
        processor: From `resolve_processor`; sync or async.
        text: The model's answer.
        in_thread: Run a user's sync function in a worker thread, so that it may take its time.
    """
    with postprocess.note_repairs() as notes:
        try:
            data = await _outcome(processor, text, in_thread)
        except Exception as exc:  # noqa: BLE001 - whatever a processor raises is the answer's fault
            _log.debug("a post-processor failed", exc_info=True)
            return Processed(repaired=bool(notes), error=_reason(exc))
    return Processed(data, repaired=bool(notes))


async def _outcome(processor: Callable[[str], Any], text: str, in_thread: bool) -> Any:
    if isinstance(processor, _BuiltIn):
        in_thread = len(text) >= _LONG_TEXT
    elif _is_async(processor):
        in_thread = False
    value = await _in_thread(processor, text) if in_thread else processor(text)
    return await value if inspect.isawaitable(value) else value


def _is_async(processor: Any) -> bool:
    return inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(
        getattr(processor, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


async def _in_thread(processor: Callable[[str], Any], text: str) -> Any:
    value, error = await asyncio.to_thread(_attempt, processor, text)
    if error is not None:
        raise error
    return value


def _attempt(processor: Callable[[str], Any], text: str) -> tuple[Any, Exception | None]:
    """Value and error side by side: a future would not carry a StopIteration."""
    try:
        return processor(text), None
    except Exception as exc:  # noqa: BLE001 - raised again in the awaiting task
        return None, exc


def _reason(exc: Exception) -> str:
    text = str(exc).strip()
    if text and isinstance(exc, (ValueError, LLMError)):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
