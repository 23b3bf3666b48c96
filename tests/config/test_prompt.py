"""The prompt file: modules over their defaults, templates and tools, and every mistake named."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from aitoolman._config import Example, PromptConfig, load_config, load_config_str
from aitoolman._datamodel import LLMConfigError

DATA = Path(__file__).parents[1] / "data"


def read(toml: str) -> PromptConfig:
    return PromptConfig.from_dict(load_config_str(toml))


def module(lines: str = "", *, more: str = ""):
    return read(f'{more}\n[module.x]\ntemplate.user = "u"\n{lines}').modules["x"]


def problems(config) -> dict[str, str]:
    with pytest.raises(LLMConfigError) as caught:
        PromptConfig.from_dict(load_config_str(config) if isinstance(config, str) else config)
    return dict(caught.value.problems)


def test_the_sample_file_of_the_specification_builds():
    """The printed app_prompt.toml builds whole, impossible tool name and type included."""
    config = PromptConfig.from_dict(load_config(DATA / "app_prompt.toml"))
    assert list(config.modules) == ["raw", "summerize", "task_planner", "json_extractor", "chat"]
    raw, planner = config.modules["raw"], config.modules["task_planner"]
    assert (raw.model, raw.stream, raw.options) == ("Fast-Model", False, {"max_tokens": 4000})
    assert (planner.stream, list(planner.tools)) == (True, ["add_task"])
    assert planner.tools["add_task"]["param"]["content"]["required"] is True
    assert config.modules["summerize"].post_processor == "builtin.parse_json"
    assert config.templates == {"greeting": "Hello, {{name}}!"}
    assert (
        config.tools["Tool Name"]["param"]["Parameter Name 1"]["type"] == "string/integer/boolean"
    )
    assert config.file == str(DATA / "app_prompt.toml")


def test_every_default_is_as_documented():
    """A module with nothing but its template has the values of the reference."""
    x = module()
    assert (x.model, x.stream, x.post_processor, x.format_retries) == (None, False, None, 0)
    assert (x.output_channel, x.reasoning_channel) == ("stdout", "reasoning")
    assert (x.options, x.tools, x.examples, x.system_template, x.description) == (
        {},
        {},
        (),
        None,
        "",
    )


@pytest.mark.parametrize("config", [None, {}], ids=["None", "empty"])
def test_no_configuration_has_no_modules(config):
    """An application without a file is sound, and modules can be added to it."""
    made = PromptConfig.from_dict(config)
    assert (made.modules, made.aliases, made.file) == ({}, {}, None)
    assert made.module_from_table("m", {"template": {"user": "hi"}}).output_channel == "stdout"


def test_options_and_tools_replace_the_defaults_whole():
    """Inheritance is one level deep: no key of a replaced table survives."""
    more = "[module_default]\noptions = { a = 1, b = 2 }\ntools.t.description = 'd'\n"
    assert module("options = { b = 3 }", more=more).options == {"b": 3}
    assert module("tools = {}", more=more).tools == {}
    assert list(module(more=more).tools) == ["t"]


@pytest.mark.parametrize("key", ["output_channel", "reasoning_channel", "post_processor"])
def test_an_empty_string_switches_off_what_is_inherited(key):
    """Off is None, told apart from not given."""
    more = f'[module_default]\n{key} = "set"\n'
    assert getattr(module(more=more), key) == "set"
    assert getattr(module(f'{key} = ""', more=more), key) is None


def test_examples_are_text_or_template_variables():
    """Few-shot turns keep their order and form."""
    x = module(
        '[[module.x.examples]]\nuser = "hello"\nassistant = "a"\n'
        "[[module.x.examples]]\nuser = { title = 't', n = 3 }\nassistant = 'b'\n"
    )
    assert x.examples == (Example("hello", "a"), Example({"title": "t", "n": 3}, "b"))


def test_a_module_refers_to_a_global_tool_by_an_empty_table():
    """The definition is filled in; an own definition of the same name wins."""
    tool = '[tools."look up"]\ndescription = "d"\nparam.q.type = "string"\n'
    filled = module('tools."look up" = {}', more=tool).tools["look up"]
    assert filled == {"description": "d", "param": {"q": {"type": "string"}}}
    assert module('tools."look up".description = "own"', more=tool).tools["look up"] == {
        "description": "own"
    }


def test_a_module_added_later_sees_defaults_and_global_tools():
    """A table from a notebook cell is read like one in the file."""
    config = read('[module_default]\nmodel = "m"\n[tools.t]\ndescription = "d"')
    x = config.module_from_table("x", {"template": {"user": "u"}, "tools": {"t": {}}})
    assert (x.model, x.tools) == ("m", {"t": {"description": "d"}})
    assert "x" not in config.modules


def test_a_prompt_may_contain_dollar_braces():
    """Variables are the provider file's: here ${x} is text."""
    assert module('template.system = "${x} ${"').system_template == "${x} ${"


def test_the_input_is_neither_changed_nor_shared():
    """What was passed in stays as it was, and modules don't share tables."""
    table = {
        "module_default": {"options": {"stop": ["a"]}},
        "module": {"a": {"template": {"user": "u"}}, "b": {"template": {"user": "u"}}},
    }
    before = copy.deepcopy(table)
    config = PromptConfig.from_dict(table)
    config.modules["a"].options["stop"].append("b")
    assert table == before
    assert config.modules["b"].options == {"stop": ["a"]}


