"""A notebook without its kernel: run by a program, saved, exported."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from ..vendors.reply import Reply
from .conftest import CANARY, write_project
from .kernels import ROOT
from .lab import notebook_file

pytestmark = pytest.mark.timeout(60)

LOAD = "%load_ext aitoolman\napp = %llm_config llm.toml prompts.toml\napp"


@pytest.fixture
def notebook(tmp_path, fake_llm, monkeypatch):
    """A notebook with an overview, a streamed answer and its result, run as nbclient does."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    write_project(tmp_path, fake_llm)
    text = "It **is** so: a < b\n\n<script>alert(1)</script>"
    fake_llm.script(Reply(text, reasoning="Let me think.", chunk_delay=0.01))
    notebook_file(tmp_path / "n.ipynb", LOAD, "%%aitoolman summary -o r\nx", "r")
    read = nbformat.read(tmp_path / "n.ipynb", as_version=4)
    client = NotebookClient(read, timeout=40, resources={"metadata": {"path": str(tmp_path)}})
    return client.execute()


def test_a_program_runs_a_notebook_and_it_is_saved_static(notebook):
    """One output per cell, text and Markdown alone; no key, and the answer in both."""
    [output] = notebook.cells[1].outputs
    assert set(output.data) == {"text/plain", "text/markdown"}
    assert output.data["text/plain"].startswith("It **is** so")
    assert CANARY not in nbformat.writes(notebook)


@pytest.mark.parametrize(
    ("exporter", "answer"),
    [(HTMLExporter, "It <strong>is</strong> so"), (MarkdownExporter, "It **is** so")],
    ids=["html", "markdown"],
)
def test_an_export_holds_answer_and_reasoning(notebook, exporter, answer):
    """The reasoning folded, the answer below it, and nothing of them a script."""
    text, _ = exporter().from_notebook_node(notebook)
    fold = text.index("<details>")
    assert fold < text.index("Let me think.") < text.index(answer, fold)
    assert "<script>alert" not in text
    assert CANARY not in text
