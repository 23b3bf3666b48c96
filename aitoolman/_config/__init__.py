"""Configuration: both TOML files read, checked as a whole, and turned into values.

Other layers use `load_config`, `load_config_str` and `Config`; `ProviderConfig` with `ModelEntry`,
`ResolvedEntry`, `Price` and `LedgerConfig` (the provider file); `PromptConfig` with `ModuleConfig`
and `Example` (the prompt file); `config_kind` to tell the two files apart; and the module
`defaults`, where every default value has a name.
"""

from __future__ import annotations

from . import defaults
from .entries import ModelEntry, Price, ResolvedEntry
from .kinds import config_kind
from .load import Config, load_config, load_config_str
from .prompt import Example, ModuleConfig, PromptConfig
from .provider import LedgerConfig, ProviderConfig

__all__ = [
    "Config",
    "Example",
    "LedgerConfig",
    "ModelEntry",
    "ModuleConfig",
    "Price",
    "PromptConfig",
    "ProviderConfig",
    "ResolvedEntry",
    "config_kind",
    "defaults",
    "load_config",
    "load_config_str",
]
