"""tests/provider/test_adaptive.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

globals().update(rerun("tests.provider.test_adaptive"))
make_desk = served_desk
