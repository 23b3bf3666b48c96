"""What flows along an edge: the outputs of the tasks before a task become its arguments.

The rule, for the parameters of ``run`` (for an LLM task: the variables of its templates):

1. ``input_data`` given explicitly wins.
2. The keys of a parent's output dict fill parameters of the same name.
3. The one parameter still open (no value, no default) takes the one parent's whole output that is
   not used yet.

Keys that ``run`` does not accept are left out; ``**kwargs`` takes all. What stays open, or comes
from two parents at once, is a TypeError that names the parameter and the tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .._datamodel import LLMApplicationError, LLMDirectRequest, LLMModuleRequest

if TYPE_CHECKING:
    from .scheduling import Node
    from .tasks import Task
    from .workflow import LLMWorkflow

__all__ = ["Parameters", "bind_inputs", "parameters_of"]


class Parameters(NamedTuple):
    """The arguments a step takes."""

    names: frozenset[str]
    required: tuple[str, ...]
    takes_all: bool


class _Flow(NamedTuple):
    """A parent and what it hands on."""

    parent: Task
    output: Any

    @property
    def keys(self) -> Mapping[str, Any]:
        return self.output if isinstance(self.output, Mapping) else {}


def bind_inputs(workflow: LLMWorkflow, node: Node) -> dict[str, Any]:
    """The arguments of a node's task, from its own input and from the tasks before it.

    Raises:
        TypeError: A parameter stays open or gets two values; the message names it and the tasks.
        LLMApplicationError: The task's module is unknown.
    """
    task = node.task
    flows = [_Flow(parent.task, parent.output_for(node)) for parent in node.parents]
    request = task.input_data
    if isinstance(request, LLMModuleRequest):
        return _bind_request(workflow, task, request, flows)
    if isinstance(request, LLMDirectRequest):
        return {}  # its messages are complete as they stand
    if not isinstance(request, Mapping | None):
        kind = type(request).__name__
        raise TypeError(f"{_name(task)}: input_data must be a dict of arguments, not a {kind}")
    return _bind(task, parameters_of(task.function), request or {}, flows)


def _bind_request(
    workflow: LLMWorkflow, task: Task, request: LLMModuleRequest, flows: list[_Flow]
) -> dict[str, Any]:
    names = workflow[request.module_name].variables
    parameters = Parameters(frozenset(names), tuple(names), False)
    given = request.template_params
    bound = {**given, **_fill(task, parameters, given, flows)}
    if flows and not set(names) <= bound.keys():
        # A template may do without a variable; only rendering tells.
        try:
            workflow.prepare(request._replace(template_params=bound))
        except LLMApplicationError as exc:
            raise TypeError(f"{_edge(task, flows)}: {exc}") from exc
    return bound


def _bind(
    task: Task, parameters: Parameters, given: Mapping[str, Any], flows: list[_Flow]
) -> dict[str, Any]:
    bound = _fill(task, parameters, given, flows)
    missing = [name for name in parameters.required if name not in bound]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise TypeError(f"{_edge(task, flows)}: no value for {names}{_advice(flows)}")
    return bound


def _fill(
    task: Task, parameters: Parameters, given: Mapping[str, Any], flows: list[_Flow]
) -> dict[str, Any]:
    bound = {k: v for k, v in given.items() if k in parameters.names or parameters.takes_all}
    unused = _fill_by_name(task, parameters, given, bound, flows)
    still_open = [name for name in parameters.required if name not in bound]
    if len(still_open) == 1 and len(unused) > 1:
        unused = [flow for flow in unused if flow.output is not None]
        if len(unused) > 1:
            names = " and ".join(_name(flow.parent) for flow in unused)
            raise TypeError(
                f"{_name(task)}: {still_open[0]!r} could be the output of {names}; return dicts"
                " with its name as a key, or set it in input_data"
            )
    if len(still_open) == 1 and len(unused) == 1:
        bound[still_open[0]] = unused[0].output
    return bound


def _fill_by_name(
    task: Task,
    parameters: Parameters,
    given: Mapping[str, Any],
    bound: dict[str, Any],
    flows: list[_Flow],
) -> list[_Flow]:
    """Rule 2, in place; returns the parents of which nothing was used."""
    giver: dict[str, Task] = {}
    unused = []
    for flow in flows:
        used = [key for key in flow.keys if _takes(parameters, key) and key not in given]
        for key in used:
            if key in giver:
                raise TypeError(
                    f"{_name(task)}: {key!r} comes from both {_name(giver[key])} and"
                    f" {_name(flow.parent)}; set it in input_data, or return another name"
                )
            giver[key] = flow.parent
            bound[key] = flow.keys[key]
        if not used:
            unused.append(flow)
    return unused


def _takes(parameters: Parameters, key: Any) -> bool:
    return isinstance(key, str) and (key in parameters.names or parameters.takes_all)


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """What a step's function takes by name.

    Raises:
        TypeError: It has parameters that cannot be given by name, or does not tell them.
    """
    plain = getattr(function, "__func__", function)
    if isinstance(plain, FunctionType) and not hasattr(plain, "__wrapped__"):
        return _of_code(plain, int(plain is not function))
    return _of_signature(function)


def _of_code(function: FunctionType, skipped: int) -> Parameters:
    """The quick way, for ordinary functions; `skipped` is 1 for a bound method's ``self``."""
    code = function.__code__
    if code.co_posonlyargcount > skipped:
        _refuse_positional(function, code.co_varnames[skipped])
    count = code.co_argcount
    by_name = code.co_varnames[skipped:count]
    by_keyword = code.co_varnames[count : count + code.co_kwonlyargcount]
    required = by_name[: max(0, len(by_name) - len(function.__defaults__ or ()))]
    defaults = function.__kwdefaults__ or {}
    return Parameters(
        frozenset(by_name + by_keyword),
        required + tuple(name for name in by_keyword if name not in defaults),
        bool(code.co_flags & inspect.CO_VARKEYWORDS),
    )


def _of_signature(function: Callable[..., Any]) -> Parameters:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as exc:
        raise TypeError(f"{function!r} does not tell its parameters; wrap it in a def") from exc
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            _refuse_positional(function, parameter.name)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Parameters(
        frozenset(p.name for p in named),
        tuple(p.name for p in named if p.default is p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def _refuse_positional(function: Callable[..., Any], name: str) -> NoReturn:
    shown = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"{shown}: inputs are given by name, so {name!r} must not be positional-only")


def _name(task: Task) -> str:
    return f"{task.task_name} ({task.task_id})"


def _edge(task: Task, flows: list[_Flow]) -> str:
    if not flows:
        return _name(task)
    return f"{_name(task)}, after {', '.join(_name(flow.parent) for flow in flows)}"


def _advice(flows: list[_Flow]) -> str:
    if not flows:
        return "; give it in input_data"
    given = [f"{_name(f.parent)} gives {_kind(f.output)}" for f in flows]
    return f" ({', '.join(given)}); give it in input_data or return it under its name"


def _kind(output: Any) -> str:
    if isinstance(output, Mapping):
        return "the keys " + (", ".join(map(repr, list(output)[:10])) or "of an empty dict")
    return f"a {type(output).__name__}"
