"""What flows along edges: explicit input, then names, then the one whole output."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import (
    LLMDirectRequest,
    LLMModuleRequest,
    LLMTask,
    Message,
    Task,
    TaskDependencyError,
)
from aitoolman._workflow.dataflow import _of_code, _of_signature

from .flows import does, flow, gives, sent


async def received(child, *outputs):
    """What `child` gives after parents with these outputs, named ``P0``, ``P1`` ..."""
    workflow = flow()
    for index, output in enumerate(outputs):
        workflow.add_task(gives(output, f"P{index}"), child)
    await workflow.wait_tasks(child)
    return child.output_data


async def test_explicit_input_wins():
    """A parent's key of the same name is ignored."""
    assert await received(does(lambda x: x, {"x": 1}), {"x": 2}) == 1


async def test_keys_fill_parameters_of_the_same_name():
    """Keys that the function does not take are left out."""
    assert await received(does(lambda a, b=0: (a, b)), {"a": 1, "b": 2, "c": 3}) == (1, 2)


async def test_the_one_open_parameter_takes_the_whole_output():
    """A dict none of whose keys fits counts as a whole."""
    assert await received(does(lambda result: result), {"total": 6}) == {"total": 6}
    assert await received(does(lambda text: text), "hi") == "hi"


async def test_names_and_a_whole_output_together():
    """One parent is used by name, the other as a whole, whatever their order."""
    for outputs in (({"a": 1}, [2]), ([2], {"a": 1})):
        assert await received(does(lambda a, rest: (a, rest)), *outputs) == (1, [2])


async def test_a_parent_whose_keys_are_all_given_is_still_whole():
    """Nothing of it was used."""
    child = does(lambda a, rest: (a, rest), {"a": 0})
    assert await received(child, {"a": 1}) == (0, {"a": 1})


async def test_a_parent_that_gives_nothing_does_not_compete():
    """None is no candidate beside another output; alone it is taken."""
    assert await received(does(lambda x: x), None, 5) == 5
    assert await received(does(lambda x: x), None) is None


async def test_keyword_arguments_take_all():
    """`**kwargs` gets every key; given ones win."""
    child = does(lambda **kwargs: kwargs, {"a": 0})
    assert await received(child, {"a": 1, "b": 2}, {"c": 3}) == {"a": 0, "b": 2, "c": 3}


async def test_defaults_stay_where_nothing_fits():
    """An open parameter with a default is no open parameter."""
    assert await received(does(lambda x=7: x), "ignored") == 7


@pytest.mark.parametrize(
    ("function", "outputs", "message"),
    [
        (
            lambda a, b: 0,
            [{"a": 1}],
            r"child \(.*after P0 \(.*no value for 'b'.*P0 \(.*the keys 'a'",
        ),
        (lambda a, b: 0, [5], r"no value for 'a', 'b' \(P0 \(.*gives a int\)"),
        (lambda x: 0, [1, 2], r"child \(.*'x' could be the output of P0 \(.*and P1 \("),
        (lambda x: 0, [{"x": 1}, {"x": 2}], r"child \(.*'x' comes from both P0 \(.*and P1 \("),
        (lambda **k: 0, [{"x": 1}, {"x": 1}], "'x' comes from both"),
        (lambda x, /: 0, [{"x": 1}], "'x' must not be positional-only"),
    ],
)
async def test_what_does_not_fit_fails_the_child_before_it_starts(function, outputs, message):
    """A TypeError names the parameter and both tasks; nothing was called."""
    child = does(function, name="child")
    with pytest.raises(TaskDependencyError):
        await received(child, *outputs)
    assert isinstance(child.error, TypeError)
    with pytest.raises(TypeError, match=message):
        raise child.error
    assert child.workflow.history.of(child).started is None


async def test_a_conflict_is_settled_by_giving_the_input():
    """As the message says."""
    assert await received(does(lambda x: x, {"x": 0}), {"x": 1}, {"x": 2}) == 0


async def test_input_that_is_no_dict_is_refused():
    """A Task takes arguments by name."""
    with pytest.raises(TaskDependencyError, match="must be a dict of arguments, not a list"):
        await received(does(lambda x: x, [1]))


