"""JupyterLab in a real browser: streaming, Stop, interrupt, --try, steps, saved and reopened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ..vendors.reply import Reply
from .conftest import CANARY, write_project
from .lab import INSTALL, RUN_ALL, Lab, browser_path, chromium, notebook_file

pytestmark = pytest.mark.timeout(120)

THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
LOAD = "%load_ext aitoolman\nimport aitoolman\napp = %llm_config llm.toml prompts.toml\napp"
THOUGHT = "The customer was charged twice. That is about money, so the label is billing. " * 6
ANSWER = (
    "The ticket belongs to **billing**:\n\n- charged twice in March\n- wants *one* payment back\n\n"
    "```python\nif a < b: print('refund')\n```\n"
)
ROWS = (
    "rows = [{'t': 'charged twice', 'right': 'billing'}, {'t': 'cannot log in', 'right': 'login'},"
    " {'t': 'app crashes', 'right': 'bug'}, {'t': 'refund please', 'right': 'billing'}]"
)
STEPS = """class Draft(aitoolman.LLMTask):
    async def post_process(self, result):
        self.next_task = aitoolman.LLMTask(
            aitoolman.LLMModuleRequest("translate", {"text": result.text, "language": "German"}))
flow = app.workflow()
start = Draft(aitoolman.LLMModuleRequest("summary", {"text": "a long report"}))
run = flow.debug(start)
first = await run.step()
first"""


def answer(seen):
    text = seen.last_text
    if "German" in text:
        return Reply("Kurz gesagt: gut.", chunk_delay=0.02)
    if "stop me" in text or "interrupt me" in text:
        return Reply("never ending words " * 3000, chunk_delay=0.01)
    if text.startswith("Summarise"):
        return Reply(ANSWER, reasoning=THOUGHT, chunk_delay=0.02)
    wanted = {"charged": "billing", "log in": "login", "crash": "bug", "refund": "refund"}
    return next((label for word, label in wanted.items() if word in text), "other")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if browser_path() is None:
        text = f"no Chromium: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    folder = tmp_path_factory.mktemp("lab")
    (folder / "work").mkdir()
    server = Lab(folder / "work", folder, {"CANARY_KEY": CANARY})
    server.root = folder / "work"
    yield server
    server.stop()
    assert CANARY not in (folder / "lab.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def page(lab, browser, fake_llm):
    fake_llm.script(answer)
    write_project(lab.root, fake_llm)
    opened = browser.new_page(viewport={"width": 1150, "height": 1400})
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


def run_all(page):
    page.evaluate(RUN_ALL)


def finished(page):
    page.wait_for_function("() => window.runDone")
    return page.evaluate("window.runDone")


def shot(page, name, cell=None):
    """Keep a picture where `SHOTS_FOLDER` says: of the page, or of one cell in both themes."""
    folder = os.environ.get("SHOTS_FOLDER")
    if folder and cell is None:
        page.wait_for_timeout(300)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
    for theme in ("Dark", "Light") if folder and cell is not None else ():
        page.evaluate(THEME, f"JupyterLab {theme}")
        page.wait_for_timeout(500)
        picture = page.locator(".jp-Notebook > * .jp-Cell, .jp-Notebook > .jp-Cell").nth(cell)
        picture.scroll_into_view_if_needed()
        picture.screenshot(path=str(Path(folder) / f"{name}-{theme}.png"))


def saved(page, lab, name):
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    text = (lab.root / name).read_text()
    assert CANARY not in text
    return json.loads(text)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_grows_in_the_page_and_outlives_the_kernel(lab, page, theme):
    """Streams while [*] shows; saved; reopened without a kernel, the answer is there to read."""
    name = f"live-{theme}.ipynb"
    notebook_file(lab.root / name, LOAD, "%%aitoolman summary -o r\nTicket: charged twice!", "r")
    lab.theme(theme)
    lab.open(page, name)
    run_all(page)
    page.wait_for_selector(".aitoolman-text")
    length = len(page.inner_text(".aitoolman-view"))
    page.wait_for_function(
        "n => document.querySelector('.aitoolman-view').innerText.length > n + 100", arg=length
    )
    assert page.locator(".aitoolman-view button").is_visible()
    shot(page, f"streaming-{theme}")
    assert finished(page) == {"ok": True}
    assert page.locator(".aitoolman-view").count() == 0
    shot(page, f"finished-{theme}")
    if theme == "Light":
        for index, what in enumerate(("overview", "answer", "result")):
            shot(page, what, index)
    notebook = saved(page, lab, name)
    [output] = notebook["cells"][1]["outputs"]
    assert set(output["data"]) == {"text/plain", "text/markdown"}
    lab.open(page, name, kernel=False)
    page.wait_for_selector("details summary >> text=reasoning")
    shown = page.locator(".jp-RenderedMarkdown").first
    assert "The ticket belongs to billing" in shown.inner_text()
    assert shown.locator("strong").first.inner_text() == "billing"
    assert "if a < b: print('refund')" in shown.locator("pre").inner_text()
    shown.locator("summary").first.click()
    assert "That is about money" in shown.inner_text()


def test_stop_and_interrupt_in_the_page(lab, page, fake_llm):
    """The button and the toolbar end the request; what had come is kept; the next cell runs."""
    notebook_file(lab.root / "stop.ipynb", LOAD, "%%aitoolman summary\nstop me")
    lab.open(page, "stop.ipynb")
    run_all(page)
    page.wait_for_function(
        "() => document.querySelector('.aitoolman-text')?.innerText.length > 200"
    )
    page.locator(".aitoolman-view button").click()
    fake_llm.wait_for(lambda s: s.open_requests == 0 and s.requests_seen)
    page.wait_for_selector("text=Interrupted: stopped")
    page.locator(".jp-RenderedMarkdown", has_text="never ending words").wait_for()
    finished(page)
    shot(page, "stopped", 1)
    page.evaluate(
        "jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel"
        ".setSource('%%aitoolman summary\\ninterrupt me')"
    )
    run_all(page)
    fake_llm.wait_for(lambda s: s.open_requests == 1, timeout=20)
    page.wait_for_function(
        "() => document.querySelector('.aitoolman-text')?.innerText.length > 200"
    )
    page.locator("[data-command='notebook:interrupt-kernel']").click()
    fake_llm.wait_for(lambda s: s.open_requests == 0)
    page.wait_for_selector("text=Interrupted: interrupted")


def test_notebook_7_shows_the_same(browser, fake_llm, tmp_path):
    """The other front end: text grows, Stop ends it, static text stays."""
    fake_llm.script(answer)
    root = tmp_path / "work"
    root.mkdir()
    write_project(root, fake_llm)
    notebook_file(root / "n.ipynb", LOAD, "%%aitoolman summary\nok", "%%aitoolman summary\nstop me")
    server = Lab(root, tmp_path, {"CANARY_KEY": CANARY}, classic=True)
    page = browser.new_page(viewport={"width": 1000, "height": 1000})
    page.set_default_timeout(20_000)
    try:
        server.open(page, "n.ipynb")
        run_all(page)
        page.locator(".jp-RenderedMarkdown", has_text="The ticket belongs to").wait_for()
        page.wait_for_function(
            "() => document.querySelector('.aitoolman-text')?.innerText.includes('never ending')"
        )
        shot(page, "notebook-7")
        page.locator(".aitoolman-view button").click()
        fake_llm.wait_for(lambda s: s.open_requests == 0)
        page.wait_for_selector("text=Interrupted: stopped")
    finally:
        page.close()
        server.stop()


def test_a_trial_and_a_workflow_stepped(lab, page):
    """`--try` marks what flipped; a step shows what was sent and what came back."""
    notebook_file(
        lab.root / "try.ipynb",
        LOAD,
        ROWS,
        "%%llm_module label --try rows --label right\n{{ t }}",
        "%%llm_module label --try rows --label right\nLabel: {{ t.replace('refund', 'charged') }}",
        STEPS,
        "await run.finish()\nrun",
    )
    lab.open(page, "try.ipynb")
    run_all(page)
    assert finished(page) == {"ok": True}
    assert page.locator("text=accuracy 75% → 100%").first.is_visible()
    for index, what in ((2, "first-try"), (3, "try"), (4, "step"), (5, "steps")):
        shot(page, what, index)
    notebook = saved(page, lab, "try.ipynb")
    assert "Kurz gesagt" in json.dumps(notebook["cells"][5])
