"""tests/provider/test_inspection.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

LEFT_OUT = [
    # address and headers stay at the server
    "test_a_preview_is_the_request_that_would_be_sent",
    "test_a_preview_needs_no_key",
    # makes a manager of its own
    "test_a_preview_of_the_embedded_model_starts_nothing",
]

globals().update(rerun("tests.provider.test_inspection", LEFT_OUT))
make_desk = served_desk
