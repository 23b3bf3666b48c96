"""Looking without sending: what a model name stands for, and what a request would look like."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from .._config.variables import Substitution
from .._datamodel import (
    CallInfo,
    LLMConfigError,
    LLMProviderRequest,
    ModelDescription,
    RequestPreview,
)
from .._secrets import Redactor, mask_url
from .cost import token_cost
from .endpoint import make_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .._config import ModelEntry, Price, ProviderConfig, ResolvedEntry
    from .._datamodel import Message
    from .endpoint import Endpoint
    from .tokens import TokenEstimator

__all__ = ["describe", "entry_digest", "known_secrets", "preview"]

_LIMIT_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


async def describe(model_name: str, endpoints: Sequence[Endpoint]) -> ModelDescription:
    """What a name stands for; one entry has the same digest under each of its names.

    Raises:
        LLMApiRequestError: The file of an embedded model cannot be read.
    """
    digests = [await _digest(endpoint) for endpoint in endpoints]
    joined = digests[0] if len(digests) == 1 else _sha256(digests)
    first = endpoints[0]
    return ModelDescription(
        model_name,
        joined,
        tuple(endpoint.name for endpoint in endpoints),
        first.limits.in_force,
        _prices(first.entry.price),
    )


def _prices(price: Price | None) -> dict[str, float] | None:
    if price is None:
        return None
    known = {name: value for name, value in dataclasses.asdict(price).items() if value is not None}
    return known or None


async def _digest(endpoint: Endpoint) -> str:
    if endpoint.digest is None:
        endpoint.digest = await entry_digest(endpoint.entry)
    return endpoint.digest


async def entry_digest(entry: ModelEntry) -> str:
    """SHA-256 over all of an entry that can change an answer, and over no key.

    Variables are put in where they are set, and stand for themselves where not, so that a recorded
    session needs no environment.
    """
    run = Substitution(os.environ)
    fields: dict[str, Any] = {
        "type": entry.type,
        "model": entry.model,
        "body_options": dict(entry.body_options),
        "dialect": entry.dialect,
        "quirks": dict(entry.dialect_options),
    }
    said = {name: _applied(run, value) for name, value in fields.items()}
    if entry.type == "llamacpp":
        said["model"] = await _file_digest(entry)
    else:
        said["url"] = mask_url(_applied(run, entry.url or ""))
    return _sha256(said)


def _applied(run: Substitution, value: Any) -> Any:
    before = len(run.problems)
    applied = run.apply(value, "")
    return applied if len(run.problems) == before else value


async def _file_digest(entry: ModelEntry) -> str:
    from .llamacpp import LlamaSettings, model_digest

    return await model_digest(LlamaSettings.from_entry(_open(entry)))


def _sha256(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


class _Placeholders(dict[str, str]):
    """An environment in which a variable that is not set stands for itself."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or f"${{{name}}}"


def _open(entry: ModelEntry) -> ResolvedEntry:
    """The entry for looking at: a missing key is no reason to show nothing."""
    try:
        return entry.resolve()
    except LLMConfigError:
        return entry.resolve(_Placeholders(os.environ))


def known_secrets(config: ProviderConfig) -> Iterator[str]:
    """What nobody may see of all entries, used or not, as far as their variables are set."""
    for entry in config.entries.values():
        yield from _readable(entry.secrets(_Placeholders(os.environ)))


def _readable(secrets: Iterable[str]) -> Iterator[str]:
    """Without those whose variables are not set."""
    return (secret for secret in secrets if "${" not in secret)


def preview(
    endpoint: Endpoint,
    estimator: TokenEstimator,
    messages: Sequence[Message],
    tools: dict[str, dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    stream: bool = False,
) -> RequestPreview:
    """The request as `endpoint` would send it, secrets masked.

    Raises:
        LLMApplicationError: The request cannot be built.
        LLMConfigError: The entry's address cannot be known.
    """
    entry = endpoint.entry
    resolved = _open(entry)
    # What stands for a missing variable is no secret.
    redactor = Redactor(_readable(resolved.secrets))
    target = make_target(resolved, redactor)
    request = LLMProviderRequest(
        "", None, "", entry.name, list(messages), dict(tools or {}), dict(options or {}), stream,
        call=CallInfo(),
    )  # fmt: skip
    body, _ = target.strategy.make_request(request)
    tokens = estimator.estimate(entry.name, messages, tools)
    most = _answer_limit(body)
    return RequestPreview(
        entry.name,
        list(messages),
        _masked(body, redactor),
        tokens,
        token_cost(entry.price, tokens, 0),
        None if most is None else token_cost(entry.price, tokens, most),
        target.shown_url or None,
        target.shown_headers,
    )


def _answer_limit(body: dict[str, Any]) -> int | None:
    limits = (body.get(name) for name in _LIMIT_FIELDS)
    return next((n for n in limits if isinstance(n, int) and not isinstance(n, bool)), None)


def _masked(body: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """The body without secrets, which only a strange configuration puts there."""
    text = msgspec.json.encode(body).decode()
    clean = redactor.text(text)
    masked: dict[str, Any] = body if clean == text else msgspec.json.decode(clean)
    return masked
