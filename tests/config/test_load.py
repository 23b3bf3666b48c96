"""Reading TOML: files, texts, and what is said when one cannot be read."""

from __future__ import annotations

import contextlib
import copy
import pickle
import pprint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._config import Config, load_config, load_config_str
from aitoolman._datamodel import LLMConfigError

DATA = Path(__file__).parents[1] / "data"
CANARY = "canary-7f3a9d41"


def test_a_file_is_read_as_it_stands_and_remembered():
    """A file's tables come back unchanged, with its absolute path."""
    config = load_config(DATA / "llm_config.toml")
    assert config["default"] == {
        "timeout": 600,
        "max_retries": 3,
        "parallel": 1,
        "api_type": "openai",
    }
    assert config.path == DATA / "llm_config.toml"


def test_a_relative_name_gives_an_absolute_path(tmp_path, monkeypatch):
    """The path outlives a change of the working directory."""
    (tmp_path / "a.toml").write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    assert load_config("a.toml").path == tmp_path / "a.toml"


def test_text_has_no_path():
    """Text is read like a file and belongs to none."""
    config = load_config_str("a.b = 1")
    assert (config, config.path) == ({"a": {"b": 1}}, None)


def test_any_toml_is_read_whatever_it_means():
    """Meaning is checked elsewhere: loading takes tables that nobody knows."""
    assert load_config_str("[nonsense]\nx = 1979-05-27")["nonsense"]


@pytest.mark.parametrize(
    "raw", [b"\xef\xbb\xbfa = 1\n", b"a = 1\r\nb = 'x'\r\n"], ids=["bom", "crlf"]
)
def test_files_from_other_editors_are_read(tmp_path, raw):
    """A byte order mark and Windows line ends are no mistakes."""
    file = tmp_path / "a.toml"
    file.write_bytes(raw)
    assert load_config(file)["a"] == 1


def test_a_missing_file_is_one_sentence_with_the_folder(tmp_path, monkeypatch):
    """The error says which name was looked for, and where."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_config("llm_confg.toml")
    assert "no configuration file 'llm_confg.toml' in" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_is_an_os_error(tmp_path):
    """What cannot be read stays an OSError."""
    with pytest.raises(OSError, match="directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[default]\ntimeout = = 3", "line 2, column 11"),
        ("a = 1\na = 2", "line 2"),
        ("a = 1\na = 2\n", "line 2, column 6"),
        ("x = 1\n\na = [1, 2", "end of document, line 3"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a" + ".b" * 3000 + " = 1", "nested too deeply"),
        ("a = 1" + "0" * 5000, "too large"),
    ],
    ids=[
        "value",
        "twice at the end",
        "twice",
        "unclosed",
        "deep list",
        "deep table",
        "huge number",
    ],
)
def test_broken_toml_names_file_and_place(tmp_path, text, where):
    """A syntax error is an LLMConfigError with file, line and column."""
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(LLMConfigError) as caught:
        load_config(file)
    assert where in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_utf8_names_line_and_column(tmp_path):
    """Latin-1 text is found at its first wrong byte."""
    file = tmp_path / "latin.toml"
    file.write_bytes(b"a = 1\nb = 'caf\xe9'\n")
    with pytest.raises(LLMConfigError, match=r"line 2, column 9.*UTF-8"):
        load_config(file)


@given(st.text())
def test_any_text_is_toml_or_a_config_error(text):
    """No text raises anything but LLMConfigError."""
    with contextlib.suppress(LLMConfigError):
        assert isinstance(load_config_str(text), Config)


SECRETS = f'''
api_key = "{CANARY}"
[server]
zmq_auth_token = "{CANARY}"
[server.tokens.alice]
token = "{CANARY}"
models = ["fast"]
[default]
headers = {{ X-Tenant = "{CANARY}", Content-Type = "application/json" }}
[api.x]
url = "https://user:{CANARY}@host/v1?api-key={CANARY}&v=2"
model = "m"
api_key = "{CANARY}"
headers.Authorization = "Bearer {CANARY}"
body_options.max_tokens = 5
body_options.provider = {{ secretKey = "{CANARY}", password = ["{CANARY}"] }}
[api.y]
api_key = "Bearer ${{VAR:-{CANARY}}}"
other = "sk-{CANARY}{CANARY}"
'''


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, pprint.pformat], ids=["repr", "str", "format", "pprint"]
)
def test_no_secret_is_shown(show):
    """Keys, tokens, header values, passwords and secret query values are masked in every form."""
    shown = show(load_config_str(SECRETS))
    assert CANARY not in shown
    assert "host/v1" in shown
    assert "max_tokens" in shown
    assert "application/json" in shown


def test_no_table_inside_shows_a_secret():
    """A table taken out of the configuration masks its secrets as well."""

    def tables(value):
        if isinstance(value, dict):
            yield value
            for item in value.values():
                yield from tables(item)

    assert all(CANARY not in repr(table) for table in tables(load_config_str(SECRETS)))


def test_a_reference_is_shown_as_it_holds_no_secret():
    """Where a key comes from may be read."""
    shown = repr(load_config_str('[api.x]\napi_key = "${OPENAI_API_KEY}"'))
    assert "${OPENAI_API_KEY}" in shown


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_equal_and_masks_too(again):
    """Copies keep content, path and masking."""
    config = load_config(DATA / "llm_config.toml")
    same = again(config)
    assert (same, same.path, repr(same)) == (config, config.path, repr(config))