async def test_methods_partials_and_callables_tell_their_parameters():
    """Whatever can be called by name can be a step."""

    class Adder:
        def add(self, x, y=1):
            return x + y

        def __call__(self, x):
            return -x

    def add(x, y):
        return x + y

    for function, expected in [
        (Adder().add, 6),
        (Adder(), -5),
        (functools.partial(add, y=2), 7),
        (functools.lru_cache(Adder().add), 6),
    ]:
        assert await received(does(function, name="f"), {"x": 5}) == expected


FUNCTIONS = [
    lambda: 0,
    lambda a: 0,
    lambda a, b=1: 0,
    lambda a, *, b, c=2: 0,
    lambda *args, k, **kwargs: 0,
    lambda a=1, *args: 0,
    lambda **kwargs: 0,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_quick_way_to_parameters_agrees_with_inspect(function):
    """For functions, and for methods without their first argument."""
    assert _of_code(function, 0) == _of_signature(function)


# Model tasks


async def test_template_variables_take_data_like_parameters():
    """By name, and the one open variable takes the whole output."""
    for given_params, outputs, expected in [
        ({}, [{"a": 1, "b": 2}], "1 and 2"),
        ({"a": 1}, ["two"], "1 and two"),
        ({"a": 0}, [{"a": 1, "b": 2}], "0 and 2"),
    ]:
        workflow = flow()
        task = LLMTask(LLMModuleRequest("both", given_params))
        for output in outputs:
            workflow.add_task(gives(output), task)
        await workflow.wait_tasks(task)
        assert sent(workflow) == [expected]


async def test_variables_of_the_application_are_not_open():
    """`app.vars` has a value for them."""
    workflow = flow()
    workflow.vars["a"] = "var"
    task = LLMTask(LLMModuleRequest("both", {}))
    workflow.add_task(gives("whole"), task)
    await workflow.wait_tasks(task)
    assert sent(workflow) == ["var and whole"]


async def test_a_template_may_do_without_a_variable():
    """Only what rendering needs has to be there."""
    workflow = flow()
    task = LLMTask(LLMModuleRequest("maybe", {}))
    workflow.add_task(gives({"a": "A"}), task)
    await workflow.wait_tasks(task)
    assert sent(workflow) == ["A"]


async def test_an_open_template_variable_fails_before_anything_is_sent():
    """The error is a TypeError that names variable and both tasks."""
    workflow, task = flow(), LLMTask(LLMModuleRequest("both", {}))
    workflow.add_task(gives({"a": 1}, "Parent"), task)
    with pytest.raises(TaskDependencyError):
        await workflow.wait_tasks(task)
    with pytest.raises(TypeError, match=r"LLMTask \(.*after Parent \(.*'b'"):
        raise task.error
    assert sent(workflow) == []


async def test_a_direct_request_takes_nothing():
    """Its messages are complete."""
    workflow = flow()
    task = LLMTask(LLMDirectRequest("fast", [Message("user", "as is")]))
    workflow.add_task(gives({"x": 1}), task)
    await workflow.wait_tasks(task)
    assert sent(workflow) == ["as is"]


async def test_inputs_are_never_changed():
    """The request that was passed in stays as it was."""
    request = LLMModuleRequest("both", {"a": 1})
    workflow, task = flow(), LLMTask(request)
    workflow.add_task(gives({"b": 2}), task)
    await workflow.wait_tasks(task)
    assert request.template_params == {"a": 1}


NAMES = st.sampled_from("abcd")


@given(
    explicit=st.dictionaries(NAMES, st.integers(), max_size=2),
    outputs=st.lists(
        st.one_of(st.dictionaries(NAMES, st.integers()), st.integers(), st.none()), max_size=3
    ),
)
def test_whatever_flows_is_what_the_rule_says_or_an_error(explicit, outputs):
    """Explicit values stay; every other value comes from exactly one parent."""
    from aitoolman._workflow.dataflow import Parameters, _bind, _Flow

    child = Task()
    flows = [_Flow(gives(o, f"P{i}"), o) for i, o in enumerate(outputs)]
    parameters = Parameters(frozenset("abc"), ("a", "b"), False)
    try:
        bound = _bind(child, parameters, explicit, flows)
    except TypeError:
        return
    assert {"a", "b"} <= bound.keys() <= set("abc")
    for name, value in bound.items():
        if name in explicit:
            assert value == explicit[name]
        else:
            givers = [o for o in outputs if isinstance(o, dict) and name in o]
            assert value in ([givers[0][name]] if givers else outputs)
            assert len(givers) <= 1
