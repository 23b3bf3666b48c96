"""The provider file: what it means, and every mistake in it named."""

from __future__ import annotations

import copy
import datetime
import math
from pathlib import Path

import pytest

from aitoolman._config import ModelEntry, Price, ProviderConfig, load_config, load_config_str
from aitoolman._datamodel import LLMApiRequestError, LLMConfigError

DATA = Path(__file__).parents[1] / "data"
CANARY = "canary-7f3a9d41"
URL = "https://host/v1/chat/completions"


def read(toml: str, **kwargs) -> ProviderConfig:
    return ProviderConfig.from_dict(load_config_str(toml), **kwargs)


def entry(lines: str = "", *, default: str = "") -> ModelEntry:
    return read(f'[default]\n{default}\n[api.x]\nurl = "{URL}"\nmodel = "m"\n{lines}').entries["x"]


def problems(config) -> dict[str, str]:
    with pytest.raises(LLMConfigError) as caught:
        ProviderConfig.from_dict(load_config_str(config) if isinstance(config, str) else config)
    return dict(caught.value.problems)


# what a sound file gives


def test_the_sample_file_of_the_specification_builds():
    """The printed llm_config.toml gives both models with its defaults."""
    config = ProviderConfig.from_dict(load_config(DATA / "llm_config.toml"))
    doubao = config.entries["Doubao-Seed-1.6"]
    assert (doubao.type, doubao.model, doubao.timeout, doubao.max_retries) == (
        "openai",
        "ep-xxx",
        600.0,
        3,
    )
    assert doubao.resolve().headers == {"Authorization": "Bearer YOUR_API_KEY"}
    assert config.server["zmq_auth_token"] == "YOUR_SECRET_TOKEN"
    assert config.file == str(DATA / "llm_config.toml")


def test_a_dangling_alias_of_the_sample_fails_only_when_used():
    """The sample's Fast-Model has no entry: the error names alias, target and file."""
    config = ProviderConfig.from_dict(load_config(DATA / "llm_config.toml"))
    with pytest.raises(
        LLMApiRequestError, match=r"'Fast-Model' names 'Doubao-Seed-1.6-flash-250828'"
    ) as caught:
        config.candidates("Fast-Model")
    assert "llm_config.toml" in str(caught.value)
    assert "did you mean 'Doubao-Seed-1.6'" in str(caught.value)


def test_every_default_is_as_documented():
    """An entry with nothing but its address has the values of the reference."""
    e = entry()
    assert (e.type, e.timeout, e.max_retries, e.parallel) == ("openai", 600.0, 3, 1)
    assert (e.retry_duration, e.retry_factor, e.max_wait, e.cooldown) == (0.5, 1.5, 120.0, 30.0)
    assert (e.rpm, e.tpm, e.adaptive, e.api_key, e.dialect, e.price) == (
        None,
        None,
        True,
        None,
        None,
        None,
    )
    assert (e.headers, e.body_options, e.dialect_options, e.extra) == ({}, {}, {}, {})


def test_an_entry_wins_over_the_default_table():
    """Keys of an entry win, missing ones are inherited."""
    e = entry("timeout = 5\nadaptive = false", default="timeout = 9\nparallel = 4\nrpm = 60")
    assert (e.timeout, e.parallel, e.rpm, e.adaptive) == (5.0, 4, 60, False)


def test_headers_are_merged_in_any_case_and_body_options_replaced():
    """Header names know no case; body_options of an entry stand alone."""
    e = entry(
        'headers = { authorization = "b" }\nbody_options = { top_p = 1 }',
        default='headers = { Authorization = "a", X-Team = "t" }\n'
        "body_options = { temperature = 0 }",
    )
    assert e.headers == {"X-Team": "t", "authorization": "b"}
    assert e.body_options == {"top_p": 1}


@pytest.mark.parametrize("key", ["type", "api_type"])
def test_the_type_has_two_names(key):
    """`type` and `api_type` mean the same, in an entry and in [default]."""
    assert entry(f'{key} = "anthropic"').type == "anthropic"
    assert entry(default=f'{key} = "anthropic"').type == "anthropic"
    assert entry(f'{key} = "openai"', default='api_type = "anthropic"').type == "openai"


