"""One ``[api]`` entry at work: resolved when first used, with its limits and its cooldown."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from .._secrets import mask_headers, mask_url
from .limits import ModelLimits
from .traffic import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._config import ModelEntry, ResolvedEntry
    from .._secrets import Redactor
    from .clock import Clock
    from .errors import Failure
    from .formats.base import LLMFormatStrategy
    from .http import Destination
    from .llamacpp import Lease

__all__ = ["Endpoint", "Target", "make_target"]


FIRST_ANSWER = 256.0
"""Tokens of an answer, as long as none was seen."""


class Target(NamedTuple):
    """Where requests of an entry go, in which format, and what of that may be shown."""

    destination: Destination
    strategy: LLMFormatStrategy
    shown_url: str
    shown_headers: dict[str, str]
    lease: Lease | None = None


class Endpoint:
    """An entry of the configuration in use.

    Args:
        entry: The entry.
        clock: The source of time.
        redactor: Learns the entry's secrets when it is resolved.
    """

    def __init__(self, entry: ModelEntry, clock: Clock, redactor: Redactor) -> None:
        self.entry = entry
        self.name = entry.name
        self.limits = ModelLimits(
            clock,
            entry.parallel,
            entry.rpm,
            entry.tpm,
            adaptive=entry.adaptive,
            max_wait=entry.max_wait,
        )
        self._clock = clock
        self._redactor = redactor
        self.digest: str | None = None
        """Over what can change its answers; made by `describe`."""
        self._target: Target | None = None
        self._opening = asyncio.Lock()
        self._suspect = False
        self._usual_answer = FIRST_ANSWER
        self._cooled_until = 0.0
        self.cooled_for = ""
        """Why it is in cooldown."""

    # Cooldown

    @property
    def cooled(self) -> bool:
        """True while it is better to ask another."""
        return self._clock.monotonic() < self._cooled_until

    def cool(self, seconds: float, reason: str) -> None:
        """Others go first for so long."""
        self._cooled_until = max(self._cooled_until, self._clock.monotonic() + seconds)
        self.cooled_for = reason

    def warm(self) -> None:
        """It answered well."""
        self._cooled_until = 0.0

    def note_failure(self, failure: Failure, wait: float) -> None:
        """Cool down for a failure that is not the request's own fault."""
        self._suspect = failure.status is None
        if failure.kind == "wait" or failure.asked_wait:
            self.cool(max(wait, failure.asked_wait or 0.0), failure.text)
        elif failure.entry_at_fault:
            self.cool(self.entry.cooldown, failure.text)

    # Answers' length, for token budgets

    def expected_answer(self, options: Mapping[str, Any]) -> int:
        """Tokens that an answer may take: its limit where the request sets one, else the usual."""
        fields = {**self.entry.body_options, **options}
        for name in ("max_completion_tokens", "max_tokens"):
            limit = fields.get(name)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                return limit
        return round(self._usual_answer)

    def saw_answer(self, tokens: int | None) -> None:
        """Learn the usual length."""
        if tokens is not None:
            self._usual_answer += (tokens - self._usual_answer) * 0.1

    # Target

    async def target(self) -> Target:
        """Where to send; the embedded model is started by the first who asks.

        Raises:
            LLMConfigError: Variables are not set, or what came out of them is wrong.
            LLMApiRequestError: The embedded model cannot be started.
        """
        self._drop_dead_lease()
        if self._target is not None:
            return self._target
        if self.entry.type != "llamacpp":
            self._target = make_target(self.resolve(), self._redactor)
            return self._target
        async with self._opening:
            if self._target is None:
                self._target = await self._lease_target()
            return self._target

    def _drop_dead_lease(self) -> None:
        """After a failed attempt, see whether the embedded model still runs."""
        target = self._target
        if self._suspect and target is not None and target.lease is not None:
            self._suspect = False
            if (failure := target.lease.failure()) is not None:
                log.warning("the embedded model of %r is started again: %s", self.name, failure)
                self.close()

    def resolve(self) -> ResolvedEntry:
        """The entry with its variables put in; their values are secrets from now on.

        Raises:
            LLMConfigError: Variables are not set, or what came out of them is wrong.
        """
        resolved = self.entry.resolve()
        for secret in resolved.secrets:
            self._redactor.add(secret)
        return resolved

    async def _lease_target(self) -> Target:
        from .llamacpp import LlamaSettings, acquire

        resolved = self.resolve()
        lease = await acquire(LlamaSettings.from_entry(resolved))
        self._redactor.add(lease.api_key)
        try:
            config = resolved.config | {"url": lease.url, "api_key": lease.api_key}
            at_lease = dataclasses.replace(
                resolved, url=lease.url, api_key=lease.api_key, config=config
            )
            return make_target(at_lease, self._redactor)._replace(lease=lease)
        except BaseException:
            lease.release()
            raise

    def close(self) -> None:
        """Give the embedded model back, stop timers."""
        self.limits.close()
        target, self._target = self._target, None
        if target is not None and target.lease is not None:
            target.lease.release()


def make_target(resolved: ResolvedEntry, redactor: Redactor) -> Target:
    """The target of a resolved entry.

    Raises:
        LLMConfigError: There is no such format, or it refuses its configuration.
    """
    from multidict import CIMultiDict
    from yarl import URL

    from .formats.registry import make_format
    from .http import Destination

    strategy = make_format(resolved.config["type"], resolved.config)
    headers = CIMultiDict({"Content-Type": "application/json", "Accept-Encoding": "identity"})
    headers.update(strategy.request_headers())
    headers.update(resolved.headers)
    url, clean = resolved.url or "", redactor.text
    shown = {name: clean(value) for name, value in mask_headers(headers).items()}
    return Target(Destination(URL(url), headers), strategy, clean(mask_url(url)), shown)
