"""Prompt templates: compiled once per configuration, rendered in a sandbox, errors that say where.

A template's one final line end is dropped when it is compiled, and CRLF becomes LF: the same prompt
sends the same bytes from a multi-line TOML string, a notebook cell or a Python string. All other
white space stays, and so do the values that are filled in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateNotFound, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.loaders import BaseLoader

from .._datamodel import (
    ConfigProblem,
    LLMApplicationError,
    LLMConfigError,
    LLMUnknownNameError,
    did_you_mean,
    near_names,
)
from .sandbox import make_environment, numbers_used

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping
    from types import TracebackType

    from jinja2 import Environment, Template

__all__ = ["Prompt", "Source", "TemplateSet", "syntax_problems"]

_UNDEFINED_NAME = re.compile(r"^'([^']+)' is undefined$")
_JINJAS_OWN = (UndefinedError, TemplateNotFound, SecurityError, RecursionError)
_UNCLOSED = {
    "'end of print statement'": "a }} is missing",
    "'end of statement block'": "a %} is missing",
    "unexpected '}'": "a }} is missing, or a } is too many",
}
"""Words of Jinja's messages, and what the writer of a template would say."""


class Source(NamedTuple):
    """A template's text, and how people find it."""

    name: str
    """What templates include and `TemplateSet.render` takes: ``greeting``, ``module/x/user``."""
    key: str
    """The key in the TOML file: ``module."x".template.user``."""
    label: str
    """For messages: ``module 'x', template.user``."""
    text: str


class Prompt:
    """One compiled template."""

    __slots__ = ("_constant", "_templates", "_variables", "source", "template")

    def __init__(
        self,
        source: Source,
        template: Template,
        templates: TemplateSet,
        constant: str | None = None,
    ) -> None:
        self.source = source
        self.template = template
        self._templates = templates
        self._constant = constant
        self._variables: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"Prompt({self.source.name!r})"

    @property
    def variables(self) -> frozenset[str]:
        """The variables that this template and those it includes look up."""
        if self._variables is None:
            self._variables = frozenset(self._templates.find_variables(self.source.text, set()))
        return self._variables

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text with `variables` filled in.

        Raises:
            LLMApplicationError: A variable is undefined, an expression fails or reaches for what
                the sandbox forbids; the message names template and line.
        """
        if self._constant is not None:
            return self._constant
        numbers_used.set([0])
        try:
            return self.template.render(variables)
        except LLMApplicationError:
            raise
        except _JINJAS_OWN as exc:  # our sentence tells all of it
            raise self._explain(exc, variables) from None
        except Exception as exc:
            raise self._explain(exc, variables) from exc

    def _explain(self, exc: Exception, variables: Mapping[str, Any]) -> LLMApplicationError:
        where, place = self.source.label, _place(exc.__traceback__)
        if place is not None:
            where = place if place.startswith(f"{where}, ") else f"{where}, in {place}"
        if isinstance(exc, TemplateNotFound):
            hint = did_you_mean(str(exc.name), self._templates.names)
            return LLMUnknownNameError(f"{where}: there is no template {exc.name!r}; {hint}")
        if isinstance(exc, UndefinedError) and (found := _UNDEFINED_NAME.match(str(exc))):
            unused = [name for name in variables if name not in self.variables]
            return LLMApplicationError(f"{where}: {_undefined(found[1], unused, variables)}")
        return LLMApplicationError(f"{where}: {_reason(exc)}")


def _undefined(name: str, unused: list[str], given: Mapping[str, Any]) -> str:
    if near := near_names(name, unused):  # either may be the slip: show both
        return (
            f"the variable {name!r} is undefined; you passed {' and '.join(f'{n}=' for n in near)}"
            f" (pass {name}=..., or correct the template)"
        )
    known = f"given: {', '.join(map(repr, sorted(given)))}" if given else "no variables were given"
    return f"the variable {name!r} is undefined; pass {name}=... or set app.vars ({known})"


def _syntax(exc: TemplateSyntaxError) -> str:
    message = str(exc.message)
    plain = next((plain for words, plain in _UNCLOSED.items() if words in message), None)
    return f"line {exc.lineno}: {f'{plain} ({message})' if plain else message}"


def _reason(exc: Exception) -> str:
    if isinstance(exc, UndefinedError):
        return str(exc)
    if isinstance(exc, SecurityError):
        return f"the sandbox forbids this: {exc}"
    if isinstance(exc, RecursionError):
        return "the templates include one another in a circle"
    return f"{type(exc).__name__}: {exc}"


def _place(traceback: TracebackType | None) -> str | None:
    """Label and line of the innermost template that an error came through."""
    place = None
    while traceback is not None:
        # Jinja puts a frame of its own, with the template's line, where template code ran.
        scope = traceback.tb_frame.f_globals
        if "__jinja_exception__" in scope:
            place = f"{scope['__name__']}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


class TemplateSet:
    """All templates of one configuration; they may include one another by name.

    Raises:
        LLMConfigError: Templates with syntax errors or unknown includes, all of them at once.
    """

    def __init__(self, sources: list[Source], file: str | None = None) -> None:
        self._file = file
        self._prompts: dict[str, Prompt] = {}
        self._environment = make_environment(_Shelf(self._prompts))
        self.add(sources)

    @property
    def names(self) -> list[str]:
        return list(self._prompts)

    def __getitem__(self, name: str) -> Prompt:
        try:
            return self._prompts[name]
        except KeyError:
            hint = did_you_mean(name, self._prompts)
            raise LLMUnknownNameError(f"there is no template {name!r}; {hint}") from None

    def add(self, sources: list[Source]) -> None:
        """Compile templates and put them in place, all or, where one is wrong, none."""
        names = {*self._prompts, *(source.name for source in sources)}
        problems: list[ConfigProblem] = []
        compiled = {s.name: self._compile(s, names, problems) for s in sources}
        if problems:
            raise LLMConfigError(problems, self._file)
        self._prompts.update({name: prompt for name, prompt in compiled.items() if prompt})

    def copy(self) -> TemplateSet:
        """The same templates, which stay as they are whatever is added here."""
        return TemplateSet([prompt.source for prompt in self._prompts.values()], self._file)

    def discard(self, name: str) -> None:
        """Forget a template; an unknown one is fine."""
        self._prompts.pop(name, None)

    def _compile(
        self, source: Source, names: set[str], problems: list[ConfigProblem]
    ) -> Prompt | None:
        environment = self._environment
        try:
            tree = environment.parse(source.text, source.name)
            code = environment.compile(tree, source.name, source.label)
        except TemplateSyntaxError as exc:
            problems.append(ConfigProblem(source.key, _syntax(exc)))
            return None
        except RecursionError:
            problems.append(ConfigProblem(source.key, "the template is nested too deeply"))
            return None
        except Exception as exc:  # noqa: BLE001 - Jinja evaluates constants, which may fail at will
            problems.append(ConfigProblem(source.key, f"cannot be compiled: {exc}"))
            return None
        problems += _unknown_references(tree, source.key, names)
        # A plain dict of globals: the chained one that Jinja makes costs more than the rendering.
        scope = dict(environment.globals)
        template = environment.template_class.from_code(environment, code, scope)
        return Prompt(source, template, self, _constant_text(tree))

    def find_variables(self, text: str, seen: set[str]) -> set[str]:
        """The variables that a template's text looks up, followed through its includes."""
        tree = self._environment.parse(text)
        found = meta.find_undeclared_variables(tree)
        here = {n.name for n in tree.find_all(nodes.Name) if n.ctx == "store"}
        for name in _references(tree):
            if name in self._prompts and name not in seen:
                inner = self.find_variables(self._prompts[name].source.text, seen | {name})
                found |= inner - here
        return found


