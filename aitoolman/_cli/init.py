"""``aitoolman init DIR``: a starter project that runs at once on the embedded model."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from .._datamodel import LLMApplicationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

__all__ = ["add_arguments", "run", "write_starter"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="the project's folder: a new one, or an empty one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    folder: Path = arguments.folder
    for name in write_starter(folder):
        print(f"  {folder / name}")
    print(f"\nNext:\n  cd {folder}\n  python src/main.py")
    return 0


def write_starter(folder: Path) -> list[str]:
    """Write the project and give its files' names.

    Raises:
        LLMApplicationError: The folder is not empty, or is no folder.
        OSError: It cannot be written; nothing of it is left then.
    """
    existed = _check_free(folder)
    try:
        return list(_copy_all(folder))
    except BaseException:
        _clean(folder, keep=existed)
        raise


def _check_free(folder: Path) -> bool:
    """Whether the folder exists (and is empty)."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise LLMApplicationError(f"{folder} is a file; give the name of a new folder")
    if found := sorted(path.name for path in folder.iterdir()):
        raise LLMApplicationError(
            f"the folder {folder} is not empty (it holds {', '.join(found[:3])}"
            f"{' ...' if len(found) > 3 else ''}) and nothing is overwritten: name a new one"
        )
    return True


def _copy_all(folder: Path) -> Iterator[str]:
    for name, source in _files(resources.files(__package__).joinpath("starter_data")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        yield name


def _files(folder: Traversable, below: str = "") -> Iterator[tuple[str, Traversable]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_file():
            yield below + item.name, item
        elif item.name != "__pycache__":
            yield from _files(item, f"{below}{item.name}/")


def _clean(folder: Path, *, keep: bool) -> None:
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
