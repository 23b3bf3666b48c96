"""The work of an `LLMZmqClient`: calls over one or several links.

A call goes to the ready server with the fewest calls under way, calls of one context to the same
one. A server that is lost gets its calls asked for again: by itself when it comes back, or by
another one, if nothing of the answer was passed on yet. A call always ends: with an answer, or with
an error that says which server is gone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from .._datamodel import (
    LLMApiRequestError,
    LLMApplicationError,
    LLMError,
    ModelDescription,
    RequestPreview,
)
from .._transport import wire
from .link import Link, Timing
from .media import load_media
from .remote_call import RemoteCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._datamodel import LLMProviderRequest, Message
    from .security import TokenKeys

__all__ = ["RemoteEngine"]

MAX_CONTEXTS = 10_000
"""How many contexts' servers are remembered."""
WATCH_SECONDS = 0.5
BUSY_SECONDS = (0.1, 2.0)
"""First and longest wait before a full server is asked again."""


class RemoteEngine:
    """Carries calls to servers.

    Args:
        endpoints: Where the servers are.
        keys: Of the token; None without one.
        timing: For tests.
    """

    def __init__(self, endpoints: Sequence[str], keys: TokenKeys | None, timing: Timing) -> None:
        self._endpoints = endpoints
        self._keys = keys
        self._timing = timing
        self._links: list[Link] = []
        self._calls: dict[str, RemoteCall] = {}
        self._waiting: deque[RemoteCall] = deque()
        """Calls that no server has now."""
        self._contexts: OrderedDict[str, Link] = OrderedDict()
        self._questions: dict[str, tuple[Link, asyncio.Future[tuple[wire.Header, bytes]]]] = {}
        self._numbers = itertools.count(1)
        self._abandoned: dict[Link, set[str]] = {}
        """Calls that another server took over: to be cancelled where they were."""
        self._watcher: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def links(self) -> list[Link]:
        return self._links

    def _begin(self) -> None:
        """Settle on the running loop, which is the home loop from the first use on."""
        if not self._links:
            self._loop = asyncio.get_running_loop()
            self._links = [Link(e, self._keys, self, self._timing) for e in self._endpoints]
            self._turn = itertools.cycle(range(len(self._links)))
            self._abandoned = {link: set() for link in self._links}

    # What a homed client needs

    def submit(self, request: LLMProviderRequest) -> None:
        """Start a request and return at once; its ``response`` gets exactly one answer."""
        self._begin()
        call = RemoteCall(request, self)
        if request.request_id in self._calls:
            text = f"a request with the id {request.request_id!r} is under way already"
            call.fail(LLMApiRequestError(text))
            return
        self._calls[request.request_id] = call
        if request.is_cancelled or request.response.cancelled():
            call.end_cancelled()
        elif any(media.filename for message in request.messages for media in message.media):
            self.spawn(self._load_and_place(call))
        else:
            self._place(call)
        self._watch()

    async def cancel_request(self, request_id: str) -> None:
        """End a request; its answer is ``cancelled``, with the text so far. Unknown: ignored."""
        call = self._calls.get(request_id)
        if call is not None:
            self._cancel(call)

    async def cancel_all_requests(self, client_id: str, context_id: str | None = None) -> None:
        """End all requests, or those of one context and of those below (``ctx/1``)."""
        for call in list(self._calls.values()):
            if context_id is None or _within(call.request.context_id, context_id):
                self._cancel(call)

    async def close(self) -> None:
        """End all requests and connections."""
        for call in list(self._calls.values()):
            self._cancel(call)
            call.end_cancelled()
        for link, future in list(self._questions.values()):
            future.set_exception(LLMApiRequestError(f"the client of {link.endpoint} was closed"))
        if self._watcher is not None:
            self._watcher.cancel()
        for link in self._links:
            link.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """Run something beside the loop's callbacks, and keep it until it is done."""
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Calls

    async def _load_and_place(self, call: RemoteCall) -> None:
        """Read the files that a request names: the server never does."""
        try:
            call.messages = await asyncio.to_thread(load_media, call.request.messages)
        except (OSError, LLMError) as exc:
            call.fail(LLMApplicationError(f"a media file cannot be read: {exc}"))
            return
        self._place(call)

    def _place(self, call: RemoteCall) -> None:
        """Give a call to a server, or let it wait for one."""
        if call.ended:
            return
        link = self._choose(call)
        if link is None or not self._give(call, link):
            self._wait(call)

    def _wait(self, call: RemoteCall) -> None:
        call.link = None
        self._waiting.append(call)
        for link in [call.tied] if call.tied else self._links:
            link.wake()

    def _choose(self, call: RemoteCall) -> Link | None:
        if call.tied is not None:
            return call.tied if call.tied.ready else None
        context = call.request.context_id
        sticky = self._contexts.get(context) if context else None
        if sticky is not None and sticky.ready and _has_room(sticky):
            return sticky
        start = next(self._turn)
        ready = [link for link in self._in_turn(start) if link.ready and _has_room(link)]
        return min(ready, key=lambda link: link.outstanding, default=None)

    def _in_turn(self, start: int) -> list[Link]:
        return self._links[start:] + self._links[:start]

    def _give(self, call: RemoteCall, link: Link) -> bool:
        try:
            sent = link.send("request", call.request.request_id, call.pack())
        except LLMApplicationError as exc:
            call.fail(exc)
            return True
        if sent:
            self._note_given(call, link)
        return sent

    def _note_given(self, call: RemoteCall, link: Link) -> None:
        if call.last_link is not None and call.last_link is not link:
            self._abandon(call.last_link, call.request.request_id)
        self._abandoned[link].discard(call.request.request_id)
        call.link = call.last_link = link
        call.boot = link.welcome.boot if link.welcome else ""
        link.outstanding += 1
        context = call.request.context_id
        if context and len(self._links) > 1:
            self._contexts[context] = link
            self._contexts.move_to_end(context)
            if len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)

    def _abandon(self, link: Link, request_id: str) -> None:
        if len(self._abandoned[link]) < MAX_CONTEXTS:  # the server's lease ends the others
            self._abandoned[link].add(request_id)

    def _cancel(self, call: RemoteCall) -> None:
        """Ask the owner to end a call; one that nobody has ends here."""
        call.request.is_cancelled = True
        if call.ended:
            call.hurry()
        elif call.link is None or not call.link.send("cancel", call.request.request_id):
            call.end_cancelled()
        elif not call.cancelling:
            call.cancelling = True
            self._loop.call_later(self._timing.ping, call.end_cancelled)

    def leave(self, call: RemoteCall) -> None:
        """A call needs no server any more."""
        if call.link is None and call.last_link is not None:
            self._abandon(call.last_link, call.request.request_id)
        self._release(call)
        if self._waiting:
            self._place_waiting()

    def forget(self, call: RemoteCall) -> None:
        """A call has its answer."""
        if self._calls.get(call.request.request_id) is call:
            del self._calls[call.request.request_id]

    def drop(self, call: RemoteCall) -> None:
        """The caller has no more interest: the server needn't go on."""
        if call.link is not None:
            call.link.send("cancel", call.request.request_id)

    def _release(self, call: RemoteCall) -> None:
        if call.link is not None:
            call.link.outstanding -= 1
            call.link = None

    def _place_waiting(self) -> None:
        for _ in range(len(self._waiting)):
            if not any(link.ready and _has_room(link) for link in self._links):
                return
            self._place(self._waiting.popleft())

    # What links tell

    def on_ready(self, link: Link, same_boot: bool) -> None:
        """Cancel what others took over, ask again for what is still wanted."""
        for request_id in self._abandoned[link]:
            link.send("cancel", request_id)
        self._abandoned[link].clear()
        if not same_boot and link.welcome is not None and link.welcome.on_restart == "fail":
            self._fail_sent(link)
        self._place_waiting()

    def _fail_sent(self, link: Link) -> None:
        for call in list(self._calls.values()):
            if call.last_link is link and call.boot and call.link is None:
                call.fail(
                    LLMApiRequestError(
                        f"the server at {link.endpoint} was restarted while this request was under"
                        ' way, and is configured not to repeat it (on_server_restart = "fail")'
                    )
                )

    def on_down(self, link: Link) -> None:
        """Take a lost server's calls back, and give them to others where that is possible."""
        fixed = link.welcome is not None and link.welcome.on_restart == "fail"
        for call in [c for c in self._calls.values() if c.link is link]:
            self._release(call)
            if call.cancelling:
                call.end_cancelled()
                continue
            call.tied = link if fixed or call.has_any else None
            self._place(call)
        self._fail_questions(link, f"the connection to {link.endpoint} was lost")

    def on_refused(self, link: Link, reason: str) -> None:
        """End what only this server could do; where others may still have it, go on."""
        self._fail_questions(link, reason)
        for call in [c for c in self._calls.values() if c.link is link]:
            self._release(call)
            self._waiting.append(call)
        if any(other.ready or other.refusal is None for other in self._links):
            self._place_waiting()
            return
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.fail(LLMApiRequestError(reason))

    def has_work(self, link: Link) -> bool:
        return bool(self._calls or self._questions)

    def on_message(self, link: Link, header: wire.Header, body: memoryview) -> None:
        """A message about a call or a question."""
        if header.id in self._questions:
            self._on_said(header, bytes(body))
            return
        call = self._calls.get(header.id)
        if call is None or call.link is not link:
            return  # late: it ended here, or another server has it
        try:
            self._on_call_message(call, header.op, body)
        except ValueError as exc:
            text = f"the server at {link.endpoint} sent something that cannot be read: {exc}"
            call.fail(LLMApiRequestError(text))

    def _on_call_message(self, call: RemoteCall, op: str, body: memoryview) -> None:
        if op == "pieces":
            call.take(wire.decode(body, wire.Pieces))
        elif op == "answer":
            call.answer(wire.decode(body, wire.WireResponse))
        elif op == "busy":
            self._on_busy(call, wire.decode(body, wire.Busy))
        elif op == "refused":
            call.fail(_error_of(wire.decode(body, wire.Refusal)))

    def _on_busy(self, call: RemoteCall, busy: wire.Busy) -> None:
        """Ask again later, for as long as one waits for a server that is gone."""
        assert call.link is not None
        endpoint = call.link.endpoint
        self._release(call)
        now = self._loop.time()
        call.busy_since = call.busy_since or now
        if now - call.busy_since > self._timing.gone:
            text = f"the server at {endpoint} is full: {busy.queue_length:,} requests are in line"
            call.fail(LLMApiRequestError(text))
            return
        first, longest = BUSY_SECONDS
        delay = min(longest, first * 2**call.refusals)
        call.refusals += 1
        self._loop.call_later(delay, self._place, call)

    # Questions

    async def ask(self, op: str, body: wire.Wire, kind: Any) -> Any:
        """Ask any server something that is answered at once.

        Raises:
            LLMApiRequestError: No server answers, or none of that kind.
            LLMApplicationError: The question itself is wrong.
        """
        link = await self._any_ready()
        name = f"q{next(self._numbers)}"
        future: asyncio.Future[tuple[wire.Header, bytes]] = self._loop.create_future()
        self._questions[name] = (link, future)
        try:
            if not link.send(op, name, body):
                raise LLMApiRequestError(f"the connection to {link.endpoint} was lost")
            async with asyncio.timeout(self._timing.gone):
                header, data = await future
        except TimeoutError:
            text = f"the server at {link.endpoint} did not answer"
            raise LLMApiRequestError(text) from None
        finally:
            self._questions.pop(name, None)
        if header.op == "refused":
            raise _error_of(wire.decode(data, wire.Refusal))
        return wire.decode(data, kind)

    async def _any_ready(self) -> Link:
        """The ready server with the fewest calls; waits for one.

        Raises:
            LLMApiRequestError: None can be reached, with the reason.
        """
        self._begin()
        end = self._loop.time() + self._timing.gone
        marker = f"w{next(self._numbers)}"
        for link in self._links:
            link.wake()
        self._questions[marker] = (self._links[0], self._loop.create_future())
        try:
            while True:
                ready = [link for link in self._links if link.ready]
                if ready:
                    return min(ready, key=lambda link: link.outstanding)
                if all(link.refusal for link in self._links):
                    raise LLMApiRequestError(str(self._links[0].refusal))
                if self._loop.time() > end:
                    raise LLMApiRequestError(self._nobody())
                await asyncio.sleep(0.005)
        finally:
            self._questions.pop(marker)[1].cancel()

    def _on_said(self, header: wire.Header, body: bytes) -> None:
        future = self._questions[header.id][1]
        if not future.done():
            future.set_result((header, body))

    def _fail_questions(self, link: Link, reason: str) -> None:
        for name, (asked, future) in list(self._questions.items()):
            if asked is link and name.startswith("q") and not future.done():
                future.set_exception(LLMApiRequestError(reason))

    async def describe(self, model_name: str) -> ModelDescription:
        """What the server says of a model."""
        said = await self.ask("describe", wire.Ask(model_name), wire.Said)
        return ModelDescription(
            said.model_name, said.digest, tuple(said.entries), said.limits, said.price
        )

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None,
        options: dict[str, Any] | None,
        stream: bool,
    ) -> RequestPreview:
        """The body that the server would send, and what it would cost."""
        loaded = await asyncio.to_thread(load_media, messages)
        body = wire.WireRequest(
            model_name, wire.pack_messages(loaded), tools or {}, options or {}, stream
        )
        said = await self.ask("preview", body, wire.Said)
        return RequestPreview(
            said.model_name, list(messages), said.body, said.prompt_tokens, said.cost, said.max_cost
        )

    async def audit_event(self, context_id: str, event: str, fields: dict[str, Any]) -> None:
        """Put a business event into the server's audit; returns when it is written."""
        await self.ask("audit", wire.Audit(context_id, event, fields), wire.Said)

    # Time

    def _watch(self) -> None:
        if self._watcher is None and self._calls:
            self._watcher = self._loop.call_later(
                min(WATCH_SECONDS, self._timing.gone / 4), self._look
            )

    def _look(self) -> None:
        """End what waits for a server for too long."""
        self._watcher = None
        now = self._loop.time()
        for call in [c for c in self._waiting if c.ended]:
            self._waiting.remove(call)
        if not any(link.ready for link in self._links) or any(c.tied for c in self._waiting):
            for call in [c for c in self._waiting if self._is_hopeless(c, now)]:
                self._waiting.remove(call)
                call.fail(LLMApiRequestError(self._nobody(call)))
        for link in self._links if self._waiting else []:
            link.wake()
        self._watch()

    def _is_hopeless(self, call: RemoteCall, now: float) -> bool:
        links = [call.tied] if call.tied else self._links
        if any(link.ready for link in links):
            return False
        heard = max(link.last_heard for link in links)
        return now - max(heard, call.since) > self._timing.gone

    def _nobody(self, call: RemoteCall | None = None) -> str:
        links = [call.tied] if call is not None and call.tied else self._links
        names = " nor at ".join(link.endpoint for link in links)
        text = f"no server answers at {names}"
        refusals = [link.refusal for link in links if link.refusal]
        if refusals:
            text += f"; {refusals[0]}"
        if call is not None and call.has_any:
            text += "; the answer broke off in the middle"
        return text


def _has_room(link: Link) -> bool:
    welcome = link.welcome
    return welcome is not None and not link.closing and link.outstanding < welcome.max_requests


def _within(context_id: str | None, outer: str) -> bool:
    return context_id is not None and (context_id == outer or context_id.startswith(outer + "/"))


def _error_of(refusal: wire.Refusal) -> LLMError:
    kind = LLMApplicationError if refusal.kind == "application" else LLMApiRequestError
    return kind(refusal.reason)