TOOLS = {
    "param form": "param.q.type = 'string'\nparam.q.required = true",
    "nested schema": "param.q = { type = 'array', items = { type = 'string' }, minItems = 1 }",
    "type list": "param.q.type = ['string', 'null']",
    "json schema": "parameters = { type = 'object', properties = {} }",
    "input schema": "input_schema = { type = 'object' }",
    "vendor's own": "type = 'web_search_20250305'\nmax_uses = 3",
    "vendor's key": "cache_control = { type = 'ephemeral' }",
    "nested function": "function = { name = 'x', parameters = {} }",
    "impossible name": "param.'a b'.type = 'string/integer'",
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_every_form_of_a_tool_is_taken(tool):
    """Both argument forms, a vendor's tools and keys; what cannot be sent fails on sending."""
    assert read(f"[tools.t]\n{tool}").tools["t"]


BAD = {
    "no template": ("[module.x]", 'module."x".template', "missing"),
    "no user": ("[module.x]\ntemplate.system = 's'", 'module."x".template.user', "missing"),
    "template typo": (
        "[module.x.template]\nuser = 'u'\nsytem = 's'",
        'module."x".template.sytem',
        "'system'",
    ),
    "template is text": ("[module.x]\ntemplate = 'u'", 'module."x".template', "must be a table"),
    "unknown key": ("module_default.modle = 'm'", "module_default.modle", "did you mean 'model'"),
    "stream text": ("module_default.stream = 'yes'", "module_default.stream", "true or false"),
    "retries bool": (
        "module_default.format_retries = true",
        "module_default.format_retries",
        "whole",
    ),
    "options date": ("module_default.options.a = 1979-05-27", "module_default.options.a", "JSON"),
    "empty model": ("module_default.model = ''", "module_default.model", "empty"),
    "global template": ("[template]\na = 3", "template.a", "must be a string"),
    "alias list": ("[model_alias]\na = ['b']", "model_alias.a", "must be a string, not a list"),
    "tool text": ("[tools]\nt = 'x'", 'tools."t"', "must be a table"),
    "tool typo": ("[tools.t]\ndescripton = 'x'", 'tools."t".descripton', "'description'"),
    "param typo": ("[tools.t]\nparam.q.typ = 'x'", 'tools."t".param.q.typ', "'type'"),
    "param text": ("[tools.t]\nparam.type = 'object'", 'tools."t".param.type', "JSON Schema"),
    "param required": ("[tools.t]\nparam.q.required = 'yes'", 'tools."t".param.q.required', "true"),
    "both forms": ("[tools.t]\nparam = {}\nparameters = {}", 'tools."t".parameters', "`param`"),
    "unknown tool": (
        "module_default.tools.'look-up' = {}\n[tools.lookup]\ntype = 'function'",
        'module_default.tools."look-up"',
        "'lookup'",
    ),
    "examples table": (
        "[module.x]\ntemplate.user = 'u'\nexamples = {}",
        'module."x".examples',
        "list of tables",
    ),
    "example number": (
        "[module.x]\ntemplate.user = 'u'\nexamples = [{ user = 3, assistant = 'a' }]",
        'module."x".examples[0].user',
        "text",
    ),
    "example half": (
        "[module.x]\ntemplate.user = 'u'\nexamples = [{ user = 'q' }]",
        'module."x".examples[0].assistant',
        "missing",
    ),
    "other file's": ("[module.x]\ntemplate.user = 'u'\n[api.x]", "api", "provider file"),
}


@pytest.mark.parametrize(("toml", "key", "message"), BAD.values(), ids=BAD)
def test_a_mistake_is_named_with_its_key(toml, key, message):
    """Each mistake gives exactly one problem at its own key."""
    found = problems(toml)
    assert list(found) == [key]
    assert message in found[key]


def test_a_wrong_global_tool_is_one_mistake_only():
    """Modules that refer to a tool with a mistake don't repeat it."""
    found = problems("[tools.t]\nparam = 3\n[module.x]\ntemplate.user = 'u'\ntools.t = {}")
    assert list(found) == ['tools."t".param']


def test_a_mistake_in_the_defaults_is_reported_once():
    """Ten modules that inherit a wrong key add nothing to the report."""
    modules = "\n".join(f"[module.m{n}]\ntemplate.user = 'u'" for n in range(10))
    assert len(problems(f"[module_default]\nstream = 3\n{modules}")) == 1


def test_all_mistakes_come_at_once():
    """Modules, templates and tools are checked in one pass."""
    found = problems("[template]\na = 1\n[tools.t]\nparam = 1\n[module.x]\n[module.y]\nstream = 1")
    assert len(found) == 5


@pytest.mark.parametrize("table", [None, "text", {"template": "u"}, {"tools": {"t": {}}}])
def test_a_wrong_table_from_a_cell_names_the_module(table):
    """Every problem of a later module carries the module's key."""
    with pytest.raises(LLMConfigError) as caught:
        PromptConfig.from_dict(None).module_from_table("x", table)
    assert all(p.key.startswith('module."x"') for p in caught.value.problems)


def test_a_provider_file_is_recognized():
    """The provider file given to an application is called by its name, in one message."""
    with pytest.raises(LLMConfigError, match="this is a provider file") as caught:
        PromptConfig.from_dict(load_config(DATA / "llm_config.toml"))
    assert len(caught.value.problems) == 1


def test_the_mistakes_survive_pickling():
    """An error that crosses a process keeps its problems."""
    import pickle

    with pytest.raises(LLMConfigError) as caught:
        read("[module.x]")
    same = pickle.loads(pickle.dumps(caught.value))
    assert (same.problems, str(same)) == (caught.value.problems, str(caught.value))
