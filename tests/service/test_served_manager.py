"""tests/provider/test_manager.py through a server."""

from __future__ import annotations

from ..provider.conftest import make_sink, sink  # noqa: F401 - fixtures
from .served import rerun, served_desk

LEFT_OUT = [
    # the manager's own callbacks, tasks, clients, logs and exchanges are the server's affair
    "test_a_callback_that_fails_is_logged_without_secrets",
    "test_a_bug_in_a_format_is_an_answer",
    "test_cancel_all_knows_clients_contexts_and_those_below",
    "test_cancelling_the_task_itself_answers_and_travels_on",
    "test_close_ends_everything",
    "test_close_does_not_wait_for_ever_for_a_callback",
    "test_debug_records_show_what_went_over_the_wire",
    "test_the_exchange_holds_what_was_sent_and_what_came",
    # settles by turns of one loop; see test_reliability.py for turns between clients
    "test_an_interactive_call_is_not_behind_a_batch",
    # with a server, the same id is the same request
    "test_the_same_id_twice_is_refused_while_it_runs",
    # what cannot be encoded is found out before it is sent
    "test_a_request_that_cannot_be_sent_is_an_answer",
]

globals().update(rerun("tests.provider.test_manager", LEFT_OUT))
make_desk = served_desk