def test_price_and_quirks_become_values():
    """The nested tables of an entry are read."""
    e = entry("price = { input = 1, output = 2.5 }\n[api.x.quirks]\ntool_index = 'given'")
    assert e.price == Price(1, 2.5, None)
    assert e.dialect_options == {"tool_index": "given"}


def test_the_embedded_model_has_its_own_keys_and_no_url(tmp_path):
    """A llamacpp entry gets its defaults; relative paths start at the file."""
    (tmp_path / "c.toml").write_text('[api.x]\ntype = "llamacpp"\nmodel = "a.gguf"\nn_ctx = 2048')
    e = ProviderConfig.from_dict(load_config(tmp_path / "c.toml")).entries["x"]
    assert e.extra == {"n_ctx": 2048, "n_threads": 1, "n_parallel": 1, "path": str(tmp_path)}
    assert e.resolve({}).config["n_ctx"] == 2048


def test_an_empty_configuration_is_sound():
    """Nothing configured is no mistake; it fails when a model is asked for."""
    with pytest.raises(LLMApiRequestError, match="none is defined"):
        read("").candidates("x")


def test_the_input_is_neither_changed_nor_shared():
    """Reading leaves the dict as it was, and later changes to it don't reach the values."""
    table = {"api": {"x": {"url": URL, "model": "m", "body_options": {"stop": ["a"]}}}}
    before = copy.deepcopy(table)
    config = ProviderConfig.from_dict(table)
    resolved = config.entries["x"].resolve({})
    resolved.body_options["stop"].append("b")
    assert table == before
    table["api"]["x"]["body_options"]["stop"].append("c")
    assert config.entries["x"].body_options == {"stop": ["a"]}


# aliases

ALIASES = f"""
[model_alias]
one = "a"
several = ["b", "a"]
b = ["b", "a"]
broken = ["a", "gone"]
[api.a]
url = "{URL}"
model = "m"
[api.b]
url = "{URL}"
model = "m"
"""


@pytest.mark.parametrize(
    ("name", "entries"), [("a", ["a"]), ("one", ["a"]), ("several", ["b", "a"]), ("b", ["b", "a"])]
)
def test_a_name_gives_its_entries_in_order(name, entries):
    """An entry, an alias, a list, and an alias that backs up the entry of its own name."""
    assert [e.name for e in read(ALIASES).candidates(name)] == entries


def test_a_list_with_a_missing_entry_fails_naming_it():
    """A failover list is no use when half of it does not exist."""
    with pytest.raises(LLMApiRequestError, match="'broken' names 'gone'"):
        read(ALIASES).candidates("broken")


def test_an_unknown_model_gets_near_names():
    """The message offers what is defined."""
    with pytest.raises(LLMApiRequestError, match=r"no model 'severall'.*did you mean 'several'"):
        read(ALIASES).candidates("severall")


def test_an_alias_may_come_from_the_environment():
    """Variables in an alias are put in when it is used."""
    config = read(ALIASES.replace('one = "a"', 'one = "${WHICH}"'))
    assert config.candidates("one", {"WHICH": "b"})[0].name == "b"
    with pytest.raises(LLMConfigError, match=r"model_alias\.one: .*WHICH"):
        config.candidates("one", {})


# mistakes


def test_all_mistakes_come_at_once_with_file_key_and_fix(tmp_path):
    """One error lists every mistake, in the order of the file's tables."""
    (tmp_path / "c.toml").write_text(
        "[default]\ntimout = 3\nparallel = 0\n"
        '[api."GPT-4"]\nurl = "https://h/v1"\nmodel = 4\ntimeout = "9"\n'
        "[leger]\n"
    )
    with pytest.raises(LLMConfigError) as caught:
        ProviderConfig.from_dict(load_config(tmp_path / "c.toml"))
    lines = str(caught.value).splitlines()
    file = tmp_path / "c.toml"
    assert lines == [
        f"{file}: leger: unknown table; did you mean 'ledger'?",
        f"{file}: default.timout: unknown key; did you mean 'timeout'?",
        f"{file}: default.parallel: must be a whole number, at least 1",
        f'{file}: api."GPT-4".model: must be a string, not an integer',
        f'{file}: api."GPT-4".timeout: must be a number greater than 0; it is a string',
    ]


