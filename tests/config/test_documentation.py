"""docs/configuration.md and the code name the same keys with the same defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aitoolman._config import PromptConfig, ProviderConfig, config_kind, load_config_str
from aitoolman._config import keys as provider
from aitoolman._config import promptkeys as prompt

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
SECTIONS = dict(
    zip(
        re.findall(r"^### (.*)$", PAGE, re.MULTILINE),
        re.split(r"^### .*$", PAGE, flags=re.MULTILINE)[1:],
        strict=True,
    )
)
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
SCHEMA_WORDS = set(prompt._SCHEMA_WORDS)


def without(table, names):
    return {name: key for name, key in table.items() if name not in names}


TABLES = {
    "`[default]`": provider.DEFAULT_KEYS,
    '`[api."name"]`': without(provider.API_KEYS, provider.DEFAULT_KEYS),
    '`[api."name".price]`': provider.PRICE_KEYS,
    '`[api."name"]` of type `"llamacpp"`': provider.LLAMACPP_KEYS,
    "`[server]`": provider.SERVER_KEYS,
    '`[server.tokens."name"]`': provider.TOKEN_KEYS,
    "`[ledger]`": provider.LEDGER_KEYS,
    "`[module_default]`": prompt.MODULE_DEFAULT_KEYS,
    '`[module."name"]`': without(prompt.MODULE_KEYS, prompt.MODULE_DEFAULT_KEYS),
    '`[module."name".template]`': prompt.TEMPLATE_KEYS,
    '`[[module."name".examples]]`': prompt.EXAMPLE_KEYS,
    '`[tools."name"]`': prompt.TOOL_KEYS,
    '`[tools."name".param."name"]`': without(prompt.PARAM_KEYS, SCHEMA_WORDS),
}


def default(key) -> str:
    if key.required:
        return "required"
    return "none" if key.default is None else f"`{json.dumps(key.default)}`"


@pytest.mark.parametrize("title", TABLES)
def test_every_key_is_documented_with_its_default(title):
    """The table has each key of the code, no other, and the default that the code has."""
    rows = ROW.findall(SECTIONS[title])
    assert dict(rows) == {name: default(key) for name, key in TABLES[title].items()}


def test_every_table_of_both_files_has_a_section():
    """No top-level table is left out, and every section with keys is compared with the code."""
    titles = " ".join(SECTIONS)
    for name in {*provider.PROVIDER_TABLES, *provider.PROMPT_TABLES}:
        assert re.search(rf"`\[{name}\b", titles), name
    assert {title for title, text in SECTIONS.items() if "| key |" in text} == set(TABLES)


def test_the_schema_words_are_all_listed():
    """The list of further words for a parameter is the code's."""
    text = SECTIONS['`[tools."name".param."name"]`'].partition("| key |")[0]
    assert set(re.findall(r"`(\w+)`", text)) == SCHEMA_WORDS


@pytest.mark.parametrize("toml", EXAMPLES, ids=["provider", "prompt"])
def test_the_examples_of_the_page_build(toml):
    """What the page shows can be copied."""
    config = load_config_str(toml)
    kind = {"provider": ProviderConfig, "prompt": PromptConfig}[config_kind(config)]
    assert kind.from_dict(config)
