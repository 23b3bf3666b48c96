"""The configuration of ``connect("demo")``: the embedded model under the sample files' names."""

from __future__ import annotations

from .load import Config, load_config_str

__all__ = ["demo_config"]

_DEMO = """
[default]
body_options = { temperature = 0, max_tokens = 512 }

[api."smollm2-135m"]
type = "llamacpp"
model = "smollm2-135m"

# No other model is behind these names: they let the modules of the sample files run as they stand.
[model_alias]
"Creative-Model" = "smollm2-135m"
"Precise-Model" = "smollm2-135m"
"Fast-Model" = "smollm2-135m"
"Cheap-Model" = "smollm2-135m"
"Code-Model" = "smollm2-135m"
"Doubao-Seed-1.6" = "smollm2-135m"
"GPT-4" = "smollm2-135m"
"gpt-4" = "smollm2-135m"
"""


def demo_config() -> Config:
    """A provider configuration that needs no key: every usual name is the embedded model.

    Answers repeat themselves (temperature 0) and end after 512 tokens unless a request says else.
    """
    return load_config_str(_DEMO)
