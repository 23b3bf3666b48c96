"""`app["name"]`: a module as something to call, render, preview and look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError, LLMModuleRequest, LLMUnknownNameError, did_you_mean
from .._sync import Sync

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .._batch.plan import Plan
    from .._batch.prepare import Missing
    from .._batch.result import Batch
    from .._config import ModuleConfig
    from .._datamodel import LLMModuleResult, Message, RequestPreview
    from .app import LLMApplication

__all__ = ["Module"]

_CALL_OPTIONS = {
    f"_{field}": field
    for field in LLMModuleRequest._fields
    if field not in ("module_name", "template_params")
}


_RUN_OPTIONS = frozenset({"limit", "max_cost", "on_error", "max_errors"})


class Module:
    """A module of an application.

    Calling it fills the templates with the keyword arguments, asks the model and post-processes the
    answer. Options of one call are keywords with a leading underscore: ``_model_name``,
    ``_context_messages``, ``_media_content``, ``_tools``, ``_options``, ``_stream``,
    ``_output_channel``, ``_reasoning_channel``, ``_post_processor``, ``_sample``, ``_fresh``.
    """

    __slots__ = ("_app", "name")

    def __init__(self, app: LLMApplication, name: str) -> None:
        self._app = app
        self.name = name

    def __repr__(self) -> str:
        config = self.config
        return f"Module({self.name!r}, model={config.model!r}, variables={self.variables!r})"

    @property
    def config(self) -> ModuleConfig:
        """The settings as configured, `module_default` included."""
        return self._app._modules[self.name].config

    @property
    def variables(self) -> list[str]:
        """The template variables a call has to give, sorted; those in ``app.vars`` are left out."""
        return sorted(self._app._modules[self.name].variables.difference(self._app.vars))

    @property
    def sync(self) -> Any:
        """The same names for code that does not await."""
        return Sync(self, self._app.client)

    async def __call__(self, /, *values: Any, **params: Any) -> LLMModuleResult:
        """Ask the model.

        Variables are passed by name: ``await app["name"](text="...")``.

        Raises:
            LLMApplicationError: The caller's mistake, before anything is sent: an undefined
                variable, an unknown channel, post-processor, tool or option.
        """
        return await self._app.call(self.request(*values, **params))

    def request(self, /, *values: Any, **params: Any) -> LLMModuleRequest:
        """The request that a call with these arguments makes.

        Raises:
            LLMUnknownNameError: A keyword with a leading underscore is no option of a call.
            LLMApplicationError: A value was passed without its variable's name.
        """
        if values:
            names = ", ".join(f"{name}=..." for name in self.variables) or "nothing: it has none"
            raise LLMApplicationError(
                f"module {self.name!r} takes its variables by name: pass {names}"
            )
        options = {}
        for name in [name for name in params if name.startswith("_")]:
            if name not in _CALL_OPTIONS:
                hint = did_you_mean(name, _CALL_OPTIONS)
                raise LLMUnknownNameError(f"a call has no option {name!r}; {hint}")
            options[_CALL_OPTIONS[name]] = params.pop(name)
        if options.get("context_messages", ()) is None:
            del options["context_messages"]
        return LLMModuleRequest(self.name, params, **options)

    def render(self, /, *values: Any, **params: Any) -> list[Message]:
        """The exact messages that a call with these arguments sends.

        Raises:
            LLMApplicationError: As for a call.
        """
        return self._app.prepare(self.request(*values, **params)).request.messages

    async def preview(self, /, *values: Any, **params: Any) -> RequestPreview:
        """The whole request as a call with these arguments would send it; nothing is sent.

        Raises:
            LLMApplicationError: As for a call.
            LLMApiRequestError: There is no such model.
        """
        return await self._app.preview(self.request(*values, **params))

    async def plan(
        self,
        data: Any,
        *,
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        missing: Missing = "skip",
        output: str | None = None,
        ledger: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Plan:
        """What a call for each row of `data` would send; nothing is sent.

        The module is frozen: what the plan shows is what its `run` sends, whatever is edited
        meanwhile.

        Args:
            data: A pandas, polars or Arrow frame or a column of it, a list of dicts, an iterator.
            columns: Template variable to column; a variable takes the column of its own name
                unless told otherwise.
            constants: Variables that are the same for all rows.
            missing: Rows with a missing value (None, NaN, NaT, NA) are left out (``"skip"``), an
                error, or sent with an empty text in its place (``"empty"``).
            output: The column of plain answers; None: the module's name.
            ledger: Where answers are kept and found again: None is the client's own ledger, else
                ``.aitoolman/ledger.db`` beside its configuration; a path; or ``"off"``.
            options: Options of the calls, as for a call: ``_model_name``, ``_options`` ...

        Raises:
            LLMApplicationError: A variable without a column, an unknown column, a prompt that
                cannot be rendered, data of an unknown kind.
            LLMApiRequestError: There is no such model.
        """
        from .._batch.making import make_plan

        return await make_plan(
            self._app,
            self.name,
            data,
            columns=columns,
            constants=constants,
            missing=missing,
            output=output,
            ledger=ledger,
            **options,
        )

    async def batch(self, data: Any, *, progress: bool = True, **arguments: Any) -> Batch:
        """Plan and run: a call for each row of `data`.

        Args:
            data: As for `plan`.
            progress: Show a bar.
            arguments: Those of `plan` and of `Plan.run`.

        Returns:
            All results; ``batch.plan`` is the plan, which can go on where this ended.

        Raises:
            LLMError: As `plan` and `Plan.run` raise.
        """
        from .._batch.making import make_plan

        limits = {name: arguments.pop(name) for name in _RUN_OPTIONS & arguments.keys()}
        plan = await make_plan(self._app, self.name, data, whole=False, **arguments)
        return await plan.run(progress=progress, **limits)
