"""References to environment variables in the provider file: put in when an entry is first used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._config import ProviderConfig, load_config_str
from aitoolman._config.variables import Substitution, malformed_reference
from aitoolman._datamodel import LLMConfigError
from aitoolman._secrets import Redactor

CANARY = "canary-7f3a9d41"


def entry(lines: str, *, default: str = "", url: str = "https://host/v1"):
    toml = f'[default]\n{default}\n[api."GPT-4"]\nurl = "{url}"\nmodel = "m"\n{lines}'
    return ProviderConfig.from_dict(load_config_str(toml)).entries["GPT-4"]


@pytest.mark.parametrize(
    ("text", "environ", "result"),
    [
        ("a ${X} b", {"X": "1"}, "a 1 b"),
        ("${X}${Y}", {"X": "1", "Y": "2"}, "12"),
        ("${X:-d}", {}, "d"),
        ("${X:-d}", {"X": ""}, "d"),
        ("${X:-d}", {"X": "1"}, "1"),
        ("${X:-}", {}, ""),
        ("${X:-a $ b: c}", {}, "a $ b: c"),
        ("$X {X} $$", {"X": "1"}, "$X {X} $$"),
        ("$${X}", {"X": "1"}, "${X}"),
        ("${X}", {"X": "${Y}"}, "${Y}"),
    ],
)
def test_references_are_replaced(text, environ, result):
    """The two forms, the escape, and nothing else; a value is not read again."""
    assert Substitution(environ).apply(text, "key") == result


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A-b}", "${A", "${A:-${B}}", "x ${a b}"])
def test_malformed_references_are_told(text):
    """What looks like a reference and is none is a mistake."""
    assert malformed_reference(text)


@given(st.text(alphabet="${}:-AB_ 1"))
def test_any_text_is_replaced_or_malformed(text):
    """Whatever stands in a string, no exception comes out."""
    run = Substitution({"A": "a"})
    assert isinstance(run.apply(text, "key"), str)
    malformed_reference(text)


def test_nothing_is_looked_up_at_load():
    """A missing variable disables only the entry that needs it, and only on use."""
    e = entry('api_key = "${SURELY_NOT_SET_ANYWHERE}"')
    assert e.api_key == "${SURELY_NOT_SET_ANYWHERE}"


def test_all_missing_variables_are_named_with_their_keys():
    """One error names each variable, its file and where it stands, [default] included."""
    e = entry(
        'api_key = "${KEY}"\nbody_options = { user = { id = ["${WHO}"] } }',
        default='headers = { X-Team = "${TEAM}" }',
    )
    with pytest.raises(LLMConfigError) as caught:
        e.resolve({})
    assert [p.key for p in caught.value.problems] == [
        'api."GPT-4".api_key',
        "default.headers.X-Team",
        'api."GPT-4".body_options.user.id[0]',
    ]
    assert "KEY is not set" in caught.value.problems[0].message


def test_an_empty_variable_counts_as_missing():
    """An empty key never works, so it is said before anything is sent."""
    with pytest.raises(LLMConfigError, match=r"KEY is not set \(or empty\)"):
        entry('api_key = "${KEY}"').resolve({"KEY": ""})


def test_the_environment_is_read_at_the_moment_of_use(monkeypatch):
    """A variable that is set after loading counts."""
    e = entry('api_key = "${AITOOLMAN_TEST_KEY}"')
    monkeypatch.setenv("AITOOLMAN_TEST_KEY", "later")
    assert e.resolve().api_key == "later"


def test_every_string_of_an_entry_is_resolved():
    """Address, model, key, headers, body, quirks and dialect."""
    e = entry(
        'type = "${V}"\napi_key = "${V}"\nheaders.X-A = "${V}"\nbody_options.a.b = ["${V}"]\n'
        'dialect = "${V}"\nquirks.a = "${V}"',
        url="https://${V}/v1",
    )
    r = e.resolve({"V": "value"})
    assert (r.url, r.api_key, r.headers) == ("https://value/v1", "value", {"X-A": "value"})
    assert r.body_options == {"a": {"b": ["value"]}}
    assert (r.config["dialect"], r.config["quirks"], r.config["type"]) == (
        "value",
        {"a": "value"},
        "value",
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [('headers.X-A = "${V}"', 'api."GPT-4".headers.X-A'), ("", 'api."GPT-4".url')],
    ids=["header", "url"],
)
def test_a_line_break_from_the_environment_is_refused_and_not_shown(line, key):
    """A key file read with its line end is a known trap; the message does not print it."""
    e = entry(line, url="https://host/${V}")
    with pytest.raises(LLMConfigError) as caught:
        e.resolve({"V": f"{CANARY}\n"})
    assert key in [p.key for p in caught.value.problems]
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ('api_key = "${V}"', "https://host/v1"),
        ('headers.Authorization = "Bearer ${V}"', "https://host/v1"),
        ('headers.User-Agent = "${V}"', "https://host/v1"),
        ('body_options.a.anything = "${V}"', "https://host/v1"),
        ("", "https://host/v1?code=${V}"),
        ("", "https://host/${V}/v1"),
        ("", "https://u:${V}@host/v1"),
    ],
)
def test_what_comes_from_the_environment_is_a_secret(line, url):
    """Its value is redacted from every text, wherever it was put in."""
    r = entry(line, url=url).resolve({"V": CANARY})
    assert CANARY not in Redactor(r.secrets).text(f"error near {CANARY}: {r.url} {r.headers}")
    assert CANARY not in repr(r)


def test_model_and_host_stay_readable():
    """A message must be able to name the model and the host, wherever they come from."""
    e = entry('headers.X-A = "1"', url="${BASE}/v1/${V:-chat}")
    r = e.resolve({"BASE": "https://api.openai.com:443"})
    text = "cannot reach https://api.openai.com:443/v1/chat"
    assert Redactor(r.secrets).text(text) == text


def test_secrets_written_into_the_file_are_known_too():
    """A literal key, header or password is redacted like one from the environment."""
    e = entry(
        'api_key = "literal-key"\nheaders.Authorization = "Bearer header-key"\n'
        'body_options = { provider = { token = "body-token" }, model_hint = "visible" }',
        url="https://user:pass-word@host/?key=query-key",
    )
    text = Redactor(e.resolve({}).secrets).text(
        "literal-key header-key body-token pass-word query-key visible"
    )
    assert text == "*** *** *** *** *** visible"


def test_words_of_a_schema_are_no_secrets():
    """A schema property called `token` does not blot the word `string` out of every log."""
    e = entry('body_options.response_format.properties.token.type = "string"')
    assert e.resolve({}).secrets == ()


def test_a_type_from_the_environment_decides_on_use():
    """An entry whose type is a variable may prove to be the embedded model, or to lack its url."""
    config = ProviderConfig.from_dict({"api": {"x": {"type": "${T}", "model": "m.gguf"}}})
    assert config.entries["x"].resolve({"T": "llamacpp"}).config["n_ctx"] == 4096
    with pytest.raises(LLMConfigError, match=r'api\."x".url: is missing'):
        config.entries["x"].resolve({"T": "openai"})
