"""`enable_nested_loops`: an event loop inside a running one, only for those who ask for it."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["enable_nested_loops"]


def enable_nested_loops() -> None:
    """Allow ``asyncio.run`` and ``run_until_complete`` inside a running event loop.

    It patches asyncio for the whole process with nest-asyncio2 (or nest-asyncio where it does no
    harm). The library itself never needs it: cells can ``await``, and ``app.sync`` waits without.

    Raises:
        ModuleNotFoundError: Neither package is installed.
        RuntimeError: Only nest-asyncio 1 is there, with an ipykernel where it loses queued cells.
    """
    if importlib.util.find_spec("nest_asyncio2") is not None:
        import nest_asyncio2

        nest_asyncio2.apply()
        return
    if importlib.util.find_spec("nest_asyncio") is None:
        raise ModuleNotFoundError(
            "nested event loops need a package: pip install 'aitoolman[nested]'"
        )
    if _loses_cells():
        raise RuntimeError(
            "nest-asyncio 1 loses queued cells with ipykernel 7.1 and later; install nest-asyncio2"
            " (pip install 'aitoolman[nested]')"
        )
    import nest_asyncio

    nest_asyncio.apply()


def _loses_cells() -> bool:
    ipykernel = sys.modules.get("ipykernel")
    return ipykernel is not None and tuple(ipykernel.version_info[:2]) >= (7, 1)