BAD = {
    "timeout zero": ("timeout = 0", "timeout", "greater than 0"),
    "timeout nan": ("timeout = nan", "timeout", "finite"),
    "timeout inf": ("timeout = inf", "timeout", "finite"),
    "timeout bool": ("timeout = true", "timeout", "it is a boolean"),
    "retries negative": ("max_retries = -1", "max_retries", "at least 0"),
    "retries float": ("max_retries = 1.0", "max_retries", "it is a float"),
    "parallel bool": ("parallel = true", "parallel", "it is a boolean"),
    "rpm zero": ("rpm = 0", "rpm", "at least 1"),
    "factor shrinks": ("retry_factor = 0.5", "retry_factor", "at least 1"),
    "adaptive number": ("adaptive = 1", "adaptive", "true or false"),
    "model twice typed": ('type = "openai"\napi_type = "anthropic"', "api_type", "remove one"),
    "typo of a type is all": ('type = "opnai"\nn_ctx = 1', "type", "did you mean 'openai'"),
    "typo of a type": ('type = "opnai"', "type", "did you mean 'openai'"),
    "header number": ("headers = { X-A = 5 }", "headers.X-A", "must be a string, not an integer"),
    "header line break": ('headers = { X-A = "a\\nb" }', "headers.X-A", "line break"),
    "header name": ('headers = { "X A" = "a" }', 'headers."X A"', "no name that a header can have"),
    "headers text": ('headers = "X"', "headers", "must be a table"),
    "date in body": ("body_options = { a = { b = [1979-05-27] } }", "body_options.a.b[0]", "JSON"),
    "nan in body": ("body_options = { a = nan }", "body_options.a", "finite"),
    "price negative": ("price = { input = -1 }", "price.input", "at least 0"),
    "price unknown": ("price = { inputs = 1 }", "price.inputs", "did you mean 'input'"),
    "price number": ("price = 3", "price", "must be a table"),
    "reference broken": ('api_key = "${A"', "api_key", "no ${NAME}"),
    "reference in depth": ('body_options = { a = ["${1}"] }', "body_options.a[0]", "no ${NAME}"),
    "nested default": ('api_key = "${A:-${B}}"', "api_key", "no ${NAME}"),
    "llamacpp key": ("n_ctx = 5", "n_ctx", 'only for type = "llamacpp"'),
    "request field": ("temperature = 0", "temperature", "'body_options' is meant for this"),
    "another's word": (f'base_url = "{URL}"', "base_url", "'url' is meant for this"),
    "empty dialect": ('dialect = ""', "dialect", "must not be empty"),
}


@pytest.mark.parametrize(("line", "key", "message"), BAD.values(), ids=BAD)
def test_a_wrong_value_is_named_with_its_key(line, key, message):
    """Each wrong value gives exactly one problem at its own key."""
    found = problems(f'[api."GPT-4"]\nurl = "{URL}"\nmodel = "m"\n{line}')
    assert list(found) == [f'api."GPT-4".{key}']
    assert message in found[f'api."GPT-4".{key}']


@pytest.mark.parametrize(
    "url",
    ["host/v1", "ftp://host", "https://", "http://[::1", "http://h:99999/", "http://h h/", ""],
)
def test_an_address_that_is_none_is_found(url):
    """Only http and https addresses with a host and a possible port pass."""
    assert list(problems({"api": {"x": {"url": url, "model": "m"}}})) == ['api."x".url']


