"""tests/provider/test_retry.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

LEFT_OUT = [
    # steps the one loop that test and manager share
    "test_a_waiting_attempt_holds_no_slot_and_keeps_its_place",
    # changes the manager itself
    "test_jitter_only_adds_and_at_most_half",
]

globals().update(rerun("tests.provider.test_retry", LEFT_OUT))
make_desk = served_desk
