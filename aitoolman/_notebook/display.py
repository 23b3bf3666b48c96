"""Rich display, registered with IPython so that the values themselves know nothing of notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._application.app import LLMApplication
from .._application.module import Module
from .._datamodel import (
    LLMDirectRequest,
    LLMError,
    LLMModuleResult,
    MediaContent,
    Message,
    RequestPreview,
)
from . import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Formatters"]


def _application(app: LLMApplication) -> str:
    own = getattr(app, "_repr_html_", None)  # a workflow shows its picture
    return str(own()) if own is not None else pages.application_page(app)


def _list(value: list[Any]) -> str | None:
    messages = value and all(isinstance(item, Message) for item in value)
    return pages.messages_page(value) if messages else None


_PAGES: dict[type, Callable[[Any], str | None]] = {
    LLMApplication: _application,
    Module: pages.module_page,
    LLMModuleResult: pages.result_page,
    RequestPreview: pages.preview_page,
    LLMDirectRequest: lambda request: pages.messages_page(request.messages),
    Message: pages.message_page,
    MediaContent: pages.media_page,
    LLMError: pages.error_page,
    list: _list,
}


class Formatters:
    """Registers the pages, and silences a value that its cell has shown already.

    Args:
        shell: The shell whose display is extended.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._before: dict[type, Any] = {}
        self._muted: set[type] = set()
        self._formatter: Any = shell.display_formatter

    def register(self) -> None:
        """Show our values in HTML from now on."""
        html = self._formatter.formatters["text/html"]
        for kind, page in _PAGES.items():
            self._before[kind] = html.type_printers.get(kind)
            html.for_type(kind, page)
        self._shell.events.register("post_run_cell", self._unmute)

    def unregister(self) -> None:
        """Show them as before."""
        html = self._formatter.formatters["text/html"]
        for kind, before in self._before.items():
            html.type_printers.pop(kind, None)
            if before is not None:
                html.for_type(kind, before)
        self._shell.events.unregister("post_run_cell", self._unmute)
        self._unmute()

    def mute(self, value: Any) -> None:
        """Let the cell return `value` without displaying it again."""
        # This formatter is asked first, and whoever it knows is displayed no further.
        self._muted.add(type(value))
        self._formatter.ipython_display_formatter.for_type(type(value), _nothing)

    def _unmute(self, *_: Any) -> None:
        while self._muted:
            printers = self._formatter.ipython_display_formatter.type_printers
            printers.pop(self._muted.pop(), None)


def _nothing(value: Any) -> None:
    """Display nothing."""
