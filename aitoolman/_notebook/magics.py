"""The magics: each turns its text into calls of the normal API."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from .._application.app import LLMApplication
from .._datamodel import LLMApplicationError, LLMConfigError, LLMError, did_you_mean
from .._loops import run_sync
from .arguments import evaluate, options_of, parse_line, usage, without_line_end
from .definition import module_table
from .guard import Interrupted, one_line
from .running import run_shown
from .session import make_client, read_files, with_model

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .._application.module import Module
    from .extension import Extension

__all__ = ["LLMMagics"]


@magics_class
class LLMMagics(Magics):
    """``%llm_config``, ``%%aitoolman``, ``%%llm_module`` and ``%llm_log``."""

    shell: Any

    def __init__(self, extension: Extension) -> None:
        super().__init__(extension.shell)
        self._extension = extension
        self._session = extension.session

    # Configuration

    @magic_arguments()
    @argument("files", nargs="*", help="A provider file and a prompt file, in any order.")
    @argument("--demo", action="store_true", help="The embedded model; no key, no network.")
    @argument("--model", help="The model of modules that name none; wins over [module_default].")
    @argument("--ledger", help="A mode (off, record, read_write, refresh, replay) or MODE:FILE.")
    @argument("--endpoint", help="A running service, such as tcp://127.0.0.1:5555.")
    @argument("--ask", action="store_true", help="Ask for keys that the environment has not.")
    @line_magic
    def llm_config(self, line: str) -> LLMApplication:
        """Make the notebook's application, or give the current one.

        Run it again after editing a file: modules defined in cells stay, the old client is closed
        when its calls have ended. Keys come from the environment or, with --ask, from the keyboard.
        """
        options = parse_argstring(self.llm_config, line)
        if not line.strip():
            return self._session.app
        with _mistakes_as_usage():
            return self._configure(options)

    def _configure(self, options: Any) -> LLMApplication:
        provider, prompts = read_files(options.files)
        client = make_client(
            provider,
            demo=options.demo,
            endpoint=options.endpoint,
            ledger=options.ledger,
            ask=options.ask,
        )
        config = with_model(prompts, options.model, client, demo=options.demo)
        return self._session.configure(client, config)

    # Running a module

    @magic_arguments()
    @argument("module", help="A module's name.")
    @argument(
        "variables", nargs="*", default=[], metavar="name=value",
        help="Text, or name={a Python expression}.",
    )  # fmt: skip
    @argument("--var", metavar="NAME", help="The variable that the cell's body fills.")
    @argument("-o", "--out", metavar="NAME", help="The name to store the result under.")
    @argument("--model", help="Another model for this call.")
    @argument("--no-stream", action="store_true", help="Ask for the answer in one piece.")
    @argument("--preview", action="store_true", help="Show the request; send nothing.")
    @argument("--fresh", action="store_true", help="Ask the model even if a ledger has an answer.")
    @no_var_expand
    @line_cell_magic
    def aitoolman(self, line: str, cell: str | None = None) -> Any:
        """Run a module; the body is its open template variable.

        The answer streams into the cell and can be stopped. The result is returned, and stored with
        -o.
        """
        return self._wait(self._run(line, cell))

    @no_var_expand
    async def awaited_aitoolman(self, line: str, cell: str | None = None) -> Any:
        """`aitoolman`, for cells that await."""
        return await self._run(line, cell)

    async def _run(self, line: str, cell: str | None) -> Any:
        words, given = parse_line(self.shell, line)
        options = options_of(self.aitoolman.parser, words)
        if options.variables:
            raise usage(f"{options.variables[0]!r} is no name=value pair")
        check_name(options.out)
        app = self._session.app
        with _mistakes_as_usage():
            params = self._params(app, options, given, cell)
            if options.preview:
                result: Any = await app[options.module].preview(**params)
            else:
                result = await run_shown(app, options.module, params, self._extension.collector)
                self._extension.displayed(result)
        return self._store(options.out, result)

    def _params(
        self, app: LLMApplication, options: Any, given: dict[str, Any], cell: str | None
    ) -> dict[str, Any]:
        module = app[options.module]
        params = dict(given)
        if cell is not None:
            params[body_variable(module, given, options.var)] = without_line_end(cell)
        elif options.var:
            raise usage("--var names the variable of a cell's body, and there is no body")
        missing = [name for name in module.variables if name not in params]
        if missing:
            raise usage(f"module {module.name!r} needs {', '.join(missing)}: add {missing[0]}=...")
        params["_stream"] = not options.no_stream
        if options.model:
            params["_model_name"] = options.model
        if options.fresh:
            params["_fresh"] = True
        return params

    def _store(self, name: str | None, result: Any) -> Any:
        if name is not None:
            self.shell.user_ns[name] = result
        status = getattr(result, "status", None)
        if status is not None and status.is_error and status.value != "length":
            try:
                result.raise_for_status()
            except LLMError as exc:
                raise one_line(exc) from None
        return result

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The outcome of a coroutine, for code that does not await."""
        current = self._session.current
        try:
            return run_sync(coroutine, home=getattr(current and current.client, "home", None))
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    # Defining a module

    @magic_arguments()
    @argument("name", help="The module's name.")
    @argument("--model", help="Its model.")
    @argument("--system", metavar="TEXT", help="Its system prompt.")
    @argument("--output", metavar="PROCESSOR", help="Its post-processor, such as parse_json.")
    @argument("--tools", nargs="+", metavar="TOOL", help="Global tools that it may call.")
    @argument("--try", dest="rows", metavar="ROWS", help="Run it over a small frame or list.")
    @argument("--label", metavar="COLUMN", help="With --try: the column with the right answers.")
    @argument("--fresh", action="store_true", help="With --try: ask for every row again.")
    @argument("-o", "--out", metavar="NAME", help="The name to store the module or trial under.")
    @no_var_expand
    @line_cell_magic
    def llm_module(self, line: str, cell: str | None = None) -> Any:
        """Define a module; the body is its prompt (Jinja).

        The body may begin with TOML between two lines of +++, for what else a module has: examples,
        options, stream, description. With --try the prompt runs over rows at once and shows what
        changed since the last time; requests that did not change cost nothing.
        """
        return self._wait(self._define(line, cell))

    @no_var_expand
    async def awaited_llm_module(self, line: str, cell: str | None = None) -> Any:
        """`llm_module`, for cells that await."""
        return await self._define(line, cell)

    async def _define(self, line: str, cell: str | None) -> Any:
        words = self._words(line)
        options = options_of(self.llm_module.parser, words)
        check_name(options.out)
        if cell is None:
            raise usage("%%llm_module takes the prompt as the cell's body")
        app = self._session.app
        with _mistakes_as_usage():
            table = module_table(cell, options)
            if options.rows is None:
                return self._store(options.out, app.add_module(options.name, table))
            return self._store(options.out, await self._try(app, options, table))

    async def _try(self, app: LLMApplication, options: Any, table: dict[str, Any]) -> Any:
        """Define a module and run it; where the rows do not fit it, nothing is defined."""
        from .trials import fitting_rows, try_module

        rows = evaluate(self.shell, options.rows, "--try")
        draft = app._modules.with_module(options.name, table)
        fitting = fitting_rows(rows, LLMApplication(app.client, draft)[options.name], options.label)
        module = app.add_module(options.name, table)
        return await try_module(self._extension, module, fitting, options.label, options.fresh)

    def _words(self, line: str) -> list[str]:
        words, pairs = parse_line(self.shell, line, ["--try"])
        if pairs:
            raise usage(
                f"{next(iter(pairs))}=: a module's options go between +++ lines in the body"
            )
        return words

    # Looking back

    @magic_arguments()
    @argument("calls", nargs="*", type=int, help="One number: that call whole. Two: compared.")
    @argument("-n", "--limit", type=int, default=20, help="How many of the latest calls.")
    @argument("--search", metavar="TEXT", help="Only calls whose prompt or answer has this text.")
    @argument("--all", action="store_true", help="Calls of earlier sessions too.")
    @line_magic
    def llm_log(self, line: str) -> Any:
        """The calls of this session as a table, one call whole, or two side by side."""
        from .log import look_back

        options = parse_argstring(self.llm_log, line)
        with _mistakes_as_usage():
            return look_back(self._session, options)


