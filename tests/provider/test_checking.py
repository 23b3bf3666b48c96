"""A provider configuration is checked as a whole when something is built from it."""

from __future__ import annotations

import pytest

import aitoolman
from aitoolman import LLMConfigError, LLMLocalClient, LLMProviderManager, OpenAICompatibleFormat
from aitoolman._cli.main import main
from aitoolman._provider.formats import registry

URL = "http://127.0.0.1:9/v1"

WRONG = f"""
[default]
timeout = "long"
[api.a]
url = "{URL}"
model = "m"
dialect = "opnai"
quirks = {{ reasoning_inn = ["x"], stream_usage = 5, tool_name_pattern = "(" }}
[api.b]
url = "{URL}"
model = "m"
type = "anthropic"
dialect = "deepseek"
parallel = 0
[api."c d"]
url = "{URL}"
model = "m"
type = "antropic"
quirks = {{ stream_usag = true }}
"""


def by_doctor(table, tmp_path, capsys):
    path = tmp_path / "llm.toml"
    path.write_text(WRONG)
    assert main(["doctor", "--offline", "-c", str(path)]) == 2
    raise LLMConfigError([aitoolman._datamodel.ConfigProblem("", capsys.readouterr().err)])


@pytest.mark.parametrize(
    "build",
    [
        lambda table, *_: LLMLocalClient(table),
        lambda table, *_: LLMProviderManager(table),
        by_doctor,
    ],
    ids=["client", "manager", "doctor"],
)
def test_every_mistake_is_reported_at_once_with_its_key(build, tmp_path, capsys):
    """Dialects and quirks stand among the other mistakes, before anything is sent."""
    with pytest.raises(LLMConfigError) as info:
        build(aitoolman.load_config_str(WRONG), tmp_path, capsys)
    said = str(info.value)
    for key in (
        "default.timeout",
        'api."a".dialect',
        'api."b".dialect',
        'api."b".parallel',
        'api."c d".type',
    ):
        assert key in said
    assert "did you mean 'openai'" in said


def test_every_quirk_is_checked():
    """Unknown ones with the nearest name, known ones for their type."""
    text = WRONG.replace('"opnai"', '"openai"')
    with pytest.raises(LLMConfigError) as info:
        LLMLocalClient(aitoolman.load_config_str(text))
    keys = {problem.key for problem in info.value.problems}
    quirks = ("reasoning_inn", "stream_usage", "tool_name_pattern")
    assert {f'api."a".quirks.{quirk}' for quirk in quirks} <= keys
    assert "did you mean 'reasoning_in'" in str(info.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"dialect": "${NOBODY_SET_THIS}"},
        {"type": "${NOBODY_SET_THIS}", "quirks": {"anything": 1}},
        {"dialect": "openai", "quirks": {"tool_name_pattern": "${NOBODY_SET_THIS}"}},
    ],
)
def test_what_a_variable_brings_in_is_checked_when_it_is_known(keys):
    """A variable is resolved when its entry is first used, never at load."""
    LLMLocalClient({"api": {"m": {"url": URL, "model": "m", **keys}}})


class Own(OpenAICompatibleFormat):
    """Knows a dialect of its own."""

    def __init__(self, config):
        super().__init__({**config, "dialect": "openai", "quirks": {}})


@pytest.mark.parametrize("name", ["own-format", "openai"])
def test_a_registered_format_is_known_and_keeps_its_own_keys(name, monkeypatch):
    """Its name is no mistake, nor are its dialects; near-names lead to it."""
    monkeypatch.setattr(registry, "_registered", {})
    aitoolman.register_format(name, Own)
    entry = {"url": URL, "model": "m", "type": name, "dialect": "mine", "quirks": {"odd": 1}}
    LLMLocalClient({"api": {"m": entry}})
    LLMProviderManager({"api": {"m": entry}})
    with pytest.raises(LLMConfigError, match=f"did you mean {name!r}"):
        LLMLocalClient({"api": {"m": entry | {"type": name + "s"}}})
