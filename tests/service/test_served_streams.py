"""tests/provider/test_streams.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

LEFT_OUT = ["test_a_dropped_stream_keeps_its_text"]  # names the vendor's address

globals().update(rerun("tests.provider.test_streams", LEFT_OUT))
make_desk = served_desk