def check_name(name: str | None) -> None:
    """Refuse a name for a result before anything is sent.

    Raises:
        UsageError: Python takes no such name.
    """
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise usage(f"-o {name}: no name that Python takes")


def body_variable(module: Module, given: dict[str, Any], wanted: str | None) -> str:
    """The template variable that a cell's body fills.

    Raises:
        UsageError: None is open, or several; the message lists them.
    """
    variables = [name for name in module.variables if name not in given]
    if wanted is not None:
        if wanted in given:
            raise usage(f"{wanted}= is given already, and --var names it for the body")
        if wanted not in variables:
            hint = did_you_mean(wanted, variables)
            raise usage(f"module {module.name!r} has no open variable {wanted!r}; {hint}")
        return wanted
    if len(variables) == 1:
        return variables[0]
    if not variables:
        raise usage(f"module {module.name!r} has no variable left for the cell's body")
    raise usage(
        f"module {module.name!r} has several open variables: {', '.join(variables)}; give all but"
        " one as name=value, or name the body's with --var"
    )


class _mistakes_as_usage:  # noqa: N801 - reads as a phrase
    """Shows the caller's mistakes as one line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, (LLMApplicationError, LLMConfigError, OSError)):
            raise usage(str(error)) from None
        if isinstance(error, LLMError):
            raise one_line(error) from None
