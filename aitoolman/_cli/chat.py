"""A conversation in the terminal: one turn at a time, streamed, kept as context."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMDirectRequest, MediaContent, Message

if TYPE_CHECKING:
    from .._application.app import LLMApplication
    from .._datamodel import LLMModuleResult

__all__ = ["Chat", "media_from"]


class Chat:
    """Turns of a conversation with a model, or with a module.

    Args:
        app: The application; its channels get the text.
        model: The model to talk to, or None for the module's own.
        module: A module whose one open variable takes each message; None sends messages plainly.
        system: The system prompt.
        options: Request options such as ``max_tokens``.
        stream: Show the answer while it comes.
    """

    def __init__(
        self,
        app: LLMApplication,
        model: str | None,
        module: str | None = None,
        system: str | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = True,
    ) -> None:
        self.app = app
        self._model = model
        self._module = module
        self._system = system
        self._options = options
        self._stream = stream
        self._turns: list[Message] = []
        self.media: list[MediaContent] = []
        """Goes out with the next message."""

    def reset(self) -> None:
        """Forget the conversation."""
        self._turns.clear()
        self.media.clear()

    def say(self, text: str) -> LLMModuleResult:
        """Send one message and wait for the whole answer; a good one is kept as context.

        Raises:
            LLMApplicationError: The module does not take exactly one message.
            KeyboardInterrupt: The answer was interrupted; the message is not kept.
        """
        media, self.media = list(self.media), []
        user = Message("user", text, media or None)
        result = self._through_module(text, media) if self._module else self._plainly(user)
        if not result.status.is_error:
            answer = result.response_message or Message("assistant", result.response_text)
            self._turns += [user, answer]
        return result

    def _plainly(self, user: Message) -> LLMModuleResult:
        system = [Message("system", self._system)] if self._system else []
        request = LLMDirectRequest(
            self._model or "",
            [*system, *self._turns, user],
            options=self._options,
            stream=self._stream,
            output_channel="stdout",
            reasoning_channel="reasoning",
        )
        result: LLMModuleResult = self.app.sync.call(request)
        return result

    def _through_module(self, text: str, media: list[MediaContent]) -> LLMModuleResult:
        assert self._module is not None
        name = open_variable(self.app, self._module)
        system = [Message("system", self._system)] if self._system else []
        overrides: dict[str, Any] = {
            "_context_messages": [*system, *self._turns],
            "_media_content": media or None,
            "_stream": self._stream,
            "_model_name": self._model,
            "_options": self._options,
            "_output_channel": "stdout",
            "_reasoning_channel": "reasoning",
        }
        result: LLMModuleResult = self.app.sync[self._module](**{name: text}, **overrides)
        return result


def open_variable(app: LLMApplication, module: str) -> str:
    """The one variable of a module that a message fills.

    Raises:
        LLMApplicationError: There is none, or there are several.
    """
    from .._datamodel import LLMApplicationError

    names = app[module].variables
    if len(names) == 1:
        return names[0]
    found = ", ".join(names) or "none"
    raise LLMApplicationError(
        f"module {module!r} must have exactly one open variable to chat through it, it has: {found}"
    )


def media_from(path: str) -> MediaContent:
    """A media file for the next message, its kind told by its name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Its kind cannot be told.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    mime = mimetypes.guess_type(file.name)[0] or ""
    kind = mime.split("/")[0]
    if kind not in ("image", "video", "audio"):
        kind = "document" if mime in ("application/pdf", "text/plain") else ""
    if not kind:
        raise ValueError(f"{path}: what kind of file this is cannot be told from its name")
    return MediaContent(kind, filename=str(file), mime_type=mime)
