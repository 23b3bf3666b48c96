"""Takes the README's picture of a notebook: ``python -m tests.notebook.screenshot``.

A real JupyterLab and a real browser; the vendor is the scripted one of the tests.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from ..fake_llm import FakeLLM, Reply, SeenRequest
from .kernels import ROOT
from .lab import RUN_ALL, Lab, chromium, notebook_file

TARGET = ROOT / "docs" / "images" / "notebook.png"

PROVIDER = """
[default]
parallel = 4
[api."Sonnet"]
url = "{url}"
model = "sonnet-4"
api_key = "${{API_KEY}}"
[model_alias]
"Good-Model" = "Sonnet"
"""
PROMPTS = """
[module_default]
model = "Good-Model"
[module.advise]
description = "What to do with a ticket"
template.user = "{{ ticket }}"
"""
SETUP = (
    "%load_ext aitoolman\n"
    "app = %llm_config llm_config.toml app_prompt.toml\n"
    "tickets = [\n"
    "    {'text': 'Charged twice in March', 'label': 'billing'},\n"
    "    {'text': 'My password is refused', 'label': 'login'},\n"
    "    {'text': 'Can I have my money back?', 'label': 'billing'},\n"
    "    {'text': 'The app closes by itself', 'label': 'bug'},\n"
    "]"
)
FIRST = "%%llm_module ticket --try tickets --label label\nLabel this ticket: {{ text }}"
TRY = (
    "%%llm_module ticket --try tickets --label label\n"
    "Label this ticket: billing, login or bug. Refunds are billing.\n\n{{ text }}"
)
RUN = "%%aitoolman advise -o advice\nA customer was charged twice in March and wants to leave."
THOUGHT = (
    "Charged twice: that is our mistake, so one payment goes back at once. The customer wants to"
    " leave, so the agent should apologise first, and sell nothing. Is there anything else in the"
    " message? No complaint about the product. So: apologise, refund, confirm. "
) * 3


def answer(seen: SeenRequest) -> Reply:
    text = seen.last_text
    if text.startswith("A customer"):
        return Reply("Apologise first.", reasoning=THOUGHT, chunk_delay=0.03)
    known = {"Charged": "billing", "password": "login", "closes": "bug"}
    word = next((label for key, label in known.items() if key in text), "")
    return Reply(word or ("billing" if "Refunds are" in text else "other"))


def main() -> None:
    """Write the picture."""
    server = FakeLLM().start()
    server.script(answer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "work"
        root.mkdir()
        (root / "llm_config.toml").write_text(PROVIDER.format(url=server.openai_url))
        (root / "app_prompt.toml").write_text(PROMPTS)
        notebook_file(root / "tickets.ipynb", SETUP, FIRST, TRY, RUN)
        lab = Lab(root, folder, {"API_KEY": "sk-none"})
        try:
            _save(lab)
        finally:
            lab.stop()
            server.stop()


def _save(lab: Lab) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 900, "height": 900}, device_scale_factor=1.5)
        page.set_default_timeout(30_000)
        lab.open(page, "tickets.ipynb")
        page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
        page.evaluate(RUN_ALL)
        page.wait_for_function(
            "() => document.querySelector('.aitoolman-view')?.innerText.length > 250"
        )
        # The first try scrolls out of the picture: its table is in the next one, too.
        page.evaluate("document.querySelectorAll('.jp-Cell')[1].style.display = 'none'")
        page.mouse.move(5, 5)
        panel = page.locator(".jp-NotebookPanel-notebook").bounding_box()
        last = page.locator(".aitoolman-view").bounding_box()
        height = last["y"] + last["height"] + 12 - panel["y"]
        clip = {"x": panel["x"], "y": panel["y"], "width": panel["width"], "height": height}
        _write(page.screenshot(clip=clip))


def _write(png: bytes) -> None:
    from PIL import Image

    TARGET.parent.mkdir(exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(96)
    picture.save(TARGET, optimize=True)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
