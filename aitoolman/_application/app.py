"""LLMApplication: modules, processors, channels and variables around one client."""

from __future__ import annotations

import asyncio
import functools
import itertools
import secrets
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .._datamodel import LLMModuleRequest
from .._sync import Sync, on_background_loop
from .call import Call, Caller, checked_params, run_call
from .module import Module

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from .._config import ModuleConfig
    from .._datamodel import LLMDirectRequest, LLMModuleResult, RequestPreview
    from .._ledger.table import CallTable
    from .._transport.channels import Channel
    from .._transport.client import LLMClient
    from .._workflow.workflow import LLMWorkflow
    from .modules import ModuleSet

__all__ = ["ApplicationFactory", "LLMApplication", "call_runner"]

call_runner: ContextVar[Callable[[Caller, Call], Awaitable[LLMModuleResult]]] = ContextVar(
    "aitoolman_call_runner", default=run_call
)
"""What calls go through here: in a task's code, the record of the task's workflow."""

_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
"""Values whose use in a template runs no code of the user's."""


class LLMApplication:
    """What a program builds on: ``await app["module"](variable=...)``.

    Each application is a context of its own: its channels, its variables, its id. Needs no running
    loop to be made, and changes nothing that is passed in.

    Args:
        client: Carries the requests.
        config_dict: The prompt configuration, see docs/configuration.md.
        processors: Post-processors by name, besides the built-in ones.
        channels: Channels by name, besides ``stdin``, ``stdout`` and ``reasoning``.
        context_id: Names this application in requests and audit records; random unless given.

    Attributes:
        client: As given.
        context_id: As given, or random.
        processors: Post-processors by name; names are looked up when a call is made.
        vars: Variables that all templates see; the arguments of a call win over them.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """

    def __init__(
        self,
        client: LLMClient,
        config_dict: Mapping[str, Any] | ModuleSet | None = None,
        processors: Mapping[str, Callable[[str], Any]] | None = None,
        channels: Mapping[str, Any] | None = None,
        context_id: str | None = None,
        *,
        source: str | None = None,
    ) -> None:
        self.client = client
        self.context_id = secrets.token_hex(8) if context_id is None else context_id
        self.processors: dict[str, Callable[[str], Any]] = dict(processors or {})
        self.vars: dict[str, Any] = {}
        self._given_channels = channels
        self._modules = _compiled(config_dict)
        self._source = source or self.context_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.context_id!r}, {_modules(self._modules)})"

    @functools.cached_property
    def channels(self) -> dict[str, Any]:
        """Channels by name; names are looked up when a call is made."""
        from .._transport.channels import Channel, TextFragmentChannel

        own: dict[str, Channel[Any]] = {
            "stdin": Channel(),
            "stdout": TextFragmentChannel(),
            "reasoning": TextFragmentChannel(),
        }
        return own | dict(self._given_channels or {})

    @property
    def modules(self) -> Mapping[str, ModuleConfig]:
        """The settings of each module by name; a live view."""
        return self._modules.modules

    @property
    def sync(self) -> Any:
        """The same names for code that does not await: ``app.sync["module"](variable=...)``."""
        return Sync(self, self.client)

    def __getitem__(self, name: str) -> Module:
        """A module to call.

        Raises:
            LLMUnknownNameError: There is none of this name (also a KeyError).
        """
        return Module(self, self._modules[name].config.name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules.modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules.modules)

    async def call(self, request: LLMModuleRequest | LLMDirectRequest) -> LLMModuleResult:
        """Send a request, through a module or as it stands.

        Failures of model, vendor and post-processor are in the result: see `raise_for_status`.

        Raises:
            LLMApplicationError: The caller's mistake, before anything is sent: an unknown name, an
                undefined variable.
        """
        call = await self._prepared(request)
        return await call_runner.get()(self._caller(call.request), call)

    async def preview(self, request: LLMModuleRequest | LLMDirectRequest) -> RequestPreview:
        """The whole request as `call` would send it; nothing is sent.

        Raises:
            LLMApplicationError: As for `call`.
            LLMApiRequestError: There is no such model.
        """
        direct = (await self._prepared(request)).request
        return await self.client.preview(
            self._modules.alias(direct.model_name),
            direct.messages,
            direct.tools or {},
            direct.options or {},
            direct.stream,
        )

    def prepare(self, request: LLMModuleRequest | LLMDirectRequest) -> Call:
        """The request resolved and rendered, ready to be sent.

        Raises:
            LLMApplicationError: As for `call`.
        """
        if isinstance(request, LLMModuleRequest):
            variables = {**self.vars, **checked_params(request.template_params)}
            return self._modules.resolve(request).call(request, variables)
        return Call(self._modules.completed(request))

    async def _prepared(self, request: LLMModuleRequest | LLMDirectRequest) -> Call:
        """`prepare`, in a worker thread where templates might run a user's code on our loop."""
        if on_background_loop() and self._may_run_code(request):
            return await asyncio.to_thread(self.prepare, request)
        return self.prepare(request)

    def _may_run_code(self, request: LLMModuleRequest | LLMDirectRequest) -> bool:
        if not isinstance(request, LLMModuleRequest):
            return False
        values = itertools.chain(self.vars.values(), request.template_params.values())
        return not all(type(value) in _PLAIN for value in values)

    def _caller(self, request: LLMDirectRequest) -> Caller:
        # Most applications of a factory write nowhere, and live without channels.
        targets = (request.output_channel, request.reasoning_channel)
        named = any(isinstance(target, str) and target for target in targets)
        return Caller(
            self.client,
            self.context_id,
            self._source,
            self.channels if named else {},
            self.processors,
            self._modules.alias,
        )

    def render_template(self, template_name: str, **kwargs: Any) -> str:
        """A template's text: a global one, or a module's as ``module/<module>/<user|system>``.

        Raises:
            LLMUnknownNameError: There is no such template.
            LLMApplicationError: A variable is undefined, or an expression fails.
        """
        return self._modules.templates[template_name].render({**self.vars, **kwargs})

    def add_processor(self, name: str, processor: Callable[..., Any]) -> None:
        """Register a post-processor, sync or async, or a type to parse into."""
        self.processors[name] = processor

    def add_channel(self, name: str, channel: Any) -> None:
        """Register a channel, or anything else that text can be written to."""
        self.channels[name] = channel

    def add_module(self, name: str, table: Mapping[str, Any]) -> Module:
        """Add or replace a module, for this application and all that share its configuration.

        Args:
            name: The module's name.
            table: Its keys as in the configuration file, for example
                ``{"template": {"user": "..."}}``.

        Raises:
            LLMConfigError: The table has mistakes; nothing is changed.
        """
        self._modules.add(name, table)
        return self[name]

    def save_modules(
        self, path: str | os.PathLike[str], names: Iterable[str] | None = None
    ) -> Path:
        """Write modules that were added (in a notebook's cells, say) into a prompt TOML file.

        The file renders the same bytes. In one that exists, only the tables of these modules are
        replaced or added; a new one gets the defaults, templates, tools and aliases as well.

        Args:
            path: The file.
            names: Which modules; all that were added unless given.

        Raises:
            LLMUnknownNameError: No module of this name was added.
            LLMApplicationError: The file is written in a way that cannot be changed safely.
        """
        from .saving import save_modules

        return save_modules(self._modules, path, names or ())

    def workflow(self, **options: Any) -> LLMWorkflow:
        """A workflow with this application's client, modules (live), processors, channels and vars.

        Args:
            options: ``max_parallel_tasks`` and ``history``, see `LLMWorkflow`.
        """
        from .._workflow.workflow import LLMWorkflow

        self._children = getattr(self, "_children", 0) + 1
        flow = LLMWorkflow(
            self.client,
            self._modules,
            context_id=f"{self.context_id}/{self._children}",
            **options,
        )
        flow.processors, flow.channels, flow.vars = self.processors, self.channels, self.vars
        return flow

    def log(self, limit: int | None = 100, *, mine: bool = False, **filters: Any) -> CallTable:
        """The latest calls as a table: from the client's ledger, else the last ones in memory.

        Args:
            limit: The most rows; None for all.
            mine: Only calls of this application and of what it made.
            filters: With a ledger: ``model``, ``status``, ``text``, ``since``, see `Ledger.calls`.
        """
        from .._ledger.reader import calls_of

        context = self.context_id if mine else None
        return calls_of(self.client, limit, context=context, **filters)

    async def audit_event(self, event_type: str, **kwargs: Any) -> None:
        """Record a business event with the client."""
        await self.client.audit_event(self.context_id, event_type, **kwargs)

    @classmethod
    def factory(
        cls,
        client: LLMClient,
        config_dict: Mapping[str, Any] | None = None,
        processors: Mapping[str, Callable[[str], Any]] | None = None,
        channels: Mapping[str, Any] | None = None,
    ) -> ApplicationFactory[Self]:
        """A maker of applications that share client, configuration and compiled templates.

        Each has its own context id, its own channels (but for those given here) and variables. To
        the client they are one source: its queue is fair between the factory and others.

        Raises:
            LLMConfigError: The configuration has mistakes; all of them are in the message.
        """
        return ApplicationFactory(cls, client, _compiled(config_dict), processors, channels)


