"""How a running batch is seen outside notebooks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from aitoolman._batch import progress
from aitoolman._batch.progress import Snapshot, open_progress
from aitoolman._batch.words import clock, count, money, plural

from ..fake_process import FakeLLMProcess
from .killing import command, environment, write_project

NOW = Snapshot(
    done=1200, total=5000, failed=3, tokens=45_000, cost=1.5, attempts=1210, limit=20, active=22,
    seconds=60.0, asked=600, to_ask=3000,
)  # fmt: skip


def test_a_line_says_everything():
    """Rows, rate, time left, failures, attempts, tokens, cost, limit."""
    assert NOW.line() == (
        "1,200 of 5,000 rows, 10.0 rows/s, 5 min 0 s left; 3 failed, 1,210 attempts,"
        " 45,000 tokens, cost 1.50, 20 of 20 under way"
    )


def test_what_is_unknown_is_not_guessed():
    """No length, no price, no rate."""
    line = NOW._replace(total=None, to_ask=None, cost=None, seconds=0.0).line()
    assert line.startswith("1,200 of ? rows, 0.0 rows/s; ")
    assert "cost unknown" in line


def test_what_the_ledger_gives_is_no_speed():
    """After a resume, rate and time left are those of the rows that a model answers."""
    now = NOW._replace(done=4990, asked=60, to_ask=10)
    assert now.line().startswith("4,990 of 5,000 rows, 1.0 rows/s, 10 s left; ")
    assert " left" not in NOW._replace(asked=0).line()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (60, "1 min 0 s"),
     (3599, "59 min 59 s"), (3600, "1 h 0 min"), (49_980, "13 h 53 min")],
)  # fmt: skip
def test_times_are_written_for_people(seconds, text):
    """From tenths of a second to days."""
    assert clock(seconds) == text


def test_numbers_are_written_for_people():
    """Unknown is a word, small sums keep digits that count."""
    assert [money(m) for m in (None, 0, 0.00012345, 0.000001, 12.345, 1234.5)] == [
        "unknown", "0.00", "0.000123", "1.00e-06", "12.35", "1,234.50",
    ]  # fmt: skip
    assert (count(None), count(49_999.6)) == ("unknown", "50,000")
    assert (plural(1, "row"), plural(2000, "row")) == ("1 row", "2,000 rows")


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    """Where nothing can be redrawn; a short run says nothing."""
    bar = open_progress(True, NOW, None)
    bar.show(NOW)
    bar.close("done")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    bar = open_progress(True, NOW, None)
    bar.show(NOW)
    bar.close("done")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"aitoolman batch: {NOW.line()}", "aitoolman batch: done"]


def test_no_progress_is_silent(capsys):
    """As asked."""
    bar = open_progress(False, NOW, None)
    bar.show(NOW)
    bar.close("done")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_one_bar(tmp_path):
    """With rows, rate and details, in a real pseudo-terminal."""
    with FakeLLMProcess("--delay", "0.02") as fake:
        write_project(tmp_path, fake, 600)
        words = [word for word in command("-o", "out.csv") if word != "-q"]
        main, other = pty.openpty()
        process = subprocess.Popen(
            words, cwd=tmp_path, env=environment(), stderr=other, stdout=subprocess.DEVNULL
        )
        os.close(other)
        seen = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        os.close(main)
        assert process.wait(15) == 0
    text = seen.decode()
    assert "/600 [" in text
    assert "attempts" in text
    assert sys.executable not in text
