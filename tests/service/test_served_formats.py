"""tests/provider/formats/test_over_http.py through a server."""

from __future__ import annotations

from .served import rerun, served_desk

globals().update(rerun("tests.provider.formats.test_over_http"))
make_desk = served_desk
