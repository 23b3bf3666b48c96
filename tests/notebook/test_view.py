"""What is shown: static and readable in the end, safe for any text, cheap however long."""

from __future__ import annotations

import asyncio
import html.parser
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman import LLMModuleResult, MediaContent, Message, TextFragmentChannel
from aitoolman._notebook import pages
from aitoolman._notebook.collector import NotebookChannelCollector
from aitoolman._notebook.markdown import MAX_REASONING, answer_markdown, fold, safe_markdown
from aitoolman._notebook.view import Section, bundle

from ..vendors.reply import Reply
from .conftest import CANARY

OURS = {"pre", "code", "span"}
PIECES = """<script>alert(1)</script> </details> <img\tsrc=x\tonerror=y> ``` ~~~ ` `` < > \\ \\` |
# ![a](http://evil/x.png) ![a][b] $5 $x^2$ &lt; </pre> </code> text <!-- --> &#60;b>""".split(" ")
NASTY = st.lists(
    st.sampled_from([*PIECES, "\n", "\n\n", "    ", "- "]) | st.text(max_size=8), max_size=14
).map("".join)


class Tags(html.parser.HTMLParser):
    """The tags that stand in a text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)

    def handle_endtag(self, tag):
        self.found.add(tag)

    def handle_comment(self, data):
        self.found.add("!--")

    def handle_data(self, data):
        self.text += data


@given(NASTY)
def test_no_tag_of_the_model_reaches_a_page(text):
    """Whatever a renderer takes for code: the only markup is ours, and no picture is fetched."""
    for shown in (safe_markdown(text), answer_markdown(text)):
        assert Tags(shown).found <= OURS
        assert "![" not in re.sub(r"<pre.*?</pre>", "", shown, flags=re.S)


@given(NASTY)
def test_code_blocks_keep_every_character(text):
    """Data is shown as it stands."""
    shown = answer_markdown("{" + text)
    assert Tags(shown).text.strip() == ("{" + text).rstrip("\n").strip()


@given(NASTY)
def test_reasoning_cannot_leave_its_fold(text):
    """One fold is opened, and closed by us alone."""
    shown = fold("reasoning", safe_markdown(text))
    assert shown.count("<details>") == shown.count("</details>") == 1
    assert shown.endswith("\n\n</details>\n\n")


def test_markdown_is_kept_and_lines_stay_lines():
    """Emphasis, lists, code and line ends look as the model meant them."""
    shown = safe_markdown(
        "**bold** and `a < b`\nnext\n\n- one\n- two\n\n```py\nif a < b:\n\n  x\n```\nend $5"
    )
    assert "**bold** and <code>a &lt; b</code>  \nnext" in shown
    assert "- one  \n- two" in shown
    assert Tags(shown).text.count("if a < b:\n\n  x") == 1
    assert "\n\n  x" not in shown  # a blank line would end the block
    assert "<span>$</span>5" in shown


def test_long_reasoning_is_cut_and_says_so():
    """The saved notebook keeps 20,000 characters of it; the answer is kept whole."""
    sections = [
        Section("reasoning", True, ["r" * (MAX_REASONING + 5)]),
        Section("answer", parts=["a" * 50_000]),
    ]
    data = bundle(sections)
    assert "(5 characters more)" in data["text/markdown"]
    assert data["text/plain"] == "a" * 50_000


def test_several_channels_keep_their_names():
    """One answer split by tags: each part under its own name, in both forms."""
    data = bundle([Section("status", parts=["ok"]), Section("customer", parts=["Dear you"])], "1 s")
    assert data["text/plain"] == "[status]\nok\n\n[customer]\nDear you"
    assert "**status**" in data["text/markdown"]
    assert "1 s" in data["text/markdown"]


def test_a_channel_that_said_only_blanks_is_left_out():
    """What lies between the tags of an answer is no section of its own."""
    data = bundle([Section("stdout", parts=["\n", "\n "]), Section("customer", parts=["Dear you"])])
    assert data["text/plain"] == "Dear you"
    assert "stdout" not in data["text/markdown"]


def test_reasoning_stands_above_the_answer():
    """Whatever the order of the channels, and also below a picture."""
    from aitoolman._notebook.picture import Picture

    sections = [Section("stdout", parts=["Yes."]), Section("reasoning", True, ["Hm."])]
    shown = bundle(sections)["text/markdown"]
    assert shown.index("Hm.") < shown.index("Yes.")
    history = type("History", (), {"on_change": [], "_repr_html_": lambda self: "steps"})()
    source = type("Flow", (), {"history": history, "svg": lambda self: "<svg>"})()
    page = Picture(source, history).with_texts(sections, None)["text/html"]
    assert page.index("Hm.") < page.index("Yes.")
    assert "<details" in page


def test_nothing_said_is_said():
    """An empty answer leaves a readable cell."""
    assert bundle([Section("answer")])["text/plain"] == "(no text)"


def a_result(**values):
    from aitoolman import LLMDirectRequest

    request = LLMDirectRequest("m", [Message("user", "<b>hi</b>")])
    return LLMModuleResult("m", "mod", request, **values)


@given(NASTY)
def test_pages_escape_every_text(text):
    """Results, messages and errors: the same tags come out whatever the text is."""
    plain = Tags(
        pages.result_page(a_result(response_text="x", response_reasoning="x", data="x"))
    ).found
    nasty = pages.result_page(
        a_result(response_text=text + "x", response_reasoning=text + "x", data=text + "x")
    )
    assert Tags(nasty).found <= plain
    assert (
        Tags(pages.message_page(Message("user", text))).found
        <= Tags(pages.message_page(Message("user", "x"))).found
    )


def test_a_small_picture_is_shown_and_a_remote_one_is_not_fetched(tmp_path):
    """Thumbnails of local pictures; a URL is only named."""
    png = bytes.fromhex("89504e470d0a1a0a") + b"0" * 20
    (tmp_path / "a.png").write_bytes(png)
    for media in (
        MediaContent("image", data=png, mime_type="image/png"),
        MediaContent("image", filename=str(tmp_path / "a.png")),
    ):
        assert "data:image/png;base64," in pages.media_page(media)
    assert "<img" not in pages.media_page(MediaContent("image", url="http://evil/x.png"))
    big = MediaContent("image", data=b"0" * 300_000, mime_type="image/png")
    assert "<img" not in pages.media_page(big)
    odd = MediaContent("image", data=b"<svg onload=x>", mime_type="image/svg+xml")
    assert "<img" not in pages.media_page(odd)


def test_importing_the_collector_loads_no_ipython():
    """The public name can be imported anywhere."""
    import subprocess

    code = (
        "import aitoolman, sys; aitoolman.NotebookChannelCollector, aitoolman.enable_nested_loops;"
        "print([m for m in ('IPython', 'ipywidgets', 'ipykernel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Recording:
    """A view that keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.final: dict[str, str] = {}
        self.changed = asyncio.Event()

    async def until(self, *call):
        while call not in self.calls:
            self.changed.clear()
            await self.changed.wait()

    def open(self):
        self.calls.append(("open", ""))

    def add(self, section, text):
        self.calls.append((section.name, text))
        self.changed.set()

    def end(self, section):
        self.calls.append(("end", section.name))

    def status(self, text):
        pass

    def picture(self, html):
        pass

    def finish(self, final):
        self.final = final


