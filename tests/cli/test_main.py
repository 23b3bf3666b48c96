"""The command line itself: help, unknown commands, and how failures and interrupts end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import aitoolman
from aitoolman._cli.main import COMMANDS, main
from aitoolman._ledger.schema import open_ledger

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, **kwargs):
    """The command in a process of its own; a warning there is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "aitoolman", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=15,
        **kwargs,
    )


def test_the_version_is_printed():
    """Both as a module and as a script it is this version."""
    assert run("--version").stdout == f"aitoolman {aitoolman.__version__}\n"


def test_without_a_command_the_help_lists_them_all(capsys):
    """Each command stands there with what it does."""
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert name in out
        assert text in out


@pytest.mark.parametrize("command", ["demo", "init"])
def test_each_command_has_help(command, capsys):
    """It comes from the command's own parser."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: aitoolman {command}" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys):
    """A mistyped command is exit code 2 and one line."""
    assert main(["dmeo"]) == 2
    assert "did you mean 'demo'?" in capsys.readouterr().err


def test_a_failure_is_one_line_and_exit_code_1(tmp_path):
    """No traceback; stdout stays clean."""
    file = tmp_path / "file"
    file.touch()
    done = run("init", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"aitoolman: {file} is a file; give the name of a new folder\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """`aitoolman ... | head -1` prints nothing about pipes."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "aitoolman", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=15,
    )
    os.close(write)
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_with_one_line_and_the_shells_exit_code(tmp_path):
    """Also while the model is being fetched, of which nothing stays."""
    environ = os.environ | {
        "AITOOLMAN_CACHE_DIR": str(tmp_path),
        "PIP_INDEX_URL": "http://10.255.255.1/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONWARNINGS": "error",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "aitoolman", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environ,
    )
    end = time.monotonic() + 15
    while not list(tmp_path.glob("models/.fetch-*/*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no download began"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "aitoolman: interrupted"
    assert "Traceback" not in err
    assert [p.name for p in (tmp_path / "models").iterdir()] == [".lock"]


def test_a_ledger_is_looked_for_where_commands_keep_it(tmp_path, monkeypatch, capsys):
    """Beside the project's provider file, then here; where it is nowhere, both places are named."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "llm_config.toml").write_text('[api.m]\nurl = "http://h"\nmodel = "m"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "ls"]) == 1
    said = capsys.readouterr().err
    assert "no ledger at config/.aitoolman/ledger.db nor at .aitoolman/ledger.db" in said
    assert "--path" in said
    for place in (tmp_path, tmp_path / "config"):  # the later one is the likelier
        open_ledger(place / ".aitoolman" / "ledger.db").close()
        assert main(["ledger", "verify"]) == 0
        told = capsys.readouterr().out
        assert told.startswith(str((place / ".aitoolman").relative_to(tmp_path)))


def test_a_slip_in_demo_is_recognized():
    """Whoever writes connect("dmo") is told of "demo", and not of a file alone."""
    with pytest.raises(FileNotFoundError, match="did you mean 'demo'"):
        aitoolman.connect("dmo")
