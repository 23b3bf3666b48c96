"""parse_json on what models write."""

# ruff: noqa: E501 - one row per case reads better than wrapped rows

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman._parsing import json_pieces
from aitoolman.postprocess import note_repairs, parse_json, parse_json_details

# What the text is, what comes out, whether it was repaired.
ANSWERS = {
    "an object": ('{"a": 1}', {"a": 1}, False),
    "an array": (" [1, 2]\n", [1, 2], False),
    "a byte order mark": ('\ufeff{"a": 1}', {"a": 1}, False),
    "a lone string": ('"hi"', "hi", False),
    "a lone null": ("null", None, False),
    "a fence": ('```json\n{"a": 1}\n```', {"a": 1}, False),
    "a fence without a label": ('```\n{"a": 1}\n```', {"a": 1}, False),
    "a fence that never ends": ('```json\n{"a": 1}', {"a": 1}, False),
    "a fence after words": ('Sure! ```json\n{"a": 1}\n```\nAnything else?', {"a": 1}, False),
    "a fence of one line": ('Sure! ```json {"a": 1}``` Bye', {"a": 1}, False),
    "a number in a fence": ("The answer:\n```json\n42\n```", 42, False),
    "the fence beats the prose": ('From {"a": 10, "b": 2}:\n```json\n{"c": 1}\n```', {"c": 1}, False),
    "another language's fence": ('```python\nx = 1\n```\nso {"a": 1}', {"a": 1}, False),
    "the specification's tag": ('<response>\n{\n "F": "V"\n}\n</response>', {"F": "V"}, False),
    "a tag that never ends": ('<response>{"a": 1}', {"a": 1}, False),
    "a tag mentioned before": ('In <response> tags: <response>{"a": 1}</response>', {"a": 1}, False),
    "a word in a tag": ("<answer>true</answer>", True, False),
    "prose around": ('The result is {"a": [1]}. Hope this helps!', {"a": [1]}, False),
    "a footnote before": ('As shown in [1], it is {"a": 1}.', {"a": 1}, False),
    "prose and an array": ("The list: [1, 2, 3] as asked", [1, 2, 3], False),
    "braces in prose": ('I fill {name} and {x:.2f}: {"name": "Bob", "x": 1}', {"name": "Bob", "x": 1}, False),
    "an interval in prose": ('For [0, 1) we get {"p": 0.5}', {"p": 0.5}, False),
    "doubled braces": ('{{"a": 1}}', {"a": 1}, False),
    "the largest wins": ('{"a": {"b": [1, 2]}} as in {"b": 1}', {"a": {"b": [1, 2]}}, False),
    "the first of equals": ('{"a": 1} or {"b": 2}', {"a": 1}, False),
    "thoughts before": ('<think>{"a": 0, "draft": true} {</think>\n{"a": 1}', {"a": 1}, False),
    "thoughts without a start": ('maybe {"a": 0, "b": 0}</think>{"a": 1}', {"a": 1}, False),
    "a fence inside a string": ('See {"md": "```json\\n[1]\\n```"} above', {"md": "```json\n[1]\n```"}, False),
    "a tag inside a string": ('See {"h": "<answer>[1]</answer>"}!', {"h": "<answer>[1]</answer>"}, False),
    "think in a string": ('{"h": "<think>x</think>"}', {"h": "<think>x</think>"}, False),
    "a trailing comma": ('{"a": [1, 2,],}', {"a": [1, 2]}, True),
    "single quotes": ("{'a': 'b', c: True, d: None}", {"a": "b", "c": True, "d": None}, True),
    "curly quotes": ("{“a”: “b”}", {"a": "b"}, True),
    "a comment": ('{"a": 1, // one\n "b": 2}', {"a": 1, "b": 2}, True),
    "a raw line break": ('{"a": "x\ny"}', {"a": "x\ny"}, True),
    "an unescaped quote": ('{"a": "he said "hi" to me", "b": 1}', {"a": 'he said "hi" to me', "b": 1}, True),
    "a missing comma": ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, True),
    "an array cut off": ("[1, 2", [1, 2], True),
    "an object cut off": ('{"a": 1, "b": {"c": [1, 2', {"a": 1, "b": {"c": [1, 2]}}, True),
    "a string cut off": ('{"a": 1, "b": "to be or n', {"a": 1, "b": "to be or n"}, True),
    "rows cut off in an escape": ('[{"a": 1}, "x \\u26', [{"a": 1}, "x "], True),
    "rows cut off in a word": ('[{"a": 1}, tru', [{"a": 1}, "tru"], True),
    "rows cut off in a number": ('[{"a": 1}, 2.', [{"a": 1}, 2], True),
    "rows cut off": ('[{"a": 1}, {"a": 2}', [{"a": 1}, {"a": 2}], True),
    "cut off with inner values": ('{"rows": [{"a": 1}, {"a": 2}], "n": 2', {"rows": [{"a": 1}, {"a": 2}], "n": 2}, True),
    "broken beats a footnote": ('From [1]: {"a": "b", "c": 5,}', {"a": "b", "c": 5}, True),
    "JSON lines": ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}], True),
    "not a number": ('{"a": NaN, "b": -Infinity}', {"a": None, "b": None}, True),
    "broken and not a number": ("{'a': NaN, 'b': 1,}", {"a": "NaN", "b": 1}, True),
}  # fmt: skip


