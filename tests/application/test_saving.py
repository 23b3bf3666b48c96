"""`app.save_modules`: what was written in cells goes into a file that renders the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aitoolman
from aitoolman._application.saving import _plain, _without, toml_tables

TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"\\\n\r\t'#[]{}="), max_size=30
)
NAME = TEXT.filter(str.strip)
VALUE = (
    TEXT
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
)
OPTIONS = st.dictionaries(
    TEXT,
    VALUE | st.lists(VALUE, max_size=3) | st.dictionaries(TEXT, VALUE, max_size=2),
    max_size=3,
)
EXAMPLE = st.fixed_dictionaries(
    {"user": TEXT | st.dictionaries(TEXT, TEXT, min_size=1, max_size=2), "assistant": TEXT}
)
MODULE = st.fixed_dictionaries(
    {"template": st.fixed_dictionaries({"user": TEXT}, optional={"system": TEXT})},
    optional={
        "options": OPTIONS,
        "examples": st.lists(EXAMPLE, max_size=3),
        "model": NAME,
        "stream": st.booleans(),
        "tools": st.dictionaries(NAME, st.just({}), max_size=2),
    },
)
FILE = """# my prompts, with remarks
[module_default]
model = "fast"

[template]
sign = '''
[module.not_a_header]
'''

[module.kept]  # stays
template.user = "{{ x }}"

[module."to change".template]
user = \"\"\"
[module.kept]
old {{ text }}\"\"\"

[[module."to change".examples]]
user = "u"
assistant = "a"

[tools.clock]
type = "function"
description = "The time"
"""


def an_app(config=None):
    return aitoolman.LLMApplication(aitoolman.LLMScriptedClient("ok"), config)


@given(st.dictionaries(NAME, MODULE, min_size=1, max_size=3))
def test_any_module_comes_back_as_it_was(modules):
    """Quotes, control characters, line ends and nested options survive; tables can be taken out."""
    text = "\n".join(toml_tables({"module": modules}))
    assert _plain(aitoolman.load_config_str(text)) == {"module": _plain(modules)}
    assert "module" not in aitoolman.load_config_str(_without(text, modules))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(str.strip))
def test_a_saved_prompt_renders_the_same_bytes(tmp_path_factory, prompt):
    """Whatever the prompt holds, the file sends what the cell sent."""
    path = tmp_path_factory.mktemp("saved") / "prompts.toml"
    app = an_app({"module_default": {"model": "fast"}})
    app.add_module(
        "m", {"template": {"user": "{% raw %}" + prompt.replace("{%", "") + "{% endraw %}"}}
    )
    app.save_modules(path)
    again = an_app(aitoolman.load_config(path))
    assert again["m"].render() == app["m"].render()


def test_a_new_file_has_what_the_modules_lean_on(tmp_path):
    """Defaults, aliases, global templates and tools go with them, so the file stands alone."""
    config = aitoolman.load_config_str(FILE)
    app = an_app(config)
    app.add_module(
        "new", {"template": {"user": "{% include 'sign' %}{{ x }}"}, "tools": {"clock": {}}}
    )
    path = app.save_modules(tmp_path / "out.toml")
    again = an_app(aitoolman.load_config(path))
    assert list(again) == ["new"]
    assert again["new"].config == app["new"].config
    assert again["new"].render(x=1) == app["new"].render(x=1)


def test_an_existing_file_keeps_every_other_line(tmp_path):
    """A module is replaced where it stands in the file, remarks and other tables untouched."""
    path = tmp_path / "prompts.toml"
    path.write_text(FILE)
    app = an_app(aitoolman.load_config(path))
    app.add_module("to change", {"template": {"user": "new {{ text }}\nand more"}})
    app.save_modules(path)
    text = path.read_text()
    assert text.startswith("# my prompts, with remarks\n[module_default]")
    assert "[module.kept]  # stays" in text
    assert "old {{ text }}" not in text
    again = an_app(aitoolman.load_config(path))
    assert again["to change"].render(text="t")[0].content == "new t\nand more"
    assert "description" in again._modules.config.tools["clock"]
    app.save_modules(path)
    assert path.read_text() == text


def test_a_file_that_cannot_be_changed_safely_is_left_alone(tmp_path):
    """Dotted keys under one header: an error says so, and not a byte is changed."""
    path = tmp_path / "prompts.toml"
    path.write_text('[module]\nx.template.user = "old"\n')
    app = an_app()
    app.add_module("x", {"template": {"user": "new"}})
    with pytest.raises(aitoolman.LLMApplicationError, match="save into another file"):
        app.save_modules(path)
    assert path.read_text() == '[module]\nx.template.user = "old"\n'
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.toml"]


def test_only_named_modules_are_saved_and_a_wrong_name_is_told(tmp_path):
    """`names` picks; a misspelt one is an error with the near ones."""
    app = an_app()
    for name in ("one", "two"):
        app.add_module(name, {"template": {"user": name}})
    app.save_modules(tmp_path / "p.toml", ["two"])
    assert list(aitoolman.load_config(tmp_path / "p.toml")["module"]) == ["two"]
    with pytest.raises(aitoolman.LLMUnknownNameError, match="'one'"):
        app.save_modules(tmp_path / "p.toml", ["onee"])