async def listen(monkeypatch, write, **channels):
    view = Recording()
    monkeypatch.setattr("aitoolman._notebook.collector.make_view", lambda *_: view)
    collector = NotebookChannelCollector(channels)
    await write()
    collector.close()
    await collector.start_listening()
    return view


async def test_text_is_shown_in_few_updates_and_whole(monkeypatch):
    """Fragments are gathered; nothing is lost; messages of one channel are kept apart."""
    answer, thought = TextFragmentChannel(), TextFragmentChannel()

    async def write():
        for i in range(500):
            await thought.write(f"t{i} ")
        await thought.write(None)
        for text in ("one", None, "two", None):
            await answer.write(text)

    view = await listen(monkeypatch, write, reasoning=thought, answer=answer)
    assert view.final["text/plain"] == "one\n\ntwo"
    assert "reasoning (500 words" in view.final["text/markdown"]
    assert ("end", "reasoning") in view.calls
    assert len(view.calls) < 20


async def test_blanks_are_held_back_until_something_is_said(monkeypatch):
    """The live view opens no section for the line ends between tags."""
    view = Recording()
    monkeypatch.setattr("aitoolman._notebook.collector.make_view", lambda *_: view)
    between, customer = TextFragmentChannel(), TextFragmentChannel()
    collector = NotebookChannelCollector({"stdout": between, "customer": customer})
    listening = asyncio.create_task(collector.start_listening())
    await between.write("\n")
    await customer.write("Dear you")
    await view.until("customer", "Dear you")
    assert "stdout" not in dict(view.calls)
    await between.write("said")
    await view.until("stdout", "\nsaid")
    collector.close()
    await listening


VIEWS = {"display": {"AITOOLMAN_VIEW": "display"}, "static": {"AITOOLMAN_VIEW": "static"}}


@pytest.mark.parametrize("view", [*VIEWS, "no ipywidgets"])
def test_other_views_leave_the_same_output(kernel, fake_llm, view):
    """Without widgets, by choice or because they are missing: the cell ends as with them."""
    fake_llm.script(Reply("The answer.", reasoning="Hm.", chunk_delay=0.03))
    with_widgets = kernel.run("%%aitoolman summary\nx").shown[0]
    setting = (
        "import sys; ours = [m for m in sys.modules if m.startswith('ipywidgets')]\n"
        "kept = {m: sys.modules.pop(m) for m in ours}\n"
        "sys.modules['ipywidgets'] = None"
        if view == "no ipywidgets"
        else f"import os; os.environ['AITOOLMAN_VIEW'] = {view!r}"
    )
    kernel.run(setting)
    cell = kernel.run("%%aitoolman summary\nx")
    kernel.run(
        "import os, sys; os.environ.pop('AITOOLMAN_VIEW', None)\n"
        "if sys.modules.get('ipywidgets', 1) is None:\n"
        "    del sys.modules['ipywidgets']; sys.modules.update(kept)"
    )
    assert not any(o["type"] == "comm_open" for o in cell.outputs)
    [data] = cell.shown
    assert data["text/plain"] == with_widgets["text/plain"]
    strip = re.compile(r"( · queued)? \d+(\.\d+)? (s|tokens/s)")
    assert strip.sub("", data["text/markdown"]) == strip.sub("", with_widgets["text/markdown"])


