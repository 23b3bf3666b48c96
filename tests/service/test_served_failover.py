"""tests/provider/test_failover.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

LEFT_OUT = [
    # names the vendor's address
    "test_an_unreachable_entry_is_passed",
]

globals().update(rerun("tests.provider.test_failover", LEFT_OUT))
make_desk = served_desk