App = TypeVar("App", bound=LLMApplication)


class ApplicationFactory(Generic[App]):
    """Makes applications for one job each: ``factory()``."""

    def __init__(
        self,
        kind: type[App],
        client: LLMClient,
        modules: ModuleSet,
        processors: Mapping[str, Callable[[str], Any]] | None,
        channels: Mapping[str, Any] | None,
    ) -> None:
        self.source = secrets.token_hex(8)
        """The applications are ``<source>/1``, ``<source>/2`` ...; ``client.cancel_all(source)``
        ends the requests of all of them."""
        self.client = client
        self._kind = kind
        self._modules = modules
        self._processors = dict(processors or {})
        self._channels = dict(channels or {})
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"{self._kind.__name__}.factory({self.source!r}, {_modules(self._modules)})"

    def __call__(
        self,
        context_id: str | None = None,
        channels: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> App:
        """A new application.

        Args:
            context_id: Its id; ``<source>/<n>`` unless given.
            channels: Channels of this application alone.
            options: What else the application's class takes.
        """
        if context_id is None:
            context_id = f"{self.source}/{next(self._numbers)}"
        return self._kind(
            self.client,
            self._modules,
            self._processors,
            {**self._channels, **channels} if channels else self._channels,
            context_id,
            source=self.source,
            **options,
        )


def _compiled(config: Mapping[str, Any] | ModuleSet | None) -> ModuleSet:
    from .modules import ModuleSet

    return config if isinstance(config, ModuleSet) else ModuleSet(config or {})


def _modules(modules: ModuleSet) -> str:
    return f"{len(modules)} module{'' if len(modules) == 1 else 's'}"
