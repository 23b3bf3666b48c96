"""Every key of both files: what it may be and what it is when it is not given.

docs/configuration.md describes the same keys; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .._datamodel import ConfigProblem
from . import defaults
from .entries import url_problem
from .paths import child, kind
from .rules import (
    Key,
    boolean,
    file_path,
    integer,
    json_table,
    name_text,
    names,
    number,
    one_of,
    table,
    tables_of,
    text,
    with_variables,
)
from .variables import has_reference

__all__ = [
    "ALIAS",
    "API_KEYS",
    "DEFAULT_KEYS",
    "LEDGER_KEYS",
    "LLAMACPP_KEYS",
    "PRICE_KEYS",
    "PROMPT_TABLES",
    "PROVIDER_TABLES",
    "SERVER_KEYS",
    "TOKEN_KEYS",
]

PROVIDER_TABLES = ("server", "default", "model_alias", "api", "ledger")
PROMPT_TABLES = ("model_alias", "module_default", "module", "template", "tools")

_ENDPOINT = re.compile(r"tcp://\S+:(?:\d{1,5}|\*)|(?:ipc|inproc)://\S.*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _headers(value: Any, path: str) -> Iterator[ConfigProblem]:
    """Header names to strings; the values are never shown."""
    if not isinstance(value, Mapping):
        yield ConfigProblem(path, f"must be a table of header names and strings, not {kind(value)}")
        return
    for name, item in value.items():
        where = child(path, name)
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            yield ConfigProblem(where, "is no name that a header can have")
        yield from text(item, where)
        if isinstance(item, str) and _CONTROL.search(item):
            yield ConfigProblem(where, "holds a line break or control character")


def _url(value: Any, path: str) -> Iterator[ConfigProblem]:
    yield from name_text(value, path)
    if isinstance(value, str) and not has_reference(value) and (wrong := url_problem(value)):
        yield ConfigProblem(path, wrong)


def _alias(value: Any, path: str) -> Iterator[ConfigProblem]:
    if isinstance(value, (list, tuple)):
        yield from names(value, path)
    elif isinstance(value, str):
        yield from name_text(value, path)
    else:
        message = f"must be the name of an [api] entry, or a list of them, not {kind(value)}"
        yield ConfigProblem(path, message)


def _endpoint(value: Any, path: str) -> Iterator[ConfigProblem]:
    """An address that ZeroMQ can bind or connect."""
    yield from name_text(value, path)
    if isinstance(value, str) and not has_reference(value) and not _ENDPOINT.fullmatch(value):
        yield ConfigProblem(path, "must be an address such as tcp://127.0.0.1:5555 or ipc://path")


_name = with_variables(name_text)
_path = with_variables(file_path)
_address = with_variables(_endpoint)
_positive = number(0, above=True)
_amount = number(0)

PRICE_KEYS: dict[str, Key] = {
    "input": Key(_amount),
    "output": Key(_amount),
    "cached_input": Key(_amount),
}

DEFAULT_KEYS: dict[str, Key] = {
    "api_type": Key(_name, defaults.API_TYPE),
    "type": Key(_name, defaults.API_TYPE),
    "timeout": Key(_positive, defaults.TIMEOUT),
    "max_retries": Key(integer(0), defaults.MAX_RETRIES),
    "parallel": Key(integer(1), defaults.PARALLEL),
    "retry_duration": Key(_amount, defaults.RETRY_DURATION),
    "retry_factor": Key(number(1), defaults.RETRY_FACTOR),
    "max_wait": Key(_amount, defaults.MAX_WAIT),
    "rpm": Key(integer(1), defaults.RPM),
    "tpm": Key(integer(1), defaults.TPM),
    "adaptive": Key(boolean, defaults.ADAPTIVE),
    "cooldown": Key(_amount, defaults.COOLDOWN),
    "headers": Key(with_variables(_headers), {}),
    "body_options": Key(with_variables(json_table), {}),
}

API_KEYS: dict[str, Key] = {
    "url": Key(with_variables(_url)),
    "model": Key(_name, required=True),
    "api_key": Key(_name),
    "dialect": Key(_name),
    "quirks": Key(with_variables(json_table), {}),
    "price": Key(table(PRICE_KEYS)),
    **DEFAULT_KEYS,
}

LLAMACPP_KEYS: dict[str, Key] = {
    "n_ctx": Key(integer(1), defaults.N_CTX),
    "n_threads": Key(integer(1), defaults.N_THREADS),
    "n_parallel": Key(integer(1), defaults.N_PARALLEL),
    "path": Key(_path),
}

TOKEN_KEYS: dict[str, Key] = {
    "token": Key(_name, required=True),
    "models": Key(with_variables(names)),
    "monitor": Key(boolean, defaults.TOKEN_MONITOR),
}

SERVER_KEYS: dict[str, Key] = {
    "zmq_router_rpc": Key(_address),
    "zmq_pub_event": Key(_address),
    "zmq_pub_event_type": Key(with_variables(one_of("bind", "connect")), defaults.PUB_EVENT_TYPE),
    "zmq_auth_token": Key(_name),
    "tokens": Key(tables_of(TOKEN_KEYS), {}),
    "audit": Key(with_variables(one_of("full", "metadata")), defaults.AUDIT),
    "share_answers": Key(boolean, defaults.SHARE_ANSWERS),
    "insecure": Key(boolean, defaults.INSECURE),
    "on_server_restart": Key(with_variables(one_of("resend", "fail")), defaults.ON_SERVER_RESTART),
}

LEDGER_KEYS: dict[str, Key] = {
    "mode": Key(
        with_variables(one_of("off", "record", "read_write", "refresh", "replay")),
        defaults.LEDGER_MODE,
    ),
    "path": Key(_path),
    "retention": Key(with_variables(one_of("full", "metadata")), defaults.LEDGER_RETENTION),
    "pace": Key(number(0), defaults.LEDGER_PACE),
}

ALIAS = Key(with_variables(_alias))
