"""Templates: what they see, what they may do, and how they fail."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._application.app import LLMApplication
from aitoolman._datamodel import LLMApplicationError, LLMConfigError, LLMUnknownNameError, Message

from .doubles import Worker, module


def app_of(config, **variables):
    app = LLMApplication(Worker(), config)
    app.vars.update(variables)
    return app


def text_of(config, **params):
    return app_of(config)["m"].render(**params)[-1].content


def test_render_gives_the_exact_messages():
    """`render` returns the messages that a call sends, system first."""
    app = app_of(module("Hi {{name}}", template={"system": "Be {{mood}}."}))
    messages = app["m"].render(name="Ada", mood="kind")
    assert messages == [Message("system", "Be kind."), Message("user", "Hi Ada")]


def test_the_one_final_line_end_of_a_template_is_dropped_and_no_other():
    """A TOML string in triple quotes, a cell and a script send the same bytes."""
    assert text_of(module("a\n")) == text_of(module("a")) == "a"
    assert text_of(module("a \n\n")) == "a \n"
    assert text_of(module("a\r\nb\r\n")) == "a\nb"


@given(st.text())
def test_values_reach_the_model_as_they_are(text):
    """Nothing in a value is escaped, trimmed or read as a template."""
    assert text_of(module("{{text}}"), text=text) == text


def test_a_dollar_variable_in_a_prompt_is_just_text():
    """`${VAR}` is resolved in the provider file only."""
    assert text_of(module("Pay ${HOME}")) == "Pay ${HOME}"


def test_an_undefined_variable_names_module_template_line_and_variable():
    """The message leads to the line of the prompt, with the near name that was passed."""
    with pytest.raises(LLMApplicationError) as caught:
        text_of(module("first\n\n{{ txet }}"), text="x")
    message = str(caught.value)
    assert "module 'm', template.user, line 3" in message
    assert "'txet'" in message
    assert "you passed text=" in message
    assert "did you mean" not in message


def test_a_variable_that_the_template_uses_is_no_slip():
    """Only what was passed for nothing can be meant for what is missing."""
    with pytest.raises(LLMApplicationError, match=r"pass texts=\.\.\. .*\(given: 'text'\)"):
        text_of(module("{{ text }} {{ texts }}"), text="x")


@pytest.mark.parametrize(
    ("template", "params"),
    [
        ("{{ topic }}", {"tpic": "x"}),
        ("{{ a.street }}", {"a": {}}),
        ("{% include name %}", {"name": "nowhere"}),
        ("{{ ''.__class__.__mro__ }}", {}),
    ],
    ids=["variable", "attribute", "template", "forbidden"],
)
def test_what_jinja_finds_is_told_once(template, params):
    """The sentence stands alone: a notebook shows no traceback of Jinja's before it."""
    with pytest.raises(LLMApplicationError) as caught:
        text_of(module(template), **params)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_what_a_value_raises_stays_attached():
    """It happened in the caller's code, so the traceback is wanted."""

    class Broken:
        def __str__(self):
            raise OSError("disk gone")

    with pytest.raises(LLMApplicationError, match="disk gone") as caught:
        text_of(module("{{ x }}"), x=Broken())
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ x", "a }} is missing"),
        ("{{ x\nand more", "a }} is missing"),
        ("{{ x }", "a }} is missing"),
        ("{% if x", "a %} is missing"),
    ],
)
def test_an_open_mark_is_named_as_it_is_written(template, said):
    """Jinja speaks of print statements, which nobody has written."""
    with pytest.raises(LLMConfigError, match=f"line 1: {said}|line 2: {said}"):
        app_of(module(template))


def test_an_undefined_variable_in_an_included_template_names_both():
    """Module and included template both stand in the message."""
    config = {"template": {"sign": "Yours,\n{{who}}"}} | module("{% include 'sign' %}")
    with pytest.raises(LLMApplicationError, match=r"module 'm'.*template 'sign', line 2.*'who'"):
        text_of(config)


def test_a_missing_attribute_is_an_error_with_its_place():
    """An undefined attribute of a value is no empty text."""
    with pytest.raises(LLMApplicationError, match=r"line 1: .*'street'"):
        text_of(module("{{ a.street }}"), a={})


def test_an_optional_variable_may_be_missing():
    """`default` and `is defined` work as in Jinja."""
    assert text_of(module("{{ x | default('-') }}{% if y is defined %}{{ y }}{% endif %}")) == "-"


def test_a_parameter_that_no_template_uses_is_fine():
    """Extra arguments are no error."""
    assert text_of(module("hello"), type="article") == "hello"


