"""What crosses from threads to an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from pathlib import Path

import pytest

from aitoolman._loops import Doorbell


@pytest.fixture(params=["eventfd", "plain"])
def way(request, monkeypatch):
    """With the system's eventfd, and as on systems that have none."""
    if request.param == "plain":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("there is no eventfd here")


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")  # where there is one
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


async def test_nothing_that_threads_leave_is_missed(way):
    """Four threads put in 1,000 things each and ring: the loop takes out all of them."""
    box: deque[int] = deque()
    taken: list[int] = []
    complete = asyncio.Event()

    def answer() -> None:
        while box:
            taken.append(box.popleft())
        if len(taken) == 4000:
            complete.set()

    bell = Doorbell(answer)

    def put(first: int) -> None:
        for number in range(first, first + 1000):
            box.append(number)
            bell.ring()

    threads = [threading.Thread(target=put, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(20):
        await complete.wait()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(4000))
    bell.close()


async def test_a_closed_bell_leaves_no_file_behind(way):
    """Its descriptor is closed, and the loop hears no more of it; again is fine."""
    before = open_files()
    bell = Doorbell(lambda: None)
    bell.close()
    bell.close()
    assert open_files() == before


def test_a_ring_after_the_end_of_the_loop_harms_nobody(way):
    """A thread that is late: nothing is called; what may be raised is a RuntimeError."""
    called: list[int] = []

    async def main() -> Doorbell:
        return Doorbell(lambda: called.append(1))

    bell = asyncio.run(main())
    try:
        bell.ring()
    except RuntimeError:
        assert not hasattr(os, "eventfd")
    bell.close()
    assert not called
