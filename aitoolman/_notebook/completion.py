"""Completion on the magics' lines: modules, variables, models and options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .pages import _innermost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

    from .._application.app import LLMApplication
    from .session import Session

__all__ = ["Completion"]

_MAGIC = re.compile(
    r"\s*(?:[^\W\d]\w* *= *)?%%?(aitoolman|llm_module|llm_config)[ \t]+(.*)\Z", re.S
)
OPTIONS = {
    "aitoolman": ["--var", "-o", "--model", "--no-stream", "--preview", "--fresh"],
    "llm_module": [
        *("--model", "--system", "--output", "--tools"),
        *("--try", "--label", "--fresh", "-o"),
    ],
    "llm_config": ["--demo", "--model", "--ledger", "--endpoint", "--ask"],
}
_MODES = ["off", "record", "read_write", "refresh", "replay"]


class Completion:
    """A matcher for IPython's completer.

    Args:
        session: Knows the application.
        shell: The shell whose completer is extended.
    """

    def __init__(self, session: Session, shell: InteractiveShell) -> None:
        from IPython.core.completer import context_matcher

        self._session = session
        self._shell = shell

        @context_matcher()
        def aitoolman_matcher(context: CompletionContext) -> dict[str, Any]:
            return self._match(context)

        self._matcher = aitoolman_matcher

    def register(self) -> None:
        """Begin to complete."""
        self._shell.Completer.custom_matchers.append(self._matcher)

    def unregister(self) -> None:
        """Stop completing."""
        self._shell.Completer.custom_matchers.remove(self._matcher)

    def _match(self, context: CompletionContext) -> dict[str, Any]:
        from IPython.core.completer import SimpleCompletion

        before = context.full_text.splitlines()[: context.cursor_line + 1] or [""]
        found = _MAGIC.match(before[-1][: context.cursor_position])
        if found is None or (context.cursor_line and "%%" in before[-1]):
            return {"completions": [], "suppress": False}
        *words, fragment = found[2].split(" ")
        words = [word for word in words if word]
        fitting = [w for w in self._words(found[1], words, fragment) if w.startswith(fragment)]
        return {
            "completions": [SimpleCompletion(text=word, type="aitoolman") for word in fitting],
            "suppress": bool(fitting),
            "matched_fragment": fragment,
        }

    def _words(self, magic: str, words: list[str], fragment: str) -> Iterable[str]:
        app = self._session.current
        last = words[-1] if words else ""
        if last == "--model":
            return sorted(model_names(app)) if app else []
        if last == "--ledger":
            return _MODES
        if fragment.startswith("-"):
            return OPTIONS[magic]
        if magic == "aitoolman" and app is not None:
            return self._module_words(app, words)
        return []

    def _module_words(self, app: LLMApplication, words: list[str]) -> list[str]:
        names = [word for word in words if word in app]
        if not names:
            return sorted(app)
        if words[-1] == "--var":
            return app[names[0]].variables
        given = {word.partition("=")[0] for word in words}
        return [f"{name}=" for name in app[names[0]].variables if name not in given]


def model_names(app: LLMApplication) -> set[str]:
    """Every model name and alias that a call may use."""
    config = getattr(_innermost(app.client), "config", None)
    known = {*getattr(config, "entries", ()), *getattr(config, "aliases", ())}
    return known | set(app._modules.config.aliases)
