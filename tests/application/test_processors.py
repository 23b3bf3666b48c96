"""Post-processors: what a name, a function and a type stand for, and what running one gives."""

# ruff: noqa: E501 - one row per case reads better than wrapped rows

import asyncio
import collections
import dataclasses
import enum
import functools
import re
import subprocess
import sys
import threading
from typing import Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pydantic
import pytest

from aitoolman import LLMApplicationError, LLMUnknownNameError
from aitoolman._application.processors import processor_name, resolve_processor, run_processor
from aitoolman.postprocess import parse_json


async def process(spec: Any, text: str, registry: Any = None, *, in_thread: bool = False) -> Any:
    return await run_processor(resolve_processor(spec, registry or {}), text, in_thread=in_thread)


BUILT_IN = {
    "parse_json": ('x {"a": 1}', {"a": 1}),
    "builtin.parse_json": ("[1]", [1]),
    "parse_xml:response": ("<response><a>1</a></response>", {"a": "1"}),
    "builtin.parse_xml:r": ("<r><a>1</a></r>", {"a": "1"}),
    "get_xml_tag_content:code": ("<code> x</code>", " x"),
    "builtin.get_xml_tag_content:code": ("<code>y</code>", "y"),
}


@pytest.mark.parametrize("name", BUILT_IN)
async def test_built_in_names_work_with_and_without_prefix(name):
    """A tag's name follows a colon."""
    text, data = BUILT_IN[name]
    assert await process(name, text) == (data, False, None)


async def test_an_own_name_wins_over_a_built_in_one_but_not_over_the_prefix():
    """`builtin.` always means the library's."""
    own = {"parse_json": len, "builtin.parse_json": len, "parse_xml:r": str.upper}
    assert (await process("parse_json", "[1]", own)).data == 3
    assert (await process("builtin.parse_json", "[1]", own)).data == [1]
    assert (await process("parse_xml:r", "<r>", own)).data == "<R>"


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_name_is_no_processor(nothing):
    """None and an empty text switch a processor off."""
    assert resolve_processor(nothing, {}) is None
    assert processor_name(nothing) is None