def syntax_problems(sources: list[Source]) -> list[ConfigProblem]:
    """The syntax errors alone, for a configuration that has other mistakes as well."""
    try:
        TemplateSet(sources)
    except LLMConfigError as exc:
        return exc.problems
    return []


class _Shelf(BaseLoader):
    """Hands out what is compiled already, so that nothing is looked up, compared or evicted."""

    def __init__(self, prompts: Mapping[str, Prompt]) -> None:
        self._prompts = prompts

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's name for it
    ) -> Template:
        if name not in self._prompts:
            raise TemplateNotFound(name)
        return self._prompts[name].template


_REFERENCES = (nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)


def _references(tree: nodes.Template) -> Iterator[str]:
    """The templates, named by a constant, that see the variables of this one."""
    for node in tree.find_all(_REFERENCES):
        if getattr(node, "with_context", True):
            yield from _named_in(node)


def _constant_text(tree: nodes.Template) -> str | None:
    """The text of a template that holds nothing but text, as many system prompts do."""
    parts: list[str] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for part in statement.nodes:
            if not isinstance(part, nodes.TemplateData):
                return None
            parts.append(part.data)
    return "".join(parts)


def _named_in(node: nodes.Node) -> Iterator[str]:
    template = getattr(node, "template", None)
    items = template.items if isinstance(template, (nodes.List, nodes.Tuple)) else [template]
    for item in items:
        if isinstance(item, nodes.Const) and isinstance(item.value, str):
            yield item.value


def _unknown_references(tree: nodes.Template, key: str, names: set[str]) -> Iterator[ConfigProblem]:
    for node in tree.find_all(_REFERENCES):
        named = [] if getattr(node, "ignore_missing", False) else list(_named_in(node))
        if named and not names.intersection(named):
            hint = did_you_mean(named[0], names)
            message = f"line {node.lineno}: there is no template {named[0]!r}; {hint}"
            yield ConfigProblem(key, message)
