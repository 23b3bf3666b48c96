"""The layers: imports point down, the public surface is exact, and a plain import stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aitoolman

PACKAGE = Path(aitoolman.__file__).parent

# From the top to the bottom. A layer may import those below it, skipping levels is fine.
LAYERS = [
    ["_cli", "__main__"],
    ["_notebook"],
    ["_batch"],
    ["_connect"],
    ["_workflow"],
    ["_application"],
    ["_service", "zmqclient"],
    ["_ledger"],
    ["_transport"],
    ["_provider"],
    ["_config"],
    ["_secrets", "postprocess"],
    ["_datamodel"],
    ["_parsing"],
    ["_loops", "_sync"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Methods that reach up, each by one import inside the function.
REACHES_UP = {
    ("_transport/local.py", "_ledger"),
    ("_transport/show.py", "_notebook"),
    ("_application/module.py", "_batch"),
    ("_application/app.py", "_workflow"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """The layers that a file imports, those under TYPE_CHECKING left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    package = ["aitoolman", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = base + (node.module.split(".") if node.module else [])
            if names[:1] == ["aitoolman"]:
                found |= {names[1]} if len(names) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "aitoolman" and len(parts) > 1:
                    found.add(parts[1])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    """No file imports a layer above its own, but for the listed lazy reaches."""
    here = layer_of(path)
    if here not in RANK:
        assert here == "__init__", f"{path} belongs to no layer: add it to LAYERS"
        return
    name = path.relative_to(PACKAGE).as_posix()
    upward = {
        layer
        for layer in imported_layers(path) & RANK.keys()
        if RANK[layer] < RANK[here] and (name, layer) not in REACHES_UP
    }
    assert not upward


def test_public_names_exist_and_are_listed_once():
    """Each name of the public list can be imported, and the type checker sees the same list."""
    for name in aitoolman.__all__:
        assert getattr(aitoolman, name) is not None
    assert len(set(aitoolman.__all__)) == len(aitoolman.__all__)
    assert declared_for_type_checkers() == set(aitoolman.__all__) - {"__version__"}


def declared_for_type_checkers() -> set[str]:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_module_declares_names_that_exist():
    """`__all__` of every module lists only what is there."""
    for path in modules():
        if path.name == "__main__.py" or any(part.endswith("_data") for part in path.parts):
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        dotted = ".".join(p for p in parts if p != "__init__")
        module = __import__(dotted, fromlist=["_"])
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{dotted}.{name}"


def test_unknown_attribute_is_an_attribute_error():
    """A misspelt public name fails as on any module."""
    with pytest.raises(AttributeError, match="LLMAplication"):
        _ = aitoolman.LLMAplication


HEAVY = [
    "IPython", "ipywidgets", "pandas", "zmq", "xllamacpp",
    "aiohttp", "httpx", "jinja2", "json_repair", "pydantic", "tqdm", "narwhals",
]  # fmt: skip


def test_plain_import_loads_nothing_heavy():
    """`import aitoolman` pulls in no notebook, dataframe, HTTP, template or model library."""
    code = f"import sys, aitoolman; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
