"""tests/provider/test_storm.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

globals().update(rerun("tests.provider.test_storm"))
make_desk = served_desk
