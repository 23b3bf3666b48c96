"""Examples 3.1.4, 8.2, 8.3 and 10.3 with the one line changed that makes the client."""

from __future__ import annotations

from ..examples.test_application_examples import PROJECT
from .served import rerun, served_project

LEFT_OUT = ["test_8_3_runs_on_the_embedded_model"]  # see test_embedded.py

globals().update(rerun("tests.examples.test_application_examples", LEFT_OUT))
project = served_project(PROJECT)
