"""Examples 3.2.4, 8.4 and 8.6 with the one line changed that makes the client."""

from __future__ import annotations

from ..examples.test_workflow_examples import PROJECT
from .served import rerun, served_project

LEFT_OUT = [
    # asks no model
    "test_8_4_runs_as_printed",
    # a program that is killed and goes on from its own ledger
    "test_8_5_analyzes_a_folder_tree",
    "test_8_5_killed_and_run_again_sends_only_what_was_unanswered",
    # scripted clients, in process
    "test_the_examples_can_be_stepped_unchanged",
    "test_a_workflow_runs_on_the_embedded_model",
]

globals().update(rerun("tests.examples.test_workflow_examples", LEFT_OUT))
project = served_project(PROJECT)
