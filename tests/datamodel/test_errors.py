"""Finish reasons, the error tree, and the page that documents both."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import aitoolman
from aitoolman import FinishReason, LLMDirectRequest, LLMModuleResult
from aitoolman._datamodel import errors

PRINTED = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "error": "error",
    "error_request": "error: request",
    "error_format": "error: format",
    "error_app": "error: application",
    "cancelled": "cancelled",
    "unknown": "unknown",
}
RAISED = {
    "length": "LLMLengthLimitError",
    "content_filter": "LLMContentFilterError",
    "error": "GenericError",
    "error_request": "LLMApiRequestError",
    "error_format": "LLMResponseFormatError",
    "error_app": "LLMApplicationError",
    "cancelled": "LLMCancelledError",
    "unknown": "LLMUnknownError",
}
ERROR_CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


def test_members_and_values_are_the_printed_ones():
    """FinishReason has exactly the printed members."""
    assert {member.name: member.value for member in FinishReason} == PRINTED


@pytest.mark.parametrize("name", PRINTED)
def test_raise_for_status_raises_the_class_of_the_reason(name):
    """Each bad reason raises its own class with the error text; good ones pass."""
    if name not in RAISED:
        FinishReason[name].raise_for_status("ignored")
        return
    with pytest.raises(getattr(aitoolman, RAISED[name]), match="what happened") as caught:
        FinishReason[name].raise_for_status("what happened")
    assert type(caught.value).__name__ == RAISED[name]


def test_raise_for_status_of_none_passes():
    """An unset reason is no failure."""
    FinishReason.raise_for_status(None)


@pytest.mark.parametrize("word", ["tool_use", "", None, "STOP"])
def test_a_word_nobody_knows_is_unknown(word):
    """Any other word of a vendor becomes `unknown`."""
    assert FinishReason.of(word) is FinishReason.unknown


def test_a_result_raises_with_itself_attached():
    """Who catches the error finds the partial answer in it."""
    result = LLMModuleResult(
        "m", None, LLMDirectRequest("m", []), response_text="part", status=FinishReason.length
    )
    with pytest.raises(aitoolman.LLMLengthLimitError) as caught:
        result.raise_for_status()
    assert caught.value.result.response_text == "part"


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind):
    """Errors cross process borders with their message and attributes."""
    if kind is errors.LLMConfigError:
        error = kind([errors.ConfigProblem("api.x", "is wrong")], "a.toml")
    else:
        error = kind("what happened")
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert twin.__dict__ == error.__dict__


def test_the_tree_is_as_documented():
    """What people catch: everything of a call is an LLMError, unknown names are also KeyErrors."""
    call_errors = [k for k in ERROR_CLASSES if k is not errors.LLMConfigError]
    assert all(issubclass(kind, aitoolman.LLMError) for kind in call_errors)
    assert issubclass(aitoolman.LLMError, RuntimeError)
    assert issubclass(aitoolman.LLMUnknownNameError, (KeyError, aitoolman.LLMApplicationError))
    assert issubclass(aitoolman.TaskDependencyError, aitoolman.LLMWorkflowError)
    assert issubclass(aitoolman.LLMConfigError, ValueError)


def test_unknown_name_error_shows_its_message_plainly():
    """Unlike KeyError, the message is not wrapped in quotes."""
    assert str(aitoolman.LLMUnknownNameError("no module 'x'")) == "no module 'x'"


def test_config_error_lists_every_problem():
    """One line per mistake, each with file and key."""
    problems = [errors.ConfigProblem("a.b", "one"), errors.ConfigProblem("c", "two")]
    error = errors.LLMConfigError(problems, "f.toml")
    assert str(error).splitlines() == ["f.toml: a.b: one", "f.toml: c: two"]


def test_the_page_names_every_error_and_every_reason():
    """docs/errors.md is complete."""
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    missing = [k.__name__ for k in ERROR_CLASSES if f"`{k.__name__}`" not in page]
    missing += [member.value for member in FinishReason if f"`{member.value}`" not in page]
    assert not missing