TABLES = {
    "api is a list": ({"api": []}, "api"),
    "entry is a string": ({"api": {"x": "y"}}, 'api."x"'),
    "entry lacks both": ({"api": {"x": {"url": URL}}}, 'api."x".model'),
    "url is missing": ({"api": {"x": {"model": "m"}}}, 'api."x".url'),
    "url of llamacpp": (
        {"api": {"x": {"model": "m", "type": "llamacpp", "url": URL}}},
        'api."x".url',
    ),
    "nameless entry": ({"api": {"": {"model": "m", "url": URL}}}, 'api.""'),
    "name is a number": ({"api": {3: {"model": "m", "url": URL}}}, "api.<int>"),
    "key is a number": ({"default": {3: 4}}, "default.<int>"),
    "default is a date": ({"default": datetime.date.today()}, "default"),
    "alias to a number": ({"model_alias": {"a": 3}}, "model_alias.a"),
    "alias to nothing": ({"model_alias": {"a": []}}, "model_alias.a"),
    "alias twice": ({"model_alias": {"a": ["b", "b"]}}, "model_alias.a[1]"),
    "server word": ({"server": {"zmq_pub_event_type": "connnect"}}, "server.zmq_pub_event_type"),
    "server endpoint": ({"server": {"zmq_router_rpc": "localhost:5555"}}, "server.zmq_router_rpc"),
    "token missing": ({"server": {"tokens": {"al": {}}}}, 'server.tokens."al".token'),
    "token models": (
        {"server": {"tokens": {"al": {"token": "x", "models": "m"}}}},
        'server.tokens."al".models',
    ),
    "ledger mode": ({"ledger": {"mode": "on"}}, "ledger.mode"),
    "unhashable mode": ({"ledger": {"mode": ["off"]}}, "ledger.mode"),
    "surrogate": ({"api": {"x": {"model": "\ud800", "url": URL}}}, 'api."x".model'),
    "huge float": ({"default": {"timeout": 10**400}}, "default.timeout"),
    "object": ({"default": {"body_options": {"a": object()}}}, "default.body_options.a"),
}


@pytest.mark.parametrize(("table", "key"), TABLES.values(), ids=TABLES)
def test_a_wrong_shape_is_named_with_its_key(table, key):
    """Tables of any wrong shape give one problem at their own place."""
    assert list(problems(table)) == [key]


def test_a_table_that_holds_itself_is_nested_too_deeply():
    """A loop in a dict ends in a problem, not in a recursion error."""
    loop: dict = {}
    loop["again"] = loop
    assert "nested too deeply" in str(problems({"default": {"body_options": loop}}))


@pytest.mark.parametrize("config", [None, "llm_config.toml", [], 3])
def test_what_is_no_table_is_refused(config):
    """A file name in place of what load_config gives is a config error that says so."""
    assert (
        "load_config"
        in problems(config if not isinstance(config, str) else [config])["configuration"]
    )


def test_a_prompt_file_is_recognized():
    """The prompt file given to a client is called by its name, in one message."""
    with pytest.raises(LLMConfigError, match="this is a prompt file") as caught:
        ProviderConfig.from_dict(load_config(DATA / "app_prompt.toml"))
    assert len(caught.value.problems) == 1


def test_a_table_of_the_other_file_is_sent_there():
    """A single prompt table among provider tables gets a hint of its own."""
    assert (
        "prompt file"
        in problems(f'[api.x]\nurl = "{URL}"\nmodel = "m"\n[template]\na = "b"')["template"]
    )


@pytest.mark.parametrize("kind", ["my-format", "gemini"])
def test_a_type_of_ones_own_passes(kind):
    """Formats registered later are no mistakes here."""
    assert entry(f'type = "{kind}"').type == kind


def test_a_registered_type_near_a_built_in_one_passes():
    """A known type is no typo, however near it is."""
    config = read(f'[api.x]\nurl = "{URL}"\nmodel = "m"\ntype = "openai2"', known_types=["openai2"])
    assert config.entries["x"].type == "openai2"


def test_no_problem_shows_a_value_of_the_file():
    """A key in the wrong line is not printed by the message about that line."""
    wrong = f"""
        [server]
        zmq_router_rpc = "{CANARY}"
        zmq_auth_token = ["{CANARY}"]
        [default]
        timeout = "{CANARY}"
        headers = {{ Authorization = "{CANARY}\\n", X-Key = ["{CANARY}"] }}
        [api.x]
        url = "user:{CANARY}@host"
        model = ["{CANARY}"]
        api_key = "${{{CANARY}"
        body_options = "{CANARY}"
    """
    assert CANARY not in str(problems(wrong))


# server and ledger