def test_app_vars_are_seen_by_all_templates_and_call_arguments_win():
    """`app.vars` stands behind the arguments of a call."""
    app = app_of(module("{{ greeting }} {{ name }}"), greeting="Hi", name="all")
    assert app["m"].render(name="Ada")[-1].content == "Hi Ada"
    assert app.render_template("module/m/user") == "Hi all"


@pytest.mark.parametrize("name", ["name", "app", "request", "template_name", "class", "messages"])
def test_any_word_can_be_a_variable(name):
    """No argument of a module call is taken by the library but those with an underscore."""
    assert text_of(module("{{ " + name + " }}"), **{name: "v"}) == "v"


def test_global_templates_render_by_name():
    """`render_template` knows global templates."""
    app = app_of({"template": {"greeting": "Hello, {{name}}!"}})
    assert app.render_template("greeting", name="Ada") == "Hello, Ada!"


def test_module_templates_render_by_path():
    """`render_template` knows `module/<module>/<user|system>`."""
    app = app_of(module("u", template={"system": "s {{x}}"}))
    assert app.render_template("module/m/system", x=1) == "s 1"
    assert app.render_template("module/m/user") == "u"


def test_an_unknown_template_is_a_key_error_with_near_names():
    """Asking for a template that is not there names the nearest."""
    app = app_of({"template": {"greeting": "x"}})
    with pytest.raises(KeyError, match="did you mean 'greeting'"):
        app.render_template("greetings")


def test_templates_include_one_another_by_these_names():
    """A module can include a global template and another module's."""
    config = {
        "template": {"rules": "Rules for {{who}}."},
        "module": {
            "a": {"template": {"user": "A: {% include 'rules' %}"}},
            "b": {"template": {"user": "B {% include 'module/a/user' %}"}},
        },
    }
    assert app_of(config).render_template("module/b/user", who="me") == "B A: Rules for me."


def test_an_unknown_include_is_found_when_the_application_is_built():
    """A wrong include is a configuration error with key, line and near names."""
    config = {"template": {"rules": "x"}} | module("\n{% include 'rule' %}")
    with pytest.raises(LLMConfigError, match=r'module\."m"\.template\.user: line 2: .*\'rules\''):
        app_of(config)


def test_an_include_that_may_be_missing_is_fine():
    """`ignore missing` keeps its meaning."""
    assert text_of(module("a{% include 'nowhere' ignore missing %}b")) == "ab"


def test_an_unknown_name_computed_at_run_time_is_a_clear_error():
    """A dynamic include that leads nowhere names the template asked for."""
    with pytest.raises(LLMUnknownNameError, match=r"module 'm'.*no template 'nope'"):
        text_of(module("{% include which %}"), which="nope")


def test_templates_that_include_one_another_in_a_circle_fail_in_one_sentence():
    """Endless inclusion ends as an error, not as a crash."""
    config = {"template": {"a": "{% include 'b' %}", "b": "{% include 'a' %}"}}
    with pytest.raises(LLMApplicationError, match="circle"):
        app_of(config).render_template("a")


def test_all_syntax_errors_come_at_once_with_file_key_and_line():
    """Building an application reports every broken template together with all other mistakes."""
    config = {
        "template": {"one": "{{ }}"},
        "module": {
            "m": {"template": {"user": "ok\n{% if %}", "system": "{{ a"}, "straem": True},
        },
    }
    with pytest.raises(LLMConfigError) as caught:
        app_of(config)
    message = str(caught.value)
    assert 'template."one": line 1' in message
    assert 'module."m".template.user: line 2' in message
    assert 'module."m".template.system: line 1' in message
    assert "straem" in message


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ f.__globals__ }}",
    "{{ f.__code__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ ('{0.__class__}'|attr('format'))(1) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% for k in f.__globals__.items() %}{{ k }}{% endfor %}",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_sandbox_holds(escape):
    """No template reaches the inside of Python."""

    def f():
        return 1

    with pytest.raises(LLMApplicationError):
        text_of(module(escape), f=f)


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y", "'a'", "1", "-1", "none", "[]", "{}", "self", "loop", "super()"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("{0[0]} ~ {0[1]}".format),
        st.tuples(inner, inner).map("{0[0]} // {0[1]}".format),
        st.tuples(inner, inner).map("{0[0]}[{0[1]}]".format),
        st.tuples(inner, inner).map("{0[0]}({0[1]})".format),
        st.tuples(inner, inner).map("{0[0]} if {0[1]} else 1".format),
        inner.map("{}.__class__".format),
        inner.map("({})|map('upper')|list".format),
        inner.map("{}|attr('x')".format),
        inner.map("({}) is divisibleby(0)".format),
        inner.map("{}|nofilter".format),
    ),
    max_leaves=6,
)
STATEMENTS = st.sampled_from(
    [
        "{{{{ {0} }}}}",
        "{{% if {0} %}}a{{% endif %}}",
        "{{% for i in {0} recursive %}}{{{{ loop(i) }}}}{{% endfor %}}",
        "{{% set z = {0} %}}",
        "{{% macro m(a) %}}{{{{ a }}}}{{% endmacro %}}{{{{ m({0}) }}}}",
        "{{% call {0} %}}a{{% endcall %}}",
        "{{% block b %}}{{{{ {0} }}}}{{% endblock %}}",
        "{{% include {0} %}}",
        "{{% extends {0} %}}",
        "{{% import {0} as q %}}",
        "{{{{",
    ]
)
TEMPLATE_PIECES = st.builds(lambda form, inside: form.format(inside), STATEMENTS, EXPRESSIONS)


