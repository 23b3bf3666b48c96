"""Making a plan: the module frozen, its variables bound to the data."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from .._application.processors import resolve_processor
from .._datamodel import LLMApplicationError, did_you_mean
from .binding import bind
from .home import ledger_for
from .plan import Plan
from .prepare import Frozen, Missing, RowMaker
from .source import open_source

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .._application.app import LLMApplication
    from .._datamodel import LLMModuleRequest

__all__ = ["declared_type", "make_plan"]


async def make_plan(
    app: LLMApplication,
    module_name: str,
    data: Any,
    *,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    missing: Missing = "skip",
    output: str | None = None,
    ledger: str | os.PathLike[str] | None = None,
    whole: bool = True,
    **options: Any,
) -> Plan:
    """The plan of a module over `data`, see `Module.plan`; not `whole`: uncounted."""
    if missing not in typing.get_args(Missing):
        raise LLMApplicationError(f"missing is 'skip', 'error' or 'empty', not {missing!r}")
    request = _call_options(app, module_name, options)
    module, app_vars = app._modules.frozen(request), dict(app.vars)
    variables = sorted(module.module.variables)
    open_ones = [v for v in variables if v not in app_vars and v not in (constants or {})]
    source = open_source(data, open_ones[0] if len(open_ones) == 1 else None)
    known = source.columns
    if not known and not source.seen:  # no row tells of columns
        known = [*variables, *(columns or {}).values()]
    binding = bind(variables, known, columns, constants, app_vars)
    processor = resolve_processor(module.post_processor, app.processors)
    declared = declared_type(module.post_processor, app.processors)
    module = module._replace(
        stream=False, output_channel=None, reasoning_channel=None, post_processor=processor
    )
    frozen = Frozen(module, request, app._modules.alias(module.model_name), binding)
    maker = RowMaker(frozen, source, missing)
    path = ledger_for(app.client, ledger)
    plan = Plan(app, maker, output or module.name, declared, path)
    await plan._look(whole)
    return plan


def _call_options(app: LLMApplication, name: str, options: Mapping[str, Any]) -> LLMModuleRequest:
    """The overrides that all calls of a plan share."""
    known = ["columns", "constants", "missing", "output", "ledger"]
    for option in options:
        if not option.startswith("_"):
            hint = did_you_mean(option, known)
            raise LLMApplicationError(
                f"a plan has no option {option!r}; {hint} (a template variable: constants=)"
            )
    return app[name].request(**options)


def declared_type(spec: Any, registry: Mapping[str, Any]) -> Any:
    """The type of the answers, as far as the post-processor says it."""
    if isinstance(spec, str):
        spec = registry.get(spec)
    if spec is None or isinstance(spec, str):
        return None
    if isinstance(spec, type) or typing.get_origin(spec) is not None:
        return spec
    try:
        return typing.get_type_hints(spec).get("return")
    except Exception:  # noqa: BLE001 - no function, or a name that cannot be resolved
        return None