@pytest.mark.parametrize(("text", "value", "repaired"), ANSWERS.values(), ids=ANSWERS.keys())
def test_json_is_found_in_what_models_write(text, value, repaired):
    """The value, and whether it had to be repaired; `parse_json` gives the value alone."""
    assert parse_json_details(text) == (value, repaired)
    assert parse_json(text) == value


NO_JSON = {
    "nothing": "",
    "white space": " \n",
    "prose": "I cannot do that.",
    "braces in prose": "Dear {name}, it costs {price}",
    "an interval": "The interval [0, 1) is half open.",
    "a lone bracket": "[",
    "a lone brace": "well {",
    "a word": "NaN",
    "XML": "<response><a>1</a></response>",
    "only thoughts": '<think>{"a": 1}</think> I do not know.',
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON.keys())
def test_a_text_without_json_is_a_value_error(text):
    """Nothing is made up where there is no JSON."""
    with pytest.raises(ValueError, match="there is no JSON"):
        parse_json(text)


def test_the_error_shows_the_start_of_the_text_only():
    """The message is short however long the text."""
    with pytest.raises(ValueError) as caught:
        parse_json("I am sorry, " * 10_000)
    assert "'I am sorry, I am sorry" in str(caught.value)
    assert len(str(caught.value)) < 120


def test_a_number_of_thousands_of_digits_is_a_value_error():
    """Python's own limit on integers does not leak another error."""
    with pytest.raises(ValueError):
        parse_json('x {"a": ' + "9" * 5000 + "}")


def test_duplicate_keys_take_the_last():
    """As every JSON reader of Python's does."""
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}


def test_repairs_are_noted_in_whatever_function_they_happen():
    """A caller learns of a repair inside a processor that does not tell."""
    with note_repairs() as notes:
        parse_json('{"a": 1}')
        assert notes == []
        parse_json('{"a": 1,}')
    assert len(notes) == 1
    parse_json('{"a": 1,}')
    assert len(notes) == 1


