"""The prompt file: modules, templates and tools, checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._datamodel import ConfigProblem, LLMConfigError, did_you_mean
from .keys import PROMPT_TABLES
from .kinds import check_tables
from .paths import child, kind, quoted
from .promptkeys import GLOBAL_TOOLS, MODULE_DEFAULT_KEYS, MODULE_KEYS
from .rules import Key, check_table, copied, name_text, text

__all__ = ["Example", "ModuleConfig", "PromptConfig"]


class Example(NamedTuple):
    """One few-shot turn; `user` is text, or the variables of the user template."""

    user: str | Mapping[str, Any]
    assistant: str


@dataclass(frozen=True)
class ModuleConfig:
    """One ``[module."name"]`` table over ``[module_default]``; None where something is off."""

    name: str
    user_template: str
    description: str = ""
    model: str | None = None
    stream: bool = False
    output_channel: str | None = None
    reasoning_channel: str | None = None
    post_processor: str | None = None
    format_retries: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    system_template: str | None = None
    examples: tuple[Example, ...] = ()
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class PromptConfig:
    """What a prompt file says, sound throughout.

    Attributes:
        file: The file, where known.
        modules: Module name to its `ModuleConfig`.
        templates: The global templates.
        tools: The global tools.
        aliases: Model names that the application replaces before the client sees them.
        defaults: The ``[module_default]`` table with what it leaves to the library filled in.
    """

    def __init__(self, file: str | None = None) -> None:
        self.file = file
        self.modules: dict[str, ModuleConfig] = {}
        self.templates: dict[str, str] = {}
        self.tools: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}
        self.defaults: dict[str, Any] = _with_defaults({})

    def __repr__(self) -> str:
        return (
            f"PromptConfig(file={self.file!r}, modules={list(self.modules)},"
            f" templates={list(self.templates)}, tools={list(self.tools)})"
        )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any] | None) -> PromptConfig:
        """Check a prompt configuration and make values of it; `config` is not changed.

        Args:
            config: What `load_config` gave, or a dict of the same shape; None has no modules.

        Raises:
            LLMConfigError: With all mistakes.
        """
        path = getattr(config, "path", None)
        made = cls(str(path) if path else None)
        problems = made._fill({} if config is None else config)
        if problems:
            raise LLMConfigError(problems, made.file)
        return made

    def module_from_table(self, name: str, table: Mapping[str, Any]) -> ModuleConfig:
        """A module defined later, with the defaults and global tools of this configuration.

        It is not added to `modules`.

        Raises:
            LLMConfigError: With all mistakes in `table`.
        """
        problems: list[ConfigProblem] = []
        module = self._module(name, table, problems)
        if problems or module is None:
            raise LLMConfigError(problems, self.file)
        return module

    def _fill(self, config: Mapping[str, Any]) -> list[ConfigProblem]:
        problems: list[ConfigProblem] = []
        check_tables(config, "prompt", self.file, PROMPT_TABLES, problems)
        self.aliases = _named(config, "model_alias", Key(name_text), problems)
        self.templates = _named(config, "template", Key(text), problems)
        self.tools = self._global_tools(config, problems)
        given = config.get("module_default", {})
        sound = check_table(given, MODULE_DEFAULT_KEYS, "module_default", problems)
        self.defaults = _with_defaults(sound)
        problems += self._unknown_tools(self.defaults["tools"], "module_default.tools")
        self._fill_modules(config.get("module", {}), problems)
        return problems

    def _global_tools(
        self, config: Mapping[str, Any], problems: list[ConfigProblem]
    ) -> dict[str, dict[str, Any]]:
        tools = config.get("tools", {})
        found = list(GLOBAL_TOOLS(tools, "tools"))
        problems += found
        # A tool with a mistake still counts as defined, so that one mistake gives one message.
        return {name: {} for name in _names(tools)} if found else copied(tools)

    def _fill_modules(self, tables: Any, problems: list[ConfigProblem]) -> None:
        if not isinstance(tables, Mapping):
            problems.append(ConfigProblem("module", 'must hold tables such as [module."name"]'))
            return
        for name, table in tables.items():
            module = self._module(name, table, problems)
            if module is not None:
                self.modules[name] = module

    def _module(self, name: Any, table: Any, problems: list[ConfigProblem]) -> ModuleConfig | None:
        path = quoted("module", name)
        found = list(name_text(name, path))
        sound = check_table(table, MODULE_KEYS, path, found)
        found += self._unknown_tools(sound.get("tools", {}), child(path, "tools"))
        problems += found
        return None if found else self._built(name, self.defaults | sound)

    def _unknown_tools(self, tools: Mapping[str, Any], path: str) -> Iterator[ConfigProblem]:
        for name, tool in tools.items():
            if not tool and name not in self.tools:
                hint = did_you_mean(name, self.tools)
                message = f"refers to a global tool, and there is no [tools.{name!r}]; {hint}"
                yield ConfigProblem(quoted(path, name), message)

    def _built(self, name: str, values: dict[str, Any]) -> ModuleConfig:
        template = values["template"]
        plain = ("description", "model", "stream", "format_retries")
        return ModuleConfig(
            name=name,
            user_template=template["user"],
            system_template=template.get("system"),
            output_channel=values["output_channel"] or None,
            reasoning_channel=values["reasoning_channel"] or None,
            post_processor=values["post_processor"] or None,
            options=copied(values["options"]),
            examples=tuple(Example(**example) for example in values.get("examples", ())),
            # A missing global tool was reported with [module_default], and nothing is built then.
            tools={n: copied(t or self.tools.get(n, {})) for n, t in values["tools"].items()},
            **{key: values.get(key, MODULE_KEYS[key].default) for key in plain},
        )


def _with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    return {name: copied(key.default) for name, key in MODULE_DEFAULT_KEYS.items()} | given


def _named(
    config: Mapping[str, Any], name: str, key: Key, problems: list[ConfigProblem]
) -> dict[str, Any]:
    """A table whose keys are all the user's own."""
    table = config.get(name, {})
    if not isinstance(table, Mapping):
        problems.append(ConfigProblem(name, f"must be a table, not {kind(table)}"))
        return {}
    return check_table(table, dict.fromkeys(table, key), name, problems)


def _names(table: Any) -> list[str]:
    return list(table) if isinstance(table, Mapping) else []