def test_server_defaults_are_filled_in():
    """A server table has every key."""
    server = read('[server]\nzmq_router_rpc = "ipc:///run/x"').server
    assert server["zmq_pub_event_type"] == "bind"
    assert (server["audit"], server["insecure"], server["on_server_restart"]) == (
        "full",
        False,
        "resend",
    )
    assert server["zmq_pub_event"] is None


def test_server_secrets_come_from_the_environment_on_use():
    """Loading needs no variable; using the server table does."""
    config = read('[server]\nzmq_auth_token = "${T}"\n[server.tokens.al]\ntoken = "${U}"')
    with pytest.raises(LLMConfigError) as caught:
        config.resolve_server({})
    assert [p.key for p in caught.value.problems] == [
        "server.zmq_auth_token",
        "server.tokens.al.token",
    ]
    resolved = config.resolve_server({"T": CANARY, "U": "u"})
    assert resolved["zmq_auth_token"] == CANARY
    assert read("").resolve_server() == {}


def test_a_wrong_value_from_the_environment_is_found_on_use():
    """What a variable brings in is checked like what the file says."""
    config = read('[ledger]\nmode = "${MODE}"')
    assert config.resolve_ledger({"MODE": "replay"}).mode == "replay"
    with pytest.raises(LLMConfigError, match=r"ledger\.mode"):
        config.resolve_ledger({"MODE": "on"})


def test_the_ledger_table_is_read():
    """Without a table there is none; an empty one has the defaults."""
    assert read("").ledger is None
    ledger = read("[ledger]").ledger
    assert (ledger.mode, ledger.path, ledger.retention) == ("off", None, "full")
    assert read('[ledger]\nmode = "read_write"').ledger.mode == "read_write"


@pytest.mark.parametrize(("path", "found"), [("a/b.db", "a/b.db"), ("/x/b.db", "/x/b.db")])
def test_a_ledger_path_starts_at_the_file(tmp_path, path, found):
    """A relative path belongs to its file, wherever the program runs."""
    (tmp_path / "c.toml").write_text(f'[ledger]\npath = "{path}"')
    config = ProviderConfig.from_dict(load_config(tmp_path / "c.toml"))
    assert config.resolve_ledger().path == str(tmp_path / found)


def test_no_repr_shows_a_secret():
    """Neither the configuration nor an entry nor a resolved entry prints a key."""
    config = read(
        f'[server]\nzmq_auth_token = "{CANARY}"\n[api.x]\nmodel = "m"\napi_key = "{CANARY}"\n'
        f'url = "https://u:{CANARY}@h/v1?key={CANARY}"\nheaders.X-Mine = "{CANARY}"\n'
        f'body_options.user_token = "{CANARY}"\nquirks.password = "{CANARY}"'
    )
    x = config.entries["x"]
    assert CANARY not in repr(config) + repr(x) + repr(x.resolve({}))


def test_a_number_is_finite_everywhere():
    """No float of a sound configuration is NaN or infinite."""
    e = entry("timeout = 1e300")
    assert math.isfinite(e.timeout)


LONG = "x" * 1_000_000
ENTRY = {"url": "http://localhost/v1", "model": "m"}


@pytest.mark.parametrize(
    "config",
    [
        {"api": {"m": ENTRY | {LONG: 1}}},
        {"api": {LONG: ENTRY | {"timeout": "soon"}}},
        {"api": {"m": ENTRY}, LONG: {}},
        {"api": {"m": ENTRY}, "ledger": {"mode": LONG}},
    ],
    ids=["key", "entry", "table", "mode"],
)
def test_a_name_of_a_million_characters_costs_little_and_is_not_shown_whole(config):
    """Looking for near names takes no minute, and the message fits on a screen."""
    with pytest.raises(LLMConfigError) as caught:
        ProviderConfig.from_dict(config)
    assert len(str(caught.value)) < 3000


def test_a_path_with_a_nul_character_is_named_by_its_key():
    """No path can have one; the error comes with the configuration, not with the first call."""
    with pytest.raises(LLMConfigError, match=r"ledger\.path: holds a NUL character"):
        ProviderConfig.from_dict({"api": {"m": ENTRY}, "ledger": {"path": "a\0b"}})