async def test_repairs_in_threads_and_tasks_are_noted_where_they_belong():
    """Notes follow the context into a worker thread, and two tasks do not mix theirs."""

    async def one(text: str) -> int:
        with note_repairs() as notes:
            await asyncio.to_thread(parse_json, text)
            return len(notes)

    assert await asyncio.gather(one("[1,]"), one("[1]"), one("[2,]")) == [1, 0, 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
CONTAINERS = JSON.filter(lambda value: isinstance(value, (dict, list)))
LAYOUT = st.sampled_from([None, 1, 4])


@given(JSON, LAYOUT, st.booleans())
def test_valid_json_is_read_exactly(value, indent, ascii_only):
    """What `json.dumps` writes comes back, bare, in a fence and in a tag, without repair."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for whole in (text, f"```json\n{text}\n```", f"<response>\n{text}\n</response>"):
        assert parse_json_details(whole) == (value, False)


@given(CONTAINERS, LAYOUT)
def test_valid_json_among_prose_is_read_exactly(value, indent):
    """Chatter with braces before, more chatter after."""
    text = json.dumps(value, indent=indent)
    said = f"I fill {{name}} in [0, 1):\n{text}\n\nHope this helps {{you}}!"
    assert parse_json_details(said) == (value, False)
    fenced = f"Here it is [1]:\n```json\n{text}\n```\nAsk for more."
    assert parse_json_details(fenced) == (value, False)


@given(st.dictionaries(st.text("abc", min_size=1), CONTAINERS, min_size=1), st.data())
def test_cut_off_json_is_repaired_or_refused(value, data):
    """A text cut anywhere gives an object marked as repaired, or a ValueError."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        found = parse_json_details(cut)
    except ValueError:
        return
    assert isinstance(found.value, dict)
    assert found.repaired


@given(st.dictionaries(st.text(), st.text()), st.text(min_size=1), LAYOUT, st.data())
def test_an_answer_cut_off_in_a_string_is_its_beginning(before, last, indent, data):
    """What was said before the cut comes out exactly, escapes and halves of characters aside."""
    text = json.dumps([before, [last]], indent=indent)
    start = text.rindex(json.dumps(last)) + 1
    cut = text[: data.draw(st.integers(start, text.rindex('"')))]
    said = parse_json_details(cut)
    assert said.repaired
    assert said.value[0] == before
    assert last.startswith(said.value[1][0])
    assert len(said.value[1][0]) >= len(cut[start:]) // 12


PIECES = st.sampled_from(
    ["{", "}", "[", "]", '"', "'", ":", ",", "\\", "a", "1", " ", "\n", "```", "```json\n", "<response>",
     "</response>", "<think>", "</think>", '{"a":', "“", "NaN", "//", "/*", "\ud800", "\x00"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text())
def test_any_text_gives_a_plain_value_or_a_value_error(text):
    """No other error, and only what can be written as JSON again."""
    try:
        value = parse_json(text)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value


MILLION = 1_000_000
LONG = 200_000
HOSTILE = {
    "brackets": "[" * MILLION,
    "brackets with numbers": "[0," * LONG,
    "braces": "{" * MILLION,
    "nested objects": '{"a":' * LONG,
    "quotes": '"' * MILLION,
    "escaped quotes": '{"a": "' + '\\"' * LONG,
    "a brace and a quote": '{"' * LONG,
    "keys without end": '{"a": [' + '"b": {' * LONG,
    "strings that end in braces": '[{"a":' + '"}' * LONG,
    "numbers and braces": '{"a":' + "1}{" * LONG,
    "spaces after a brace": "{" + " " * MILLION,
    "a long string cut off": '{"a": "' + "<" * MILLION,
    "brackets in a string cut off": '{"a": "' + "[" * MILLION,
    "brackets in a broken string": '{"a": 1,, "b": "' + "[" * LONG,
    "many broken rows": '{"a":1,,}\n' * 20_000,
    "fences": "```json\n" * LONG,
    "marks of fences": "`~" * 100 + "`" * LONG + "~" * LONG,
    "fences with brackets": "```json\n[" * LONG,
    "fences of many lengths": "".join("~" * n + "\n[" for n in range(3, 600)),
    "tags": "<response>" * LONG,
    "closing tags": "</response><response>[" * LONG,
    "many answers": "<answer>{</answer>" * LONG,
    "thoughts": "<think>" * LONG,
    "a good start, then a bad end": '{"a": [' + "1," * LONG + "} ",
    "not a number, deep": "[" * 500 + "1," * LONG + "NaN",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_ends(text):
    """A value or a ValueError with a short message, soon, and without RecursionError."""
    try:
        parse_json(text)
    except ValueError as exc:
        message = str(exc)
    else:
        message = ""
    assert len(message) < 300


class Counting:
    """A compiled pattern that counts what `finditer` gives."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.count = 0

    def finditer(self, *args):
        for match in self.pattern.finditer(*args):
            self.count += 1
            yield match


@pytest.mark.parametrize("unit", ["[{", "[[]", "[]]", '["', '{"a":1 {', "[1 {x:"])
def test_brackets_without_end_are_looked_at_a_few_times(unit, monkeypatch):
    """What a search in vain costs counts, not only how many characters it passes."""
    brackets = Counting(json_pieces._BRACKETS)
    monkeypatch.setattr(json_pieces, "_BRACKETS", brackets)
    text = "so " + unit * LONG
    with contextlib.suppress(ValueError):
        parse_json(text)
    assert brackets.count < 5 * len(text)


def test_values_without_end_are_an_error_that_tells_the_bound(monkeypatch):
    """JSON lines are read up to a bound, and never cut off silently."""
    monkeypatch.setattr(json_pieces, "MAX_PIECES", 1000)
    assert parse_json('{"a":1}\n' * 1000) == [{"a": 1}] * 1000
    with pytest.raises(ValueError, match="more than 1,000 JSON values"):
        parse_json('{"a":1}\n' * 1001)


def test_large_lists_of_short_things_are_found_and_closed():
    """What is looked at closely for good reason stays within the allowance."""
    rows = [[n, [n]] for n in range(100_000)]
    text = json.dumps(rows)
    assert parse_json(f"Here [1 of 2]:\n{text}\nDone.") == rows
    assert parse_json(f"Here [1 of 2]:\n```json\n{text[:-3]}") == rows
    lines = "\n".join(json.dumps({"n": n}) for n in range(100_000))
    assert len(parse_json(lines)) == 100_000


def test_json_after_very_many_fences_is_found_as_in_prose():
    """Regions without end are not all tried."""
    assert parse_json("```\nx\n```\n" * 20_000 + '```\n{"a": 1}\n```') == {"a": 1}


def test_a_fence_may_end_in_more_marks_than_it_began_with():
    """The rest of the marks begins no fence of its own."""
    assert parse_json("```\nno\n``````\n{'a': 1}\n```\n[2]\n```") == [2]
