"""``%load_ext aitoolman``: everything put in place, and taken away again."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .._transport.collectors import DefaultTextChannelCollector
from .._transport.show import set_show_factory
from .cells import AWAITING, AwaitingCells
from .guard import Guards
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from .._transport.channel_base import Channel
    from .._transport.collectors import ChannelCollector

__all__ = ["Extension", "load", "unload"]

_loaded: weakref.WeakKeyDictionary[InteractiveShell, Extension] = weakref.WeakKeyDictionary()
_sessions: weakref.WeakKeyDictionary[InteractiveShell, Session] = weakref.WeakKeyDictionary()
"""They outlive the extension: ``%reload_ext`` takes it away and puts it back."""
MAGICS = ("aitoolman", "llm_config", "llm_module", "llm_log")


class Extension:
    """What the extension holds for one shell."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        from .completion import Completion
        from .display import Formatters
        from .magics import LLMMagics

        self.shell = shell
        self.session = session
        self.guards = Guards(shell)
        self._cells = AwaitingCells(shell, self.guards)
        self._magics = LLMMagics(self)
        self._formatters = Formatters(shell)
        self._completion = Completion(session, shell)

    @property
    def in_notebook(self) -> bool:
        """False in a terminal."""
        return hasattr(self.shell, "kernel")

    def collector(self, channels: Mapping[str, Channel[Any]]) -> ChannelCollector:
        """What shows channels in the cell that runs now."""
        if not self.in_notebook:
            return DefaultTextChannelCollector(channels)
        from .collector import NotebookChannelCollector

        app = self.session.current
        guard = self.guards.current
        collector = NotebookChannelCollector(
            channels, stop=self._stop(), reason=lambda: guard.reason if guard else None
        )
        if app is not None:
            collector.follow(app)
        return collector

    def _stop(self) -> Any:
        """What a Stop button calls; None where its click would not come through."""
        guard = self.guards.current
        if guard is None or not _button_works():
            return None
        return lambda: guard.stop("stopped")

    def displayed(self, result: Any) -> None:
        """`result` is on the screen: as the cell's value it is not shown again."""
        self._formatters.mute(result)

    def load(self) -> None:
        """Put everything in place."""
        self.guards.register()
        self.shell.input_transformers_post.append(self._cells)
        self.shell.register_magics(self._magics)
        for name, awaited in AWAITING.items():
            function = getattr(self._magics, f"awaited_{name}")
            self.shell.register_magic_function(function, "line_cell", awaited)
        self._formatters.register()
        self._completion.register()
        set_show_factory(self.collector)

    def unload(self) -> None:
        """Take everything away again."""
        set_show_factory(None)
        self._completion.unregister()
        self._formatters.unregister()
        registered = self.shell.magics_manager.magics
        for name in (*MAGICS, *AWAITING.values()):
            for kind in registered.values():
                kind.pop(name, None)
        self.shell.input_transformers_post.remove(self._cells)
        self.guards.unregister()


def _button_works() -> bool:
    """From ipykernel 7 on, a click is heard while a cell awaits."""
    from ipykernel._version import version_info

    return tuple(version_info) >= (7,)


def load(shell: InteractiveShell) -> None:
    """Load the extension into a shell; again is fine, and keeps the application."""
    unload(shell)
    extension = Extension(shell, _sessions.setdefault(shell, Session()))
    extension.load()
    _loaded[shell] = extension


def unload(shell: InteractiveShell) -> None:
    """Take the extension out of a shell; again is fine."""
    extension = _loaded.pop(shell, None)
    if extension is not None:
        extension.unload()
