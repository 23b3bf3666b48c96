"""Arbitrary tables: a configuration or LLMConfigError, and nothing else."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._config import (
    PromptConfig,
    ProviderConfig,
    config_kind,
    keys,
    load_config_str,
    promptkeys,
)
from aitoolman._datamodel import LLMApiRequestError, LLMConfigError

DATA = Path(__file__).parents[1] / "data"
WHOLE = """
[server]
zmq_router_rpc = "tcp://*:1"
tokens.a = { token = "t", models = ["x"] }
[default]
type = "openai"
headers = { A = "b" }
[model_alias]
a = ["x", "y"]
[api.x]
url = "https://h/${V:-p}"
model = "m"
price = { input = 1 }
quirks = { a = 1 }
[api.y]
type = "llamacpp"
model = "m"
[ledger]
mode = "off"
"""
PROMPT = """
[module_default]
model = "x"
tools.t = {}
[template]
a = "b"
[tools.t]
param.q = { type = "string", required = true }
[model_alias]
a = "b"
[module.m]
template = { user = "u", system = "s" }
options = { a = 1 }
examples = [{ user = "u", assistant = "a" }, { user = { a = 1 }, assistant = "a" }]
"""
KNOWN = sorted(
    {
        *keys.API_KEYS, *keys.SERVER_KEYS, *keys.PROVIDER_TABLES, *keys.PROMPT_TABLES,
        *promptkeys.MODULE_KEYS, *promptkeys.TOOL_KEYS, *promptkeys.TEMPLATE_KEYS,
    }
)  # fmt: skip
NAMES = st.sampled_from(KNOWN) | st.text(max_size=8) | st.integers() | st.none()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary()
    | st.sampled_from(["${A}", "${", "openai", "llamacpp", "${A:-}", "http://[", "\ud800"])
    | st.sampled_from([10**400, datetime.date(2024, 1, 1), object(), {1}, int])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw, toml: str):
    """A sound table with one to three values replaced, added or removed, anywhere."""
    config = copy.deepcopy(dict(load_config_str(toml)))
    for _ in range(draw(st.integers(1, 3))):
        table = config
        while draw(st.booleans()):
            below = [v for v in table.values() if isinstance(v, dict)]
            if not below:
                break
            table = draw(st.sampled_from(below))
        name = draw(NAMES if not table else NAMES | st.sampled_from(list(table)))
        if draw(st.booleans()) and name in table:
            del table[name]
        else:
            table[name] = draw(VALUES)
    return config


def check_message(error: Exception) -> None:
    """It says something, and any terminal can print it."""
    assert str(error)
    str(error).encode()


def use_all(config: ProviderConfig) -> None:
    """Everything that a user of a sound configuration calls."""
    assert repr(config)
    for name in [*config.entries, *config.aliases]:
        for act in (lambda n=name: [e.resolve({"A": "a"}) for e in config.candidates(n, {})],):
            try:
                assert repr(act())
            except (LLMConfigError, LLMApiRequestError) as exc:
                check_message(exc)
    for resolve in (config.resolve_server, config.resolve_ledger):
        try:
            resolve({"A": "a"})
        except LLMConfigError as exc:
            check_message(exc)


@pytest.mark.parametrize("toml", [WHOLE, PROMPT], ids=["provider", "prompt"])
def test_the_starting_points_are_sound(toml):
    """The mutations start from files that build."""
    kind = {"provider": ProviderConfig, "prompt": PromptConfig}[config_kind(load_config_str(toml))]
    assert kind.from_dict(load_config_str(toml))


@given(mutated(WHOLE))
def test_any_provider_table_builds_or_is_a_config_error(config):
    """No mutation raises anything but LLMConfigError, whose message can always be printed."""
    try:
        use_all(ProviderConfig.from_dict(config))
    except LLMConfigError as exc:
        check_message(exc)


@given(mutated(PROMPT))
def test_any_prompt_table_builds_or_is_a_config_error(config):
    """No mutation raises anything but LLMConfigError, whose message can always be printed."""
    try:
        assert repr(PromptConfig.from_dict(config).modules)
    except LLMConfigError as exc:
        check_message(exc)


@given(VALUES)
def test_any_value_at_all_builds_or_is_a_config_error(config):
    """Even what is no table ends in a config error."""
    for kind in (ProviderConfig, PromptConfig):
        try:
            kind.from_dict(config)
        except LLMConfigError as exc:
            check_message(exc)
