"""What templates may not do: reach out, change what they are given, take all time or memory."""

from __future__ import annotations

import pytest

import aitoolman
from aitoolman import LLMApplicationError


def render(text, **params):
    client = aitoolman.LLMScriptedClient(["x"])
    module = {"model": "m", "template": {"user": text}}
    app = aitoolman.LLMApplication(client, {"module": {"m": module}})
    return app["m"].render(**params)[-1].content


@pytest.mark.parametrize(
    "text",
    [
        '{{ "x" * 10**10 }}',
        '{{ 10**10 * "x" }}',
        '{{ "ab" * n }}',
        "{{ [1, 2] * n }}",
        "{{ n**n**n }}",
        "{{ (7**1000000 * 7**1000000) ** 9 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(n) %}{% endfor %}",
        "{{ 'x'.center(n) }}{{ 'x'.ljust(n) }}",
        "{{ 'x'.rjust(10**10) }}",
        "{{ 'x'.zfill(n) }}",
        "{{ 'x'|center(n) }}",
        "{{ 'x'|center(width=10**10) }}",
        "{{ ('\\t' * 1000).expandtabs(10**7) }}",
        "{{ range(100)|join('x' * 1000000) }}",
        "{{ ('x' * 1000000).join(['a'] * 100) }}",
        "{{ ('x' * 10000)|replace('x', 'y' * 10000) }}",
        "{{ ('x' * 10000).replace('x', 'y' * 10000) }}",
        "{{ 'a\\nb'|indent(n) }}",
        "{{ ('x ' * 100000)|wordwrap(1, true, 'y' * 1000) }}",
        "{{ [1]|batch(n, 'x')|list }}",
        "{{ [1]|tojson(indent=n) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (n, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, n) }}",
        "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
        "{% set s = namespace(t='x') %}{% for i in range(40) %}"
        "{% set s.t = s.t + s.t %}{% endfor %}",
        "{% set s = namespace(t='x') %}{% for i in range(40) %}"
        "{% set s.t = s.t ~ s.t %}{% endfor %}",
        "{% set s %}{% for a in many %}{% for b in many %}{{ a }}{% endfor %}{% endfor %}"
        "{% endset %}",
        "{% macro m() %}{% for a in many %}{{ 'x' * 9999 }}{% endfor %}{% endmacro %}{{ m() }}",
        "{% filter upper %}{% for a in many %}{{ 'x' * 9999 }}{% endfor %}{% endfilter %}",
        "{{ many|map('center', 9999)|join }}",
        "{{ ''.join(many|map('center', 9999)) }}",
        "{{ ([{'t': 'x' * 9999}] * 9999)|join(attribute='t') }}",
    ],
)
def test_a_template_that_takes_all_time_or_memory_is_an_error(text):
    """It ends at once, in one sentence that names the template, also where all is constant."""
    with pytest.raises(
        LLMApplicationError, match=r"module 'm', template.user, line 1: .*(larg|more)"
    ):
        render(text, n=10**10, many="abcdefghij" * 600)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in many %}{% for b in many %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in many %}{{ 'x' * 9999 }}{% endfor %}",
        "{% block b %}{% for a in many %}{{ 'x' * 9999 }}{% endfor %}{% endblock %}",
        "{{ 'x' * 15000000 }}{% include 'large' %}",
        "{% import 'endless' as e %}{{ e }}",
    ],
)
def test_a_text_that_grows_without_end_is_an_error(text):
    """It is counted piece by piece, and the message names the module and the bound."""
    client = aitoolman.LLMScriptedClient(["x"])
    endless = "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}"
    config = {
        "template": {"large": "{{ 'x' * 15000000 }}", "endless": endless},
        "module": {"m": {"model": "m", "template": {"user": text}}},
    }
    app = aitoolman.LLMApplication(client, config)
    with pytest.raises(LLMApplicationError, match=r"module 'm', template.user.*20,000,000"):
        app["m"].render(many="abcdefghij" * 600)


def test_texts_of_some_megabytes_are_made():
    """What a large context needs is far within the bound."""
    text = "{% set s %}{% for p in pages %}{{ p ~ '.' }}{% endfor %}{% endset %}{{ s }}"
    assert len(render(text, pages=["x" * 999] * 5000)) == 5_000_000


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{{ "-" * 40 }}', "-" * 40),
        ("{{ 3 ** 4 }} {{ 2 ** 0.5 }} {{ 2 ** -1 }}", f"81 {2**0.5} 0.5"),
        ("{{ 6 * 7 }} {{ 1.5 * 2 }} {{ [0] * 2 }}", "42 3.0 [0, 0]"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ range(9, 0, -4)|list }}", "[9, 5, 1]"),
        ("{{ 'a'|center(3) }}|{{ 'a'.ljust(3) }}|{{ [1, 2]|join(', ') }}", " a |a  |1, 2"),
        ("{{ 'a\\nb'|indent(2) }}|{{ 'aa'|replace('a', 'b') }}", "a\n  b|bb"),
        ("{{ '%5.1f' % 2.25 }}|{{ '{:>4}'.format(10**12) }}|{{ 5 % 3 }}", "  2.2|1000000000000|2"),
        ("{{ [1, 2]|tojson(indent=1) }}|{{ '%s'|format(10**12) }}", "[\n 1,\n 2\n]|1000000000000"),
        ("{{ ['a', 'b']|map('center', 3)|join }}", " a  b "),
        ("{{ 1 ~ none ~ [2] ~ 'x' }}{{ 'a' ~ 'b' }}", "1None[2]xab"),
        ("{{ [{'t': 1}, {'t': 2}]|join('-', attribute='t') }}{{ ', '.join('ab') }}", "1-2a, b"),
        (
            "{% macro m(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call m(1) %}y{% endcall %}",
            "<1y>",
        ),
        ("{% filter upper %}a{% if true %}b{% endif %}{% endfilter %}", "AB"),
    ],
)
def test_ordinary_arithmetic_works(text, result):
    """The bounds are far from what prompts do."""
    assert render(text) == result


def test_each_rendering_has_loops_of_its_own():
    """The numbers of one rendering don't count for the next."""
    text = "{% for i in range(90000) %}{% endfor %}{% for i in range(90000) %}{% endfor %}done"
    assert [render(text) for _ in range(7)] == ["done"] * 7


@pytest.mark.parametrize(
    "text", ["{{ d.clear() }}", "{{ d.update(a=1) }}", "{{ items.append(1) }}"]
)
def test_a_template_changes_nothing_that_it_is_given(text):
    """Parameters are shared, among retries and rows; a template only reads them."""
    d, items = {"k": 1}, [1]
    with pytest.raises(LLMApplicationError, match="the sandbox forbids this"):
        render(text, d=d, items=items)
    assert (d, items) == ({"k": 1}, [1])
