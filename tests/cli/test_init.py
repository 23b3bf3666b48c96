"""The starter project: whole, only where nothing is in the way, and running at once."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import aitoolman
from aitoolman._application.app import LLMApplication
from aitoolman._cli.init import write_starter
from aitoolman._cli.main import main

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = {
    "README.md",
    "requirements.txt",
    "tickets.csv",
    "config/llm_config.toml",
    "config/app_prompt.toml",
    "src/__init__.py",
    "src/main.py",
    "src/processors.py",
    "src/workflows.py",
    "notebooks/first_steps.ipynb",
}


def files_below(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_new_folder_gets_the_whole_layout(tmp_path, capsys):
    """All files are there, each is named, and the next step is told."""
    folder = tmp_path / "deep" / "my_app"
    assert main(["init", str(folder)]) == 0
    assert files_below(folder) == LAYOUT
    out = capsys.readouterr().out
    assert all(str(folder / name) in out for name in LAYOUT)
    assert "python src/main.py" in out


def test_an_empty_folder_is_fine(tmp_path):
    """`mkdir app && cd app && aitoolman init .` is a usual way to begin."""
    assert set(write_starter(tmp_path)) == LAYOUT


def test_a_folder_with_anything_in_it_stays_as_it_is(tmp_path, capsys):
    """Nothing is overwritten, not even beside a hidden file."""
    (tmp_path / ".env").write_text("KEY=1")
    assert main(["init", str(tmp_path)]) == 1
    assert "not empty (it holds .env)" in capsys.readouterr().err
    assert files_below(tmp_path) == {".env"}


@pytest.mark.parametrize("exists", [True, False], ids=["empty folder", "new folder"])
def test_a_full_disk_leaves_what_was_there_before(tmp_path, exists):
    """Half a project is worse than none."""
    folder = tmp_path / "app"
    if exists:
        folder.mkdir()
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "from aitoolman._cli.main import main\n"
        "sys.exit(main(['init', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=15,
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert folder.exists() is exists
    assert not exists or files_below(folder) == set()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_both_configuration_files_are_sound(tmp_path):
    """They are checked as a whole when client and application are built."""
    write_starter(tmp_path)
    client = aitoolman.connect(tmp_path / "config" / "llm_config.toml")
    app = LLMApplication(client, aitoolman.load_config(tmp_path / "config" / "app_prompt.toml"))
    prompt = app["ticket_classifier"].render(text="Where is my invoice?")
    assert prompt[-1].content == "Where is my invoice?"
    assert len(prompt) > 8


@pytest.mark.model
@pytest.mark.timeout(120)
def test_the_program_runs_at_once_on_the_embedded_model(tmp_path, run_script):
    """From another working directory, too, with every warning an error."""
    write_starter(tmp_path / "app")
    done = run_script(tmp_path / "app" / "src" / "main.py", timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] in ("billing", "bug", "login", "question") for line in lines[:4]]
    assert lines[-1].startswith("The workflow ended with ")


@pytest.mark.model
@pytest.mark.timeout(120)
def test_the_commands_work_in_a_new_project(tmp_path, monkeypatch):
    """As its README says them: doctor, client, batch, and the ledger of that batch."""
    write_starter(tmp_path)
    monkeypatch.chdir(tmp_path)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in readme.splitlines() if line.startswith("    ")]
    commands = [line for line in lines if "aitoolman " in line]
    assert len(commands) == 4
    for line in commands:
        bin_ = Path(sys.executable).parent
        done = subprocess.run(
            line, shell=True, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stderr)
    answers = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert len(answers) == 1 + len((tmp_path / "tickets.csv").read_text().splitlines()[1:])


@pytest.mark.model
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_from_its_folder_with_one_output_for_each_cell(tmp_path):
    """In a real kernel, with the magics: a streamed answer is one output, as every other is."""
    write_starter(tmp_path)
    notebook = nbformat.read(tmp_path / "notebooks" / "first_steps.ipynb", 4)
    place = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=90, resources=place).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(len(cell.outputs) <= 1 for cell in code)
    text = "".join(cell.source for cell in code)
    assert all(magic in text for magic in ("%load_ext", "%llm_config", "%%llm_module", "%llm_log"))
