"""``aitoolman batch``: files in, files out, exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aitoolman._cli.main import main
from aitoolman._cli.tables import read_rows, write_rows

from ..vendors.reply import Reply

ROWS = [{"id": "007", "body": "one, two"}, {"id": "x", "body": 'with "quotes"\nand lines'}]


@pytest.fixture
def project(tmp_path, fake_llm):
    """Configuration, prompts and rows in every format, in the working directory."""
    (tmp_path / "llm.toml").write_text(
        f'[default]\nmax_retries = 0\n[api.fast]\nurl = "{fake_llm.openai_url}"\nmodel = "m"\n'
        "price = { input = 1.0, output = 1.0 }\n"
    )
    (tmp_path / "prompts.toml").write_text(
        '[module.ask]\nmodel = "fast"\ntemplate.user = "{{ text }}"\n'
        '[module.own]\nmodel = "fast"\npost_processor = "p"\ntemplate.user = "{{ text }}"\n'
    )
    for suffix in (".csv", ".tsv", ".jsonl"):
        write_rows(ROWS, tmp_path / f"in{suffix}")
    write_rows(pa.Table.from_pylist(ROWS), tmp_path / "in.parquet")
    return tmp_path


def batch(*words):
    base = "batch -c llm.toml -p prompts.toml -m ask --columns text=body -q".split()
    return main([*base, *map(str, words)])


def exit_code(*words):
    try:
        return batch(*words)
    except SystemExit as exc:  # argparse ends so
        return exc.code


def rows_of(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return read_rows(path, as_table=False)


@pytest.mark.parametrize("source", ["in.csv", "in.tsv", "in.jsonl", "in.parquet"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_in_and_out(project, source, suffix):
    """Cells come back as they were; quotes, commas and lines survive."""
    out = project / f"out{suffix}"
    assert batch(source, "-o", out) == 0
    found = rows_of(out)
    assert [{k: row[k] for k in ("id", "body")} for row in found] == ROWS
    assert [row["ask"] for row in found] == [row["body"] for row in ROWS]
    assert [row["status"] for row in found] == ["stop", "stop"]


def test_the_plan_is_shown_and_nothing_is_sent(project, fake_llm, capsys):
    """No output file is needed for it."""
    assert batch("in.csv", "--plan") == 0
    assert "2 to send" in capsys.readouterr().out
    assert not fake_llm.requests


def test_failed_rows_give_exit_code_3_and_a_whole_file(project, fake_llm, capsys):
    """The reason stands in the file and in the summary."""
    fake_llm.script(lambda seen: Reply(status=400) if "one" in seen.last_text else "fine")
    assert batch("in.csv", "-o", "out.csv") == 3
    first, second = rows_of(project / "out.csv")
    assert (first["status"], second["ask"]) == ("error: request", "fine")
    assert "400" in first["error"]
    assert "failed       1" in capsys.readouterr().err


def test_a_run_that_ends_early_gives_exit_code_4_and_a_part(project, capsys):
    """The next one makes the whole of it, and the part goes away."""
    assert batch("in.csv", "-o", "out.csv", "--limit", 1) == 4
    assert not (project / "out.csv").exists()
    assert [row["status"] for row in rows_of(project / "out.partial.csv")] == ["stop", "pending"]
    assert batch("in.csv", "-o", "out.csv") == 0
    assert (project / "out.csv").exists()
    assert not (project / "out.partial.csv").exists()


def test_a_bad_key_is_one_sentence_and_a_part(project, fake_llm, capsys):
    """Exit code 4, no traceback."""
    fake_llm.script(lambda seen: Reply(status=401))
    assert batch("in.csv", "-o", "out.csv") == 4
    errors = capsys.readouterr().err
    assert "the vendor refuses the key" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["in.csv"], 2, "-o OUT"),
        (["in.xlsx", "-o", "o.csv"], 2, "must end in one of .csv"),
        (["in.csv", "-o", "o.csv", "--columns", "text"], 2, "is not NAME=VALUE"),
        (["none.csv", "-o", "o.csv"], 1, "none.csv"),
        (["in.csv", "-o", "o.csv", "--columns", "text=bodi"], 1, "no column 'bodi'"),
        (["in.csv", "-o", "o.csv", "-m", "aks"], 1, "no module 'aks'"),
        (["in.csv", "-o", "o.csv", "-c", "none.toml"], 1, "none.toml"),
        (["in.csv", "-o", "o.csv", "-m", "own", "--processors", "p=no_such:f"], 1, "no_such"),
        (["broken.jsonl", "-o", "o.csv"], 1, "line 2"),
        (["ragged.csv", "-o", "o.csv"], 1, "line 3 has 1 cells"),
        (["twice.csv", "-o", "o.csv"], 1, "same name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_named_before_anything_is_sent(project, fake_llm, capsys, words, code, said):
    """Exit code 2 for a wrong call, 1 for what cannot start."""
    (project / "broken.jsonl").write_text('{"body": "a"}\n{"body": \n')
    (project / "ragged.csv").write_text("id,body\n1,a\n2\n")
    (project / "twice.csv").write_text("body,body\n1,a\n")
    assert exit_code(*words) == code
    assert said in capsys.readouterr().err
    assert not fake_llm.requests
    assert not (project / "o.csv").exists()


def test_own_processors_are_found_beside_the_files(project):
    """``--processors NAME=MODULE:FUNCTION``."""
    (project / "my_batch_functions.py").write_text(
        "def shout(text):\n    return {'loud': text.upper(), 'parts': text.split()}\n"
    )
    assert batch("in.csv", "-o", "out.csv", "-m", "own",
                 "--processors", "p=my_batch_functions:shout") == 0  # fmt: skip
    first, _ = rows_of(project / "out.csv")
    assert first["loud"] == "ONE, TWO"
    assert json.loads(first["parts"]) == ["one,", "two"]


def test_empty_cells_are_missing_and_left_out(project, fake_llm):
    """No text "nan" or "None" reaches a model."""
    (project / "gaps.csv").write_text("id,body\n1,\n2,x\n")
    assert batch("gaps.csv", "-o", "out.csv") == 0
    assert [row["status"] for row in rows_of(project / "out.csv")] == ["skipped", "stop"]
    assert [seen.last_text for seen in fake_llm.requests] == ["x"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """All or nothing."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")

    def rows():
        raise OSError("the disk is full")

    class Broken(list):
        def __iter__(self):
            rows()

    with pytest.raises(OSError, match="full"):
        write_rows(Broken([{}]), target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_csv_without_rows_is_no_error(project):
    """Nothing to do is done."""
    (project / "empty.csv").write_text("id,body\n")
    assert batch("empty.csv", "-o", "out.csv") == 0


def test_the_command_works_as_the_documentation_prints_it(project):
    """In a process of its own, with progress."""
    words = "batch -c llm.toml -p prompts.toml -m ask --columns text=body in.csv -o out.csv"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "aitoolman", *words.split()],
        capture_output=True, text=True, timeout=15, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "written to out.csv" in done.stderr
    with (project / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