@given(st.lists(TEMPLATE_PIECES, max_size=4).map("".join))
def test_any_text_is_a_template_or_a_configuration_error(text):
    """Property: nothing but the two documented errors comes out of building and rendering."""
    try:
        app = app_of(module(text))
    except LLMConfigError:
        return
    assert isinstance(app["m"].variables, list)
    with contextlib.suppress(LLMApplicationError):
        assert isinstance(app["m"].render(x="v")[0].content, str)


@pytest.mark.parametrize(
    "text",
    ["{{ 1 if ''.__class__ else 2 }}", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"],
    ids=["forbidden constant", "nested too deeply"],
)
def test_what_jinja_cannot_compile_is_a_configuration_error(text):
    """Whatever goes wrong inside Jinja, the message has the key."""
    with pytest.raises(LLMConfigError, match=r'module\."m"\.template\.user'):
        app_of(module(text))


def test_a_failing_expression_keeps_its_cause():
    """An exception in a function that a template calls is named, and is the cause."""

    def broken():
        raise ZeroDivisionError("oops")

    with pytest.raises(LLMApplicationError, match="line 1: ZeroDivisionError: oops") as caught:
        text_of(module("{{ f() }}"), f=broken)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_variables_are_sorted_and_follow_includes_and_examples():
    """`.variables` are what a call has to give."""
    config = {"template": {"rules": "{{tone}} {{range(2)}} {{ local }}"}}
    config |= module(
        "{% set local = 1 %}{{text}} {% for i in items %}{{ i }}{% endfor %}{% include 'rules' %}",
        template={"system": "{{persona}}"},
        examples=[{"user": {"text": "a"}, "assistant": "b"}],
    )
    app = app_of(config, tone="dry")
    assert app["m"].variables == ["items", "persona", "text"]


def test_examples_are_chat_turns_between_system_and_prompt():
    """Text goes as it is, a table of variables through the user template."""
    config = module(
        "Ticket: {{text}}",
        template={"system": "Sort tickets."},
        examples=[
            {"user": "{{raw}}\n", "assistant": "A\n"},
            {"user": {"text": "no login"}, "assistant": "B"},
        ],
    )
    messages = app_of(config)["m"].render(text="new")
    assert [(m.role, m.content) for m in messages] == [
        ("system", "Sort tickets."),
        ("user", "{{raw}}\n"),
        ("assistant", "A\n"),
        ("user", "Ticket: no login"),
        ("assistant", "B"),
        ("user", "Ticket: new"),
    ]


def test_an_example_may_leave_variables_to_the_call():
    """What an example's table lacks comes from the call, what it has wins."""
    config = module("{{labels}}: {{text}}", examples=[{"user": {"text": "x"}, "assistant": "y"}])
    app = app_of(config)
    for labels in ("a,b", "c,d"):
        texts = [m.content for m in app["m"].render(labels=labels, text="new")]
        assert texts == [f"{labels}: x", "y", f"{labels}: new"]


def test_what_render_returns_can_be_changed_without_harm():
    """A rendered list is the caller's own."""
    app = app_of(module(examples=[{"user": "a", "assistant": "b"}]))
    app["m"].render(text="1").clear()
    assert len(app["m"].render(text="2")) == 3


def test_an_empty_system_prompt_is_left_out():
    """A system template that renders to nothing sends no message."""
    config = module(template={"system": "{% if x is defined %}{{ x }}{% endif %}"})
    assert [m.role for m in app_of(config)["m"].render(text="t")] == ["user"]


def test_compiled_templates_are_shared_by_all_applications_of_a_factory():
    """One configuration is compiled once."""
    factory = LLMApplication.factory(Worker(), module())
    assert factory()._modules is factory()._modules
