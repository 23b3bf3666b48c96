"""tests/transport/test_local.py through a server."""

from __future__ import annotations

from .served import ServedClient, rerun

LEFT_OUT = [
    # programs of their own, which name the class themselves
    "test_interpreter_ends_quietly_with_a_client_in_use",
    "test_interrupt_of_a_sync_call_ends_its_request",
    # look at the manager, or at its connections, which are the server's
    "test_storm_from_two_loops_leaves_nothing",
    "test_forgotten_client_closes_its_connections",
    # enters again a client whose server was closed with it
    "test_request_of_a_closed_client_says_so",
]

globals().update(rerun("tests.transport.test_local", LEFT_OUT, LLMLocalClient=ServedClient))
