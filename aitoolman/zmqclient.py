"""The client of a server: the same calls, with keys, quotas and the audit elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._datamodel import ConfigProblem, LLMConfigError
from ._transport.home import HomedClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._datamodel import Message, ModelDescription, RequestPreview
    from ._service.link import Timing
    from ._service.remote import RemoteEngine

__all__ = ["LLMZmqClient"]

TOKEN_VARIABLE = "AITOOLMAN_TOKEN"  # noqa: S105 - a name


class LLMZmqClient(HomedClient):
    """Sends every call to a server that ``aitoolman server`` runs (docs/service.md).

    Results, streams, cancelling, errors, attempts, cost and preview are as with a local client.
    Files named in messages are read here and sent as data.

    Args:
        router_endpoint: The server's address (``"tcp://host:5555"``); several servers as a list, or
            in one text with commas between: calls go to the least busy one, a context stays with
            its server, and a lost server's calls to another.
        auth_token: The server's token; None is the environment variable ``AITOOLMAN_TOKEN``, if
            that is set.

    Raises:
        LLMConfigError: An address that is none, or a token that is too short.
        ImportError: pyzmq is missing.
    """

    def __init__(
        self,
        router_endpoint: str | Sequence[str],
        auth_token: str | None = None,
        *,
        timing: Timing | None = None,
    ) -> None:
        super().__init__()
        _need_zmq()
        self.endpoints = _endpoints(router_endpoint)
        token = auth_token if auth_token is not None else os.environ.get(TOKEN_VARIABLE)
        self._token = token or None
        self._timing = timing
        self._check()

    def _check(self) -> None:
        from ._service.security import check_token, token_keys

        if self._token is not None:
            problem, _ = check_token(self._token, "auth_token")
            if problem is not None:
                raise LLMConfigError([problem])
            token_keys(self._token)

    def __repr__(self) -> str:
        return f"LLMZmqClient({', '.join(self.endpoints)})"

    def _open(self) -> RemoteEngine:
        from ._service.link import Timing
        from ._service.remote import RemoteEngine
        from ._service.security import token_keys

        keys = None if self._token is None else token_keys(self._token)
        return RemoteEngine(self.endpoints, keys, self._timing or Timing())

    async def describe(self, model_name: str) -> ModelDescription:
        """What `model_name` stands for at the server, with limits and prices.

        Raises:
            LLMApiRequestError: There is no such model, or no server.
        """
        description: ModelDescription = await self._ask(lambda engine: engine.describe(model_name))
        return description

    async def preview(
        self,
        model_name: str,
        messages: list[Message],
        tools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RequestPreview:
        """The body that the server would send, with estimated tokens and cost; no address.

        Raises:
            LLMApiRequestError: There is no such model, or no server.
            LLMApplicationError: The request cannot be built.
        """
        preview: RequestPreview = await self._ask(
            lambda engine: engine.preview(model_name, messages, tools, options, stream)
        )
        return preview

    async def audit_event(self, context_id: str, event_type: str, **kwargs: Any) -> None:
        """Record a business event in the server's audit; returns when it is written there.

        Raises:
            LLMApiRequestError: There is no server.
        """
        await self._ask(lambda engine: engine.audit_event(context_id, event_type, kwargs))

    async def _ask(self, question: Any) -> Any:
        self._ensure_home()
        return await self._at_home(question)


def _need_zmq() -> None:
    try:
        import zmq  # noqa: F401
    except ImportError:
        raise ImportError(
            "a server's client needs pyzmq: pip install 'aitoolman[service]'"
        ) from None


def _endpoints(given: str | Sequence[str]) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    found = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    problems = [
        ConfigProblem("router_endpoint", f"{part!r} is no address such as tcp://host:5555")
        for part in found
        if not _is_address(part)
    ]
    if not found:
        problems = [ConfigProblem("router_endpoint", "names no server")]
    if problems:
        raise LLMConfigError(problems)
    return found


def _is_address(endpoint: str) -> bool:
    """True for ``tcp://`` with host and port (IPv6 in brackets), and for ``ipc://`` with a path."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return bool(rest)
    host, _, port = rest.rpartition(":")
    plain = ":" not in host or (host.startswith("[") and host.endswith("]"))
    known = bool(host) and "*" not in host and plain
    return scheme == "tcp" and known and port.isdecimal() and 0 < int(port) < 65536