def test_a_long_answer_costs_bytes_in_proportion(kernel, fake_llm):
    """Fifty thousand tokens: a few times the text itself goes to the page, and it ends at once."""
    kernel.run(
        "from aitoolman import TextFragmentChannel, NotebookChannelCollector\n"
        "import time\n"
        "async def stream(count):\n"
        "    channel = TextFragmentChannel()\n"
        "    collector = NotebookChannelCollector({'answer': channel})\n"
        "    task = asyncio.create_task(collector.start_listening())\n"
        "    for i in range(count):\n"
        "        channel.write_nowait(f'token{i % 10} ')\n"
        "        if i % 250 == 0: await asyncio.sleep(0.01)\n"
        "    began = time.monotonic()\n"
        "    channel.complete()\n"
        "    await task\n"
        "    return time.monotonic() - began"
    )
    cell = kernel.run("lag = await stream(50_000)")
    sent = sum(len(json.dumps(o)) for o in cell.outputs if o["type"].startswith("comm"))
    text = 50_000 * 7
    assert text < sent < 8 * text
    assert len(cell.shown[0]["text/plain"]) == text
    assert float(kernel.run("print(lag)").stream) < 1.0


def test_the_status_line_tells_what_is_waited_for(new_kernel, fake_llm):
    """Queued behind another call, then waiting for the first token, then how fast it comes."""
    kernel = new_kernel(parallel=1)
    fake_llm.script(lambda r: Reply("a b c d e f", delay=0.7, chunk_delay=0.1))
    kernel.run("first = asyncio.create_task(app['summary'](text='1')); await asyncio.sleep(0.1)")
    shown = repr(kernel.run("%%aitoolman summary\n2").outputs)
    for words in ("queued", "waiting for the first token", "tokens/s"):
        assert words in shown


def test_a_workflow_is_shown_while_it_runs_and_when_it_has_ended(kernel, fake_llm):
    """`show(flow)`: graph and steps live, static in the end; Stop names itself in place."""
    fake_llm.script("out")
    flow = (
        "flow = app.workflow()\n"
        "a = aitoolman.LLMTask(aitoolman.LLMModuleRequest('summary', {'text': 'x'}))\n"
        "b = aitoolman.LLMTask(aitoolman.LLMModuleRequest('summary', {}))\n"
        "flow.add_task(a, b)\n"
        "async with aitoolman.show(flow):\n    await flow.wait_tasks(b)"
    )
    [data] = kernel.run(flow).shown
    assert "<svg" in data["text/html"]
    assert data["text/plain"].count("COMPLETED") == 2
    fake_llm.script(Reply("late", delay=10))
    cell = kernel.start(flow)
    kernel.until(lambda: fake_llm.open_requests and kernel.button(cell))
    kernel.click(kernel.button(cell))
    kernel.finish(cell, ok=False)
    assert cell.ename == "Interrupted"
    assert "stopped" in cell.shown[0]["text/plain"]
    assert CANARY not in cell.everything


def test_one_program_text_shows_in_a_notebook_and_on_a_console(kernel, fake_llm, capfd):
    """`show(app)` picks the view of where it runs."""
    fake_llm.script(Reply("shown here", reasoning="Hm."))
    cell = kernel.run(
        "async with aitoolman.show(app):\n    r = await app['summary'](text='x', _stream=True)"
    )
    assert cell.shown[0]["text/plain"] == "shown here"
    assert "<details>" in cell.shown[0]["text/markdown"]
    cell = kernel.run(
        "with aitoolman.show(app):\n    r = app.sync['summary'](text='x', _stream=True)"
    )
    assert cell.shown[0]["text/plain"] == "shown here"


def test_an_answer_split_by_tags_has_a_section_for_each(kernel, fake_llm):
    """A module that writes through an XML filter: its channels, live and in the saved cell."""
    fake_llm.script("<status>checking</status><user>Dear you</user>rest")
    kernel.run(
        "from aitoolman import TextFragmentChannel as C, XmlTagToChannelFilter as F\n"
        "for n in ('status', 'user'): app.add_channel(n, C())\n"
        "tags = {n: app.channels[n] for n in ('status', 'user')}\n"
        "app.add_channel('split', F(app.channels['stdout'], tags))"
    )
    kernel.run("%%llm_module tagged\n+++\noutput_channel = 'split'\n+++\n{{ x }}")
    [data] = kernel.run("%%aitoolman tagged\nx").shown
    assert data["text/plain"] == "[stdout]\nrest\n\n[status]\nchecking\n\n[user]\nDear you"
