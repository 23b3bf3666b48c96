"""tests/application/test_with_server.py through a server."""

from __future__ import annotations

from .served import ServedClient, rerun

LEFT_OUT = ["test_one_program_text_awaits_and_waits"]  # asks for the vendor's address

globals().update(rerun("tests.application.test_with_server", LEFT_OUT, LLMLocalClient=ServedClient))
