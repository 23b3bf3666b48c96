"""The life of one request: whatever happens, one answer, both messages ended, one callback."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, NamedTuple

from .._datamodel import FinishReason, LLMApiRequestError, LLMConfigError, LLMProviderResponse
from .errors import SinkFailed
from .reply import ReplyWriter
from .traffic import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._datamodel import LLMProviderRequest
    from .._secrets import Redactor
    from .pursuit import Pursuit

    Callback = Callable[[LLMProviderRequest], Awaitable[object]]

__all__ = ["Desk", "Job", "blank_response"]

END_SECONDS = 0.5
"""How long a cancelled request waits for its sinks to take the end of their messages."""


def blank_response(request: LLMProviderRequest) -> LLMProviderResponse:
    """A response to `request` that says nothing yet."""
    return LLMProviderResponse(
        client_id=request.client_id,
        context_id=request.context_id,
        request_id=request.request_id,
        model_name=request.model_name,
        stream=request.stream,
    )


class Desk(NamedTuple):
    """Whoever has requests worked on: the manager."""

    pursuit: Callable[[Job, ReplyWriter], Pursuit]
    """Gives what fills the job's response. Raises LLMApiRequestError or LLMConfigError where the
    request cannot be worked on."""
    answered: Callable[[Job], None]
    """Called just before the answer is set."""
    ended: Callable[[Job], None]
    """Called when the job's task is over, its callback included."""


class Job:
    """Runs the work for one request in a task of its own.

    Args:
        request: Its ``response`` future gets the answer; cancelling that future ends the work.
        desk: Does the work, and is told of its end.
        redactor: Keeps secrets out of messages.
        callback: Awaited once after the answer is set.
    """

    __slots__ = (
        *("_answered", "_callback", "_desk", "_ending", "_future", "_redactor", "_working"),
        *("request", "response", "task"),
    )

    def __init__(
        self,
        request: LLMProviderRequest,
        desk: Desk,
        redactor: Redactor,
        callback: Callback | None,
    ) -> None:
        self.request = request
        self.response = blank_response(request)
        self._desk = desk
        self._redactor = redactor
        self._callback = callback
        self._working = False
        self._ending: asyncio.Timeout | None = None
        self._answered = False
        self._future = request.response
        self._future.add_done_callback(self._on_future_done)
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._run(), name=request.request_id)
        self.task.add_done_callback(self._on_task_done)

    def cancel(self) -> None:
        """End the work; the answer has the status ``cancelled``. Again, or too late, is fine."""
        if not self._future.done():
            self.request.is_cancelled = True
        if self._working:
            self._working = False
            self.request.is_cancelled = True
            self.task.cancel()
        elif self._ending is not None:
            self._hurry(self._ending)

    def _on_future_done(self, future: asyncio.Future[LLMProviderResponse]) -> None:
        if future.cancelled():
            self.request.is_cancelled = True
            self.cancel()

    async def _run(self) -> None:
        writer = ReplyWriter(self.request.output_channel, self.request.reasoning_channel)
        foreign: BaseException | None = None
        try:
            if self.request.is_cancelled or self._future.cancelled():
                self._mark_cancelled()
            else:
                self._working = True
                await self._desk.pursuit(self, writer).run()
        except asyncio.CancelledError as exc:
            foreign = self._note_cancel(exc)
        except (LLMApiRequestError, LLMConfigError) as exc:
            self._fail(FinishReason.error_request, str(exc))
        except SinkFailed as exc:
            self._fail(FinishReason.error_app, str(exc))
        except Exception as exc:  # noqa: BLE001 - every request gets an answer
            self._note_bug(exc)
        self._working = False
        await self._end_messages(writer)
        self._answer()
        await self._call_back()
        if foreign is not None:
            raise foreign

    def _note_cancel(self, exc: asyncio.CancelledError) -> asyncio.CancelledError | None:
        """Take our own cancel as done with; one from elsewhere travels on afterwards."""
        self._mark_cancelled()
        task = asyncio.current_task()
        if self.request.is_cancelled and task is not None:
            return exc if task.uncancel() else None
        return exc

    def _mark_cancelled(self) -> None:
        self.response.finish_reason = FinishReason.cancelled.value
        self.response.error_text = "the request was cancelled"

    def _note_bug(self, exc: Exception) -> None:
        details = self._redactor.text("".join(traceback.format_exception(exc)))
        log.error("request %s failed unexpectedly\n%s", self.request.request_id, details)
        self._fail(FinishReason.error, f"{type(exc).__name__}: {exc}")

    def _fail(self, finish: FinishReason, text: str) -> None:
        self.response.finish_reason = finish.value
        self.response.error_text = self._redactor.text(text)

    async def _end_messages(self, writer: ReplyWriter) -> None:
        if self.request.output_channel is None and self.request.reasoning_channel is None:
            return
        try:
            async with asyncio.timeout(None) as self._ending:
                if self.request.is_cancelled:
                    self._hurry(self._ending)
                await writer.finish()
        except Exception as exc:  # noqa: BLE001 - a caller's sink may raise anything
            if self.response.error_text is None:
                text = f"the output channel failed: {type(exc).__name__}: {exc}"
                self._fail(FinishReason.error_app, text)

        finally:
            self._ending = None

    def _hurry(self, ending: asyncio.Timeout) -> None:
        """Nobody waits for the text any more: a sink that dawdles does not hold the answer."""
        ending.reschedule(asyncio.get_running_loop().time() + END_SECONDS)

    def _answer(self) -> None:
        self._answered = True
        self._desk.answered(self)
        if not self._future.done():
            self._future.remove_done_callback(self._on_future_done)
            self._future.set_result(self.response)

    async def _call_back(self) -> None:
        callback, self._callback = self._callback, None
        if callback is None:
            return
        try:
            await callback(self.request)
        except Exception as exc:  # noqa: BLE001 - and so may its callback
            details = self._redactor.text("".join(traceback.format_exception(exc)))
            log.error("the callback of %s failed\n%s", self.request.request_id, details)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """The last word: also for a task that was cancelled before it began."""
        if not self._answered:
            self._mark_cancelled()
            self._answer()
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("request %s ended with %s", self.request.request_id, type(exc).__name__)
        self._desk.ended(self)
