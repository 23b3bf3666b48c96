"""get_xml_tag_content and parse_xml on what models write."""

# ruff: noqa: E501 - one row per case reads better than wrapped rows

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitoolman.postprocess import get_xml_tag_content, parse_xml

CONTENTS = {
    "plain": ("<r>x</r>", "x"),
    "chatter around": ("Sure:\n<r>x</r>\nBye", "x"),
    "a fence around": ("```xml\n<r>x</r>\n```", "x"),
    "white space stays": ("<r>\n  x\n</r>", "\n  x\n"),
    "entities stay": ("<r>a &amp; b</r>", "a &amp; b"),
    "attributes": ('<r lang="en" note="1 > 0">x</r>', "x"),
    "a longer name": ("<rs>no</rs><r>x</r>", "x"),
    "empty": ("<r></r>", ""),
    "self-closing": ("<r/>", ""),
    "a missing end": ("<r>x and more", "x and more"),
    "a missing end in a fence": ("```xml\n<r>x\n```", "x"),
    "a missing end and a fence of its own": ("<r>```py\nx\n```", "```py\nx\n```"),
    "mentioned before": ("I answer in <r> tags: <r>x</r>", "x"),
    "an empty pair mentioned before": ("I answer in <r></r>: <r>x</r>", "x"),
    "an empty pair, then a missing end": ("I answer in <r></r>: <r>x", "x"),
    "the last complete one wins": ("<r>draft</r> Better: <r>x</r>", "x"),
    "a complete one beats an open one": ("<r>x</r> and <r> was it", "x"),
    "mentioned after": ("<r>x</r> (I left out <r></r>)", "x"),
    "nested": ("<r>a<r>b</r>c</r>", "a<r>b</r>c"),
    "thoughts before": ("<think><r>draft</r> hm <r></think><r>x</r>", "x"),
    "an end in CDATA": ("<r><![CDATA[ a</r> ]]></r>", " a</r> "),
    "CDATA beside text": ("<r>a<![CDATA[b]]></r>", "a<![CDATA[b]]>"),
    "two CDATA sections": ("<r><![CDATA[a]]><![CDATA[b]]></r>", "<![CDATA[a]]><![CDATA[b]]>"),
    "an end in a comment": ("<r>a<!-- </r> -->b</r>", "a<!-- </r> -->b"),
    "a comment without end": ("<r>a <!-- b</r>", "a <!-- b"),
    "unescaped": ("<r>if a < b && c > d</r>", "if a < b && c > d"),
    "not there": ("nothing", None),
    "only the end": ("nothing</r>", None),
    "another case": ("<R>x</R>", None),
}


@pytest.mark.parametrize(("text", "content"), CONTENTS.values(), ids=CONTENTS.keys())
def test_a_tags_content_is_found_as_it_stands(text, content):
    """`get_xml_tag_content` gives what stands between the tags, or None."""
    assert get_xml_tag_content(text, "r") == content


def test_the_tags_come_too_on_demand():
    """`with_tag` keeps attributes and CDATA and adds a missing end."""
    assert get_xml_tag_content('a <r x="1">b</r> c', "r", with_tag=True) == '<r x="1">b</r>'
    assert get_xml_tag_content("a <r>b", "r", with_tag=True) == "<r>b</r>"
    assert get_xml_tag_content("<r/>", "r", with_tag=True) == "<r/>"
    assert get_xml_tag_content("a", "r", with_tag=True) is None
    cdata = "<r><![CDATA[b]]></r>"
    assert get_xml_tag_content(cdata, "r", with_tag=True) == cdata


