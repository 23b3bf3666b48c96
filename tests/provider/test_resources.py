"""`ResourceManager`: slots by key, under cancellation, growth and removal."""

from __future__ import annotations

import asyncio

import pytest

from aitoolman import LLMApplicationError, ResourceManager

from ..virtual_clock import settle


async def test_no_more_than_the_capacity_are_inside():
    """Twenty tasks on three slots: never more than three at once, all get in, in order."""
    manager, inside, most, order = ResourceManager({"gpu": 3}), 0, 0, []

    async def work(n):
        nonlocal inside, most
        async with manager.acquire("gpu", f"task {n}"):
            inside += 1
            most = max(most, inside)
            order.append(n)
            await settle()
            inside -= 1

    await asyncio.gather(*[work(n) for n in range(20)])
    assert (most, order) == (3, list(range(20)))
    stats = manager.get_stats("gpu")
    assert stats == {"capacity": 3, "in_use": 0, "waiting": 0, "available": 3, "tasks": []}


async def test_stats_show_who_is_inside_and_who_waits():
    """A snapshot names the tasks, those inside first."""
    manager = ResourceManager({"gpu": 1})

    async def hold(name):
        async with manager.acquire("gpu", name):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold(name)) for name in ("one", "two", "three")]
    await settle()
    stats = manager.get_stats("gpu")
    assert stats["tasks"] == ["one", "two", "three"]
    assert (stats["in_use"], stats["waiting"], manager.get_queue_length("gpu")) == (1, 2, 2)
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    assert manager.get_stats("gpu")["tasks"] == ["three"]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert manager.get_stats("gpu")["in_use"] == 0


async def test_adding_an_existing_key_sets_its_capacity():
    """Growth lets waiters in at once."""
    manager = ResourceManager({"gpu": 0})
    task = asyncio.create_task(manager.acquire("gpu").__aenter__())
    await settle()
    assert not task.done()
    await manager.add_resource("gpu", 1)
    await settle()
    assert task.done()


async def test_a_resource_in_use_goes_only_by_force():
    """Waiters get an error, the one inside finishes in peace, and the key is free again."""
    manager = ResourceManager()
    await manager.add_resource("gpu", 1)
    async with manager.acquire("gpu"):
        waiter = asyncio.create_task(manager.acquire("gpu").__aenter__())
        await settle()
        with pytest.raises(LLMApplicationError, match="in use by 1 and waited for by 1"):
            await manager.remove_resource("gpu")
        await manager.remove_resource("gpu", force=True)
        with pytest.raises(LLMApplicationError, match="'gpu' was removed"):
            await waiter
        await manager.add_resource("gpu", 1)
        async with manager.acquire("gpu"):
            pass
    assert manager.get_stats("gpu")["in_use"] == 0


async def test_an_exception_inside_gives_the_slot_back():
    """Whatever happens inside, the slot returns and the exception travels on."""
    manager = ResourceManager({"gpu": 1})
    with pytest.raises(ZeroDivisionError):
        async with manager.acquire("gpu"):
            raise ZeroDivisionError
    assert manager.get_stats("gpu")["available"] == 1


async def test_an_unknown_key_names_the_nearest():
    """Every verb says which resources there are."""
    manager = ResourceManager({"gpu": 1})
    for verb in (manager.get_stats, manager.get_queue_length):
        with pytest.raises(KeyError, match="did you mean 'gpu'"):
            verb("gpus")
    with pytest.raises(KeyError):
        await manager.remove_resource("gpus")
    with pytest.raises(KeyError):
        async with manager.acquire("gpus"):
            pass


@pytest.mark.parametrize("capacity", [-1, 1.5, True, "3", None])
async def test_a_capacity_is_a_whole_number(capacity):
    """A wrong capacity is refused when given, by key."""
    with pytest.raises(ValueError, match="'gpu' must be a whole number"):
        ResourceManager({"gpu": capacity})
    manager = ResourceManager({"gpu": 2})
    with pytest.raises(ValueError, match="whole number"):
        await manager.add_resource("gpu", capacity)
    assert manager.get_stats("gpu")["capacity"] == 2
