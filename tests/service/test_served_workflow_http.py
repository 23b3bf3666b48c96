"""tests/workflow/test_http.py through a server."""

from __future__ import annotations

from .served import ServedClient, rerun

LEFT_OUT = [
    # the exchange with the vendor stays at the server
    "test_a_vendor_s_failure_reaches_the_error",
    # reads the local ledger
    "test_a_fork_with_a_ledger_asks_only_what_changed",
]

globals().update(rerun("tests.workflow.test_http", LEFT_OUT, connect=ServedClient))