TREES = {
    "leaves": ("<r><a>1</a><b> x\n</b></r>", {"a": "1", "b": "x"}),
    "repeated tags": ("<r><p>1</p><c>x</c><p>2</p><p>3</p></r>", {"p": ["1", "2", "3"], "c": "x"}),
    "nested": ("<r><a><b>1</b><b><c>2</c></b></a></r>", {"a": {"b": ["1", {"c": "2"}]}}),
    "chatter and a fence": ("Sure:\n```xml\n<r>\n <a>1</a>\n</r>\n```\nBye", {"a": "1"}),
    "unescaped": ("<r><a>x & y < z > w && R&D; &c</a></r>", {"a": "x & y < z > w && R&D; &c"}),
    "no tags": ("<r><a>if a<b and c>d: a <b or c> d</a></r>", {"a": "if a<b and c>d: a <b or c> d"}),
    "entities": ("<r><a>&lt;&amp;&gt;&quot;&apos;&#65;&#x42;</a></r>", {"a": "<&>\"'AB"}),
    "decoded once": ("<r><a>&amp;lt;</a></r>", {"a": "&lt;"}),
    "no such character": ("<r><a>&#0; &#xD800; &#x110000; &#9999999;</a></r>",
                          {"a": "&#0; &#xD800; &#x110000; &#9999999;"}),
    "CDATA": ("<r><a><![CDATA[ <b> &amp; ]]></a></r>", {"a": " <b> &amp; "}),
    "CDATA among text": ("<r><a> x &amp; <![CDATA[ & ]]> y </a></r>", {"a": "x &  &  y"}),
    "CDATA without end": ("<r><a><![CDATA[x < y</a></r>", {"a": "x < y"}),
    "comments": ("<r><!-- <z>1</z> --><a>1<!-- no --></a></r>", {"a": "1"}),
    "attributes": ('<r k="v"><a k=\'"\' b="1>2">1</a></r>', {"a": '1'}),
    "self-closing": ("<r><a/><b x='1' /></r>", {"a": "", "b": ""}),
    "empty leaf": ("<r><a></a></r>", {"a": ""}),
    "empty root": ("<r>\n</r>", {}),
    "text only": ("<r> just text </r>", "just text"),
    "text beside tags": ("<r>Here: <a>1</a> done</r>", {"a": "1"}),
    "markup in text": ("<r><a>press <b>Enter</b> or <br/> wait</a></r>",
                       {"a": "press <b>Enter</b> or <br/> wait"}),
    "code": ("<r><code>if x:\n  print('<b>&lt;</b>')</code></r>",
             {"code": "if x:\n  print('<b><</b>')"}),
    "a stray end": ("<r><a>1</b></a></r>", {"a": "1</b>"}),
    "a missing end before a sibling": ("<r><a>1<b>2</b></r>", {"a": "1", "b": "2"}),
    "a missing end of an item": ("<r><i>1<i>2</i></r>", {"i": ["1", "2"]}),
    "a missing end of a row": ("<r><i><a>1</a><i><a>2</a></i></r>", {"i": [{"a": "1"}, {"a": "2"}]}),
    "a tag mentioned in text": ("<r><a>use <b> here</a></r>", {"a": "use <b> here"}),
    "cut off in a leaf": ("<r><a>1</a><b>2", {"a": "1", "b": "2"}),
    "cut off deep": ("<r><l><i>1</i><i>2", {"l": {"i": ["1", "2"]}}),
    "cut off in a tag": ("<r><a>1</a><b>2</", {"a": "1", "b": "2</"}),
    "names of all kinds": ("<r><a-b.c_1>1</a-b.c_1><ns:x>2</ns:x><имя>3</имя></r>",
                           {"a-b.c_1": "1", "ns:x": "2", "имя": "3"}),
    "a declaration": ('<?xml version="1.0"?><!DOCTYPE r><r><a>1</a></r>', {"a": "1"}),
    "not there": ("<s><a>1</a></s>", None),
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), TREES.values(), ids=TREES.keys())
def test_xml_is_read_as_models_write_it(text, value):
    """Text for leaves, dicts for tags that hold tags, lists for repeated ones."""
    assert parse_xml(text, "r") == value


