"""The modules of one configuration, compiled once and shared by every application made from it."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._config import PromptConfig
from .._config.rules import copied
from .._datamodel import (
    LLMApplicationError,
    LLMConfigError,
    LLMDirectRequest,
    LLMUnknownNameError,
    did_you_mean,
)
from .resolved import CompiledModule, ResolvedModule, check_messages, checked_table
from .templates import Source, TemplateSet, syntax_problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._config import ModuleConfig
    from .._datamodel import LLMModuleRequest

__all__ = ["ModuleSet"]


class ModuleSet:
    """Modules with their compiled templates, and what else a prompt configuration holds.

    Modules are live: one that is added is seen by all applications that share the set.

    Raises:
        LLMConfigError: The configuration has mistakes; all of them are in the message.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = _checked(config)
        self.templates = TemplateSet(list(_template_sources(config)), self.config.file)
        self._compiled = {
            name: self._compile(module) for name, module in self.config.modules.items()
        }
        self.added: dict[str, dict[str, Any]] = {}
        """The tables of modules that were added later, by name."""

    @property
    def modules(self) -> Mapping[str, ModuleConfig]:
        """The settings of each module; a live view."""
        return MappingProxyType(self.config.modules)

    def __len__(self) -> int:
        return len(self._compiled)

    def __getitem__(self, name: str) -> CompiledModule:
        try:
            return self._compiled[name]
        except (KeyError, TypeError):
            hint = did_you_mean(name, self._compiled)
            raise LLMUnknownNameError(f"there is no module {name!r}; {hint}") from None

    def add(self, name: str, table: Mapping[str, Any]) -> None:
        """Add or replace a module, given as its table in the configuration file.

        Raises:
            LLMConfigError: The table or its templates have mistakes; nothing is changed.
        """
        module = self.config.module_from_table(name, table)
        self.templates.add(list(_module_sources(name, table)))
        if module.system_template is None:
            self.templates.discard(f"module/{name}/system")
        compiled = self._compile(module)
        self.config.modules[name] = module
        self._compiled[name] = compiled
        self.added[name] = copied(table)

    def with_module(self, name: str, table: Mapping[str, Any]) -> ModuleSet:
        """A set of its own with one more module, for a look before it is added here.

        Raises:
            LLMConfigError: As for `add`.
        """
        twin = copy.copy(self)
        twin.config = copy.copy(self.config)
        twin.config.modules = dict(self.config.modules)
        twin.templates = self.templates.copy()
        twin._compiled, twin.added = dict(self._compiled), dict(self.added)
        twin.add(name, table)
        return twin

    def alias(self, model_name: str) -> str:
        """The model name to ask the client for."""
        return self.config.aliases.get(model_name, model_name)

    def resolve(self, request: LLMModuleRequest) -> ResolvedModule:
        """The module that `request` names, with its overrides; None keeps what is configured.

        Raises:
            LLMUnknownNameError: There is no such module or global tool.
            LLMApplicationError: No model is named anywhere.
        """
        module = self[request.module_name]
        config = module.config
        model_name = request.model_name or config.model
        if not model_name:
            raise LLMApplicationError(
                f"module {config.name!r} names no model: set `model` in its table or in"
                " [module_default], or pass _model_name"
            )
        return ResolvedModule(
            module,
            model_name,
            config.tools if request.tools is None else self._tools(request.tools),
            config.options
            if request.options is None
            else checked_table(request.options, "options"),
            config.stream if request.stream is None else request.stream,
            _either(request.output_channel, config.output_channel),
            _either(request.reasoning_channel, config.reasoning_channel),
            _either(request.post_processor, config.post_processor),
            config.format_retries,
        )

    def frozen(self, request: LLMModuleRequest) -> ResolvedModule:
        """`resolve`, with templates of its own: what is edited later changes nothing in it.

        Raises:
            LLMApplicationError: As for `resolve`.
        """
        resolved = self.resolve(request)
        templates, prefix = self.templates.copy(), f"module/{resolved.name}"
        config = resolved.module.config
        system = templates[f"{prefix}/system"] if config.system_template is not None else None
        return resolved._replace(module=CompiledModule(config, templates[f"{prefix}/user"], system))

    def completed(self, request: LLMDirectRequest) -> LLMDirectRequest:
        """A direct request with global tools filled in, in copies of its own.

        Raises:
            LLMUnknownNameError: There is no such global tool.
            LLMApplicationError: It is no request, or its messages are no list of messages.
        """
        if not isinstance(request, LLMDirectRequest):
            kind = type(request).__name__
            raise LLMApplicationError(
                f"a call takes an LLMModuleRequest or an LLMDirectRequest, not a {kind}"
            )
        check_messages(request.messages, "messages")
        return request._replace(
            messages=list(request.messages),
            tools=self._tools(request.tools or {}),
            options=checked_table(request.options or {}, "options"),
        )

    def _tools(self, tools: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """A request's tools, an empty table standing for the global tool of that name."""
        given = checked_table(tools, "tools").items()
        return {
            name: checked_table(table, f"tool {name!r}") if table else self._global_tool(name)
            for name, table in given
        }

    def _global_tool(self, name: str) -> dict[str, Any]:
        tools = self.config.tools
        if name not in tools:
            hint = did_you_mean(name, tools)
            raise LLMUnknownNameError(f"there is no global tool {name!r}; {hint}")
        return tools[name]

    def _compile(self, module: ModuleConfig) -> CompiledModule:
        prefix = f"module/{module.name}"
        system = self.templates[f"{prefix}/system"] if module.system_template is not None else None
        return CompiledModule(module, self.templates[f"{prefix}/user"], system)


def _either(override: Any, configured: Any) -> Any:
    return configured if override is None else override


def _checked(config: Mapping[str, Any]) -> PromptConfig:
    """The configuration; where it has mistakes, those in templates are reported with the others."""
    try:
        return PromptConfig.from_dict(config)
    except LLMConfigError as exc:
        more = syntax_problems(list(_template_sources(config)))
        raise LLMConfigError([*exc.problems, *more], exc.file) from None


def _template_sources(config: Mapping[str, Any]) -> Iterable[Source]:
    """Every template text in a configuration that may hold mistakes of any kind."""
    for name, text in _table(config, "template").items():
        if isinstance(text, str):
            yield Source(name, f'template."{name}"', f"template {name!r}", text)
    for name, table in _table(config, "module").items():
        yield from _module_sources(name, table)


def _module_sources(name: str, table: Any) -> Iterable[Source]:
    for kind in ("system", "user"):
        text = _table(table, "template").get(kind)
        if isinstance(text, str):
            key, label = f'module."{name}".template.{kind}', f"module {name!r}, template.{kind}"
            yield Source(f"module/{name}/{kind}", key, label, text)


def _table(config: Any, key: str) -> Mapping[str, Any]:
    value = config.get(key) if hasattr(config, "get") else None
    return value if hasattr(value, "items") else {}  # type: ignore[return-value]
