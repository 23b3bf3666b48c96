"""What a prompt file names, held against what the provider file and the library have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._datamodel import LLMUnknownNameError, did_you_mean, near_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._application.modules import ModuleSet
    from .._config import ModuleConfig, ProviderConfig

__all__ = ["left_to_the_program", "missing_models"]


def missing_models(modules: ModuleSet, config: ProviderConfig) -> Iterator[str]:
    """A sentence for each module whose model is in neither file."""
    known = [*config.aliases, *config.entries]
    for name, module in modules.modules.items():
        asked = modules.alias(module.model or "")
        if asked and asked not in known:
            through = "" if asked == module.model else f" (which {module.model!r} stands for)"
            hint = did_you_mean(asked, [*modules.config.aliases, *known])
            yield f'[module."{name}"]: there is no model {asked!r}{through}; {hint}'


def left_to_the_program(modules: ModuleSet) -> Iterator[str]:
    """A sentence for what no file says: a model, or a post-processor that is not built in."""
    for name, module in modules.modules.items():
        if module.model is None:
            yield f'[module."{name}"] names no model: each call has to, with _model_name'
        if not _is_built_in(module):
            yield f'[module."{name}"]: {_processor(module)}'


def _is_built_in(module: ModuleConfig) -> bool:
    from .._application.processors import resolve_processor

    try:
        resolve_processor(module.post_processor, {})
    except LLMUnknownNameError:
        return False
    return True


def _processor(module: ModuleConfig) -> str:
    from .._application.processors import BUILT_IN

    near = near_names(str(module.post_processor), BUILT_IN)
    hint = f"did you mean {' or '.join(map(repr, near))}? If not, programs" if near else "programs"
    return (
        f"the post-processor {module.post_processor!r} is not built in; {hint} register it with"
        " app.add_processor, commands with --processors"
    )