def test_the_specifications_summary_is_read():
    """The answer that `[module.summerize]` of the sample file asks for."""
    answer = """<response>
<point>Argument 1</point>
<point>Profit & loss</point>
<case>Case 1</case>
<summery>Summary</summery>
</response>"""
    assert parse_xml(answer, "response") == {
        "point": ["Argument 1", "Profit & loss"],
        "case": "Case 1",
        "summery": "Summary",
    }


def test_no_entity_is_expanded_and_nothing_is_fetched():
    """Declared entities stay text: no file is read, and laughs stay few."""
    bomb = (
        '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
        "<r><x>&b;</x><y>&f;</y></r>"
    )
    assert parse_xml(bomb, "r") == {"x": "&b;", "y": "&f;"}


def test_nesting_beyond_reason_is_a_value_error():
    """A hundred levels are read, a thousand refused."""
    deep = parse_xml("<r>" + "<a>" * 99 + "x" + "</a>" * 99 + "</r>", "r")
    for _ in range(99):
        deep = deep["a"]
    assert deep == "x"
    with pytest.raises(ValueError, match="100 tags deep"):
        parse_xml("<r>" + "<a>" * 1000 + "</a>" * 1000 + "</r>", "r")


NAMES = st.sampled_from(["a", "b", "item", "r", "x-1"])
LEAVES = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip)
BRANCHES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(
        NAMES, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3
    ),
    max_leaves=10,
)


def written(name: str, value: object, indent: str) -> str:
    if isinstance(value, list):
        return "".join(written(name, item, indent) for item in value)
    if isinstance(value, dict):
        inner = "".join(written(key, item, indent) for key, item in value.items())
        return f"{indent}<{name}>{inner}{indent}</{name}>"
    return f"{indent}<{name}>{indent}{escape(str(value))}{indent}</{name}>"


@given(st.dictionaries(NAMES, BRANCHES, min_size=1, max_size=3), st.sampled_from(["", "\n  "]))
def test_what_is_written_as_xml_is_read_again(tree, indent):
    """Any tree comes back, compact or indented, among chatter."""
    assert parse_xml(f"Sure & here <it> is:\n{written('root', tree, indent)}\nBye", "root") == tree


PIECES = st.sampled_from(
    ["<r>", "</r>", "<a>", "</a>", "<b/>", "<", ">", "&", "&amp;", "<!--", "-->", "<![CDATA[", "]]>",
     "x", " ", "\n", "<think>", "</think>", '<a b="c">', "```"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=50).map("".join) | st.text())
def test_any_text_gives_a_value_or_none(text):
    """No text makes the readers fail, and both agree on whether the root is there."""
    content = get_xml_tag_content(text, "r")
    value = parse_xml(text, "r")
    assert (content is None) == (value is None)
    assert content is None or content in text


MANY = 200_000
HOSTILE = {
    "opened": "<r>" * MANY,
    "closed": "</r>" * MANY,
    "pairs": "<r></r>" * MANY,
    "comments": "<r>" + "<!--" * MANY,
    "CDATA": "<r>" + "<![CDATA[" * MANY,
    "angles": "<r>" + "<" * MANY,
    "a long name": "<r><" + "a" * MANY,
    "long attributes": "<r><a " + "b=c " * MANY,
    "spaces in a tag": "<r><a" + " " * MANY,
    "quotes": "<r><a b='" * MANY,
    "deep": "<r>" + "<a>" * MANY + "</a>" * MANY + "</r>",
    "open and stray": "<r>" + "<a>" * MANY + "</b>" * MANY + "</r>",
    "unended items": "<r>" + "<a>1" * MANY + "</r>",
    "siblings": "<r>" + "<a>1</a>" * MANY + "</r>",
    "ampersands": "<r>" + "&" * MANY,
    "numbers": "<r>" + "&#" * MANY,
    "thoughts": "<think>" * MANY + "<r>",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_ends(text):
    """Something, None or a ValueError, soon."""
    get_xml_tag_content(text, "r", with_tag=True)
    try:
        value = parse_xml(text, "r")
    except ValueError as exc:
        value = str(exc)
    assert value is None or isinstance(value, (str, dict))
