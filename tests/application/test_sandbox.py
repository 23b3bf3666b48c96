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
    ],
)
def test_a_template_that_takes_all_time_or_memory_is_an_error(text):
    """It ends at once, in one sentence that names the template, also where all is constant."""
    with pytest.raises(
        LLMApplicationError, match=r"module 'm', template.user, line 1: .*(larg|more)"
    ):
        render(text, n=10**10)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{{ "-" * 40 }}', "-" * 40),
        ("{{ 3 ** 4 }} {{ 2 ** 0.5 }} {{ 2 ** -1 }}", f"81 {2**0.5} 0.5"),
        ("{{ 6 * 7 }} {{ 1.5 * 2 }} {{ [0] * 2 }}", "42 3.0 [0, 0]"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ range(9, 0, -4)|list }}", "[9, 5, 1]"),
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
