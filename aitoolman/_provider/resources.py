"""Named resources with a number of slots each: `ResourceManager`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError, LLMUnknownNameError, did_you_mean
from .queue import Gate, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ResourceManager"]


class _Resource:
    """A gate, and who stands inside and in front of it."""

    def __init__(self, capacity: int) -> None:
        self.gate = Gate(capacity)
        self.names: dict[int, str | None] = {}


class ResourceManager:
    """Slots per key, given out in the order of asking.

    Use it for whatever must not be used by too many at once: a GPU, a database, a vendor outside
    this library. It belongs to the event loop it is used on.

    Args:
        capacities: Key to number of slots.

    Raises:
        ValueError: A capacity is no whole number of at least 0.
    """

    def __init__(self, capacities: dict[str, int] | None = None) -> None:
        self._resources: dict[str, _Resource] = {}
        for key, capacity in (capacities or {}).items():
            self._resources[key] = _Resource(_checked(key, capacity))

    def __repr__(self) -> str:
        shown = (f"{k!r}: {r.gate.in_use}/{r.gate.capacity}" for k, r in self._resources.items())
        return f"ResourceManager({{{', '.join(shown)}}})"

    @contextlib.asynccontextmanager
    async def acquire(self, key: str, task_name: str | None = None) -> AsyncIterator[None]:
        """Hold one slot of `key` inside ``async with``; waits in line for it.

        Args:
            key: The resource.
            task_name: Shown by `get_stats`.

        Raises:
            LLMUnknownNameError: There is no such resource (also a KeyError).
            LLMApplicationError: It was removed while this waited.
        """
        resource = self._find(key)
        ticket = Ticket()
        resource.names[ticket.number] = task_name
        try:
            await resource.gate.acquire(ticket)
            try:
                yield
            finally:
                resource.gate.release()
        finally:
            del resource.names[ticket.number]

    async def add_resource(self, key: str, capacity: int) -> None:
        """Add a resource, or give an existing one a new capacity.

        A smaller one takes effect as slots come back; nobody is interrupted.

        Raises:
            ValueError: `capacity` is no whole number of at least 0.
        """
        _checked(key, capacity)
        resource = self._resources.get(key)
        if resource is None:
            self._resources[key] = _Resource(capacity)
        else:
            resource.gate.capacity = capacity
            resource.gate.pump()

    async def remove_resource(self, key: str, force: bool = False) -> None:
        """Remove a resource.

        Args:
            key: The resource.
            force: Remove it although it is in use: those who wait get an `LLMApplicationError`,
                those inside finish in peace.

        Raises:
            LLMUnknownNameError: There is no such resource.
            LLMApplicationError: It is in use or waited for, and `force` was not given.
        """
        gate = self._find(key).gate
        if (gate.in_use or gate.queue) and not force:
            raise LLMApplicationError(
                f"the resource {key!r} is in use by {gate.in_use} and waited for by"
                f" {len(gate.queue)}; wait for them, or remove it with force=True"
            )
        del self._resources[key]
        gate.fail(lambda: LLMApplicationError(f"the resource {key!r} was removed"))

    def get_queue_length(self, key: str) -> int:
        """How many wait for `key`.

        Raises:
            LLMUnknownNameError: There is no such resource.
        """
        return len(self._find(key).gate.queue)

    def get_stats(self, key: str) -> dict[str, Any]:
        """A snapshot: ``capacity``, ``in_use``, ``waiting``, ``available``, and the ``tasks``.

        ``tasks`` lists the names of those inside, then of those waiting.

        Raises:
            LLMUnknownNameError: There is no such resource.
        """
        resource = self._find(key)
        gate = resource.gate
        waiting = {ticket.number for ticket in gate.queue}
        order = sorted(resource.names.items(), key=lambda item: (item[0] in waiting, item[0]))
        return {
            "capacity": gate.capacity,
            "in_use": gate.in_use,
            "waiting": len(gate.queue),
            "available": max(gate.capacity - gate.in_use, 0),
            "tasks": [name for _, name in order],
        }

    def _find(self, key: str) -> _Resource:
        try:
            return self._resources[key]
        except KeyError:
            hint = did_you_mean(str(key), self._resources)
            raise LLMUnknownNameError(f"there is no resource {key!r}; {hint}") from None


def _checked(key: str, capacity: int) -> int:
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0:
        raise ValueError(
            f"the capacity of {key!r} must be a whole number of at least 0, not {capacity!r}"
        )
    return capacity