MISTAKES = {
    "parse_jsn": "did you mean 'parse_json'",
    "clasify": "did you mean 'classify'",
    "zzz": r"known: classify, parse_json.*app.add_processor\('zzz', function\)",
    "builtin.classify": "there is no post-processor 'builtin.classify'",
    "parse_xml": "needs the name of a tag: 'parse_xml:response'",
    "builtin.get_xml_tag_content:": "needs the name of a tag",
    "parse_json:response": "takes nothing after a colon: write 'parse_json'",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_unknown_name_is_an_error_that_helps(name):
    """It names near ones, or all, and how to add one; it is a KeyError too."""
    with pytest.raises(LLMUnknownNameError, match=MISTAKES[name]) as caught:
        resolve_processor(name, {"classify": str})
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("wrong", [3, 1.5, ["parse_json"], b"x"])
def test_what_is_no_processor_is_refused(wrong):
    """Directly or registered under a name."""
    for spec in (wrong, "p"):
        with pytest.raises(LLMApplicationError, match="a name, a function of the text, or a type"):
            resolve_processor(spec, {"p": wrong})


def test_a_name_for_a_name_is_refused():
    """A registered processor is a function or a type, so names cannot run in circles."""
    with pytest.raises(LLMApplicationError, match="'p' is 'q'"):
        resolve_processor("p", {"p": "q"})


class Shouter:
    def __call__(self, text: str) -> str:
        return text.upper()


class AsyncShouter:
    async def __call__(self, text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()


async def shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


FUNCTIONS = {
    "method": str.upper,
    "lambda": lambda text: text.upper(),
    "async": shout,
    "partial of async": functools.partial(shout),
    "object": Shouter(),
    "async object": AsyncShouter(),
    "sync that gives an awaitable": lambda text: shout(text),
    "class": collections.UserString,
}


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
async def test_any_callable_is_a_processor(function, in_thread):
    """Sync or async, on the loop or beside it."""
    done = await process(function, "hm", in_thread=in_thread)
    assert str(done.data).upper() == "HM"
    assert done.error is None


async def test_sync_functions_leave_the_loop_only_when_told_and_async_ones_never():
    """Worker threads are for user functions that may take their time."""

    def where(text: str) -> bool:
        return threading.current_thread() is threading.main_thread()

    async def where_async(text: str) -> bool:
        return where(text)

    assert (await process(where, "")).data is True
    assert (await process(where, "", in_thread=True)).data is False
    assert (await process(where_async, "", in_thread=True)).data is True


def raising(error: BaseException) -> Any:
    def processor(text: str) -> Any:
        raise error

    return processor


REASONS = {
    "no label": ValueError("no label"),
    "the model said so": LLMApplicationError("the model said so"),
    "KeyError: 'main'": KeyError("main"),
    "ZeroDivisionError": ZeroDivisionError(),
    "RuntimeError: coroutine raised StopIteration": StopIteration("end"),
    "RecursionError: deep": RecursionError("deep"),
}


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("reason", REASONS)
async def test_what_a_processor_raises_becomes_a_reason(reason, in_thread):
    """Sentences as they are, other errors with their kind; never an exception."""
    done = await process(raising(REASONS[reason]), "x", in_thread=in_thread)
    assert (done.data, done.error) == (None, reason)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_cancellation_is_no_reason(in_thread):
    """A BaseException travels on."""
    with pytest.raises(asyncio.CancelledError):
        await process(raising(asyncio.CancelledError()), "x", in_thread=in_thread)


async def test_a_repair_is_told_whoever_makes_it():
    """Also in a user's own function, in a thread, and when the processor fails afterwards."""

    def own(text: str) -> Any:
        return parse_json(text)["a"]

    assert (await process("parse_json", "[1,]")).repaired
    assert (await process(own, '{"a": 1,}', in_thread=True)) == (1, True, None)
    assert (await process(own, '{"a": 1}')) == (1, False, None)
    failed = await process(own, '{"b": 1,}')
    assert (failed.repaired, failed.error) == (True, "KeyError: 'a'")


@pytest.mark.parametrize("name", ["parse_xml:r", "get_xml_tag_content:r"])
async def test_an_answer_without_the_tag_is_not_usable(name):
    """As a processor, a missing root is a failure that `format_retries` can mend."""
    assert (await process(name, "hm")).error == "there is no <r> tag in the text."


async def test_long_texts_do_not_hold_up_the_loop():
    """A built-in processor of a very long text runs beside the loop, with the same result."""
    text = '{"a": "' + "x" * 200_000 + '",}'
    done = await process("parse_json", text)
    assert (len(done.data["a"]), done.repaired) == (200_000, True)


@dataclasses.dataclass
class Ticket:
    label: Literal["billing", "bug"]
    urgency: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Tickets:
    tickets: list[Ticket]


@dataclasses.dataclass
class Picky:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n must not be negative")


class Row(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int
    b: str = "none"


class Point(msgspec.Struct):
    x: float


class Label(enum.Enum):
    billing = "billing"
    bug = "bug"


class Model(pydantic.BaseModel):
    a: int
    b: Literal["x"] = "x"


@pydantic.dataclasses.dataclass
class ModelData:
    a: int


TYPED = {
    "dataclass": (Ticket, 'Sure: {"label": "bug", "urgency": "2"}', Ticket("bug", 2)),
    "nested": (Tickets, '{"tickets": [{"label": "bug"}]}', Tickets([Ticket("bug")])),
    "TypedDict": (Row, '{"a": 1}', {"a": 1}),
    "NamedTuple": (Pair, '{"a": 1}', Pair(1)),
    "NamedTuple from an array": (Pair, '[1, "q"]', Pair(1, "q")),
    "list of NamedTuples": (list[Pair], '[{"a": 1}, {"a": 2, "b": "q"}]', [Pair(1), Pair(2, "q")]),
    "Struct": (Point, '{"x": 1}', Point(1.0)),
    "pydantic model": (Model, '{"a": "1"}', Model(a=1)),
    "list of pydantic models": (list[Model], '[{"a": 1}]', [Model(a=1)]),
    "pydantic dataclass": (ModelData, '{"a": 1}', ModelData(a=1)),
    "Enum": (Label, " bug\n", Label.bug),
    "Enum in quotes": (Label, '"bug"', Label.bug),
    "Literal": (Literal["yes", "no"], "no", "no"),
    "int": (int, " 42 ", 42),
    "float": (float, "0.5", 0.5),
    "bool": (bool, "false", False),
    "dict": (dict, '{"a": [1]}', {"a": [1]}),
    "dict of ints": (dict[str, int], '{"a": "1"}', {"a": 1}),
    "list": (list[Ticket], '[{"label": "bug"}]', [Ticket("bug")]),
    "set": (set[str], '["a", "a"]', {"a"}),
    "optional": (Optional[Ticket], "null", None),  # noqa: UP045 - both spellings
    "union": (Ticket | None, '{"label": "bug"}', Ticket("bug")),
}


@pytest.mark.parametrize(("spec", "text", "data"), TYPED.values(), ids=TYPED.keys())
async def test_a_type_parses_and_validates(spec, text, data):
    """JSON is found in the text and made into the type."""
    done = await process(spec, text)
    assert (done.data, done.error) == (data, None)
    assert type(done.data) is type(data)


MISFITS = {
    "missing": (Ticket, '{"urgency": 1}', "missing required field `label`"),
    "wrong value": (Ticket, '{"label": "x"}', r"'x' - at `\$.label`.*\"billing\",\"bug\""),
    "deep": (
        Tickets,
        '{"tickets": [{"label": "bug", "urgency": "high"}]}',
        r"`\$.tickets\[0\].urgency`",
    ),
    "own check": (Picky, '{"n": -1}', "n must not be negative"),
    "TypedDict": (Row, '{"a": "x"}', r"Expected `int`, got `str` - at `\$.a`"),
    "NamedTuple": (Pair, '{"b": "x"}', "missing required field `a`"),
    "list of NamedTuples": (list[Pair], '[{"a": 1}, {"a": "x"}]', r"at `\$\[1\].a`"),
    "pydantic": (Model, '{"b": "y"}', r"Field required - at `\$.a`; .*at `\$.b`"),
    "list of pydantic": (list[Model], '[{"a": "x"}]', r"at `\$\[0\].a`"),
    "Enum": (Label, "refund", r"'refund'.*\"billing\",\"bug\""),
    "int": (int, "many", "Expected `int`, got `str`"),
    "no JSON": (Ticket, "I cannot", "there is no JSON in the text: 'I cannot'"),
    "another shape": (Ticket, "[1]", "Expected `object`, got `array`"),
}


@pytest.mark.parametrize(("spec", "text", "reason"), MISFITS.values(), ids=MISFITS.keys())
async def test_a_misfit_is_told_with_its_path(spec, text, reason):
    """The reason is what a model needs to do better: path, expectation, allowed values."""
    done = await process(spec, text)
    assert done.data is None
    assert re.search(reason, done.error), done.error
    assert "https://" not in done.error


class Unknown:
    def __init__(self, text: str) -> None:
        self.text = text


@dataclasses.dataclass
class Holder:
    inner: Unknown


@pytest.mark.parametrize("spec", [Holder, list[Holder], Ticket | Point], ids=str)
def test_a_type_that_json_cannot_fill_is_refused_before_anything_is_sent(spec):
    """It is the caller's mistake, so it raises when the name is resolved."""
    with pytest.raises(LLMApplicationError, match="cannot be a post-processor"):
        resolve_processor(spec, {})


async def test_an_unknown_class_is_called_with_the_text():
    """Like any other callable; so is `str`."""
    assert (await process(Unknown, "x")).data.text == "x"
    assert (await process(str, '"x"')).data == '"x"'


async def test_a_type_may_be_registered_under_a_name():
    """`add_processor("ticket", Ticket)` serves the TOML file."""
    assert (await process("t", '{"label": "bug"}', {"t": Ticket})).data == Ticket("bug")


NAMES = {
    "parse_xml:r": "parse_xml:r",
    "Ticket": Ticket,
    "list[Ticket]": list[Ticket],
    "Ticket | None": Ticket | None,
    "Row": Row,
    "shout": shout,
    "Shouter": Shouter(),
    "upper": str.upper,
}


@pytest.mark.parametrize("name", NAMES)
def test_results_call_a_processor_by_its_name(name):
    """Names as they are, functions and types by theirs."""
    assert processor_name(NAMES[name]) == name


def test_a_partial_is_called_by_its_functions_name():
    """`functools.partial` has no name of its own."""
    assert processor_name(functools.partial(shout)) == "shout"


def test_pydantic_and_json_repair_load_only_when_needed():
    """Neither is imported for the types of the standard library and valid JSON."""
    program = """
import asyncio, sys
from aitoolman._application.processors import resolve_processor, run_processor
done = asyncio.run(run_processor(resolve_processor(dict[str, int], {}), '{"a": 1}', in_thread=False))
assert done.data == {"a": 1}
assert not {"pydantic", "json_repair"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
