"""The magics in a real kernel: what is sent, what is shown, what is returned."""

from __future__ import annotations

import pytest

from aitoolman import load_config

from ..vendors.reply import Reply
from .conftest import CANARY


def test_a_body_is_sent_streamed_and_left_as_static_text(kernel, fake_llm):
    """The body is the open variable; the cell ends as Markdown and text, nothing else."""
    fake_llm.script(Reply("The *answer*.", reasoning="First I think."))
    cell = kernel.run("%%aitoolman summary\nA long text.")
    assert fake_llm.requests[0].last_text == "Summarise: A long text."
    assert fake_llm.requests[0].stream
    [data] = cell.shown
    assert data["text/plain"] == "The *answer*."
    assert set(data) == {"text/plain", "text/markdown"}
    assert "<details><summary>reasoning (3 words" in data["text/markdown"]
    assert "First I think." in data["text/markdown"]
    assert "The *answer*." in data["text/markdown"]


def test_the_body_loses_its_one_added_line_end(kernel, fake_llm):
    """A cell sends the same bytes as a string in a script; further line ends are the user's."""
    fake_llm.script("ok")
    kernel.run("%%aitoolman summary\n  two\nlines  ")
    kernel.run("%%aitoolman summary\nwith a blank line\n\n")
    texts = [r.last_text for r in fake_llm.requests]
    assert texts == ["Summarise:   two\nlines  ", "Summarise: with a blank line\n"]
    kernel.run("await app['summary'](text='  two\\nlines  ')")
    assert fake_llm.requests[2].last_text == texts[0]


def test_line_ends_of_windows_are_one_line_end(kernel, fake_llm):
    """The one that is added goes whole; those in the text are the user's."""
    fake_llm.script("ok")
    kernel.run("%%aitoolman summary\na\r\nb\r\n")
    assert fake_llm.requests[0].last_text == "Summarise: a\r\nb"


def test_the_result_is_returned_stored_and_not_shown_twice(kernel, fake_llm):
    """`-o` and `_` hold it; displayed by itself in a later cell it is rich."""
    fake_llm.script("fine")
    cell = kernel.run("%%aitoolman summary -o r\nx")
    assert len(cell.shown) == 1
    assert (
        kernel.run("print(type(r).__name__, r.text, _ is r)").stream
        == "LLMModuleResult fine True\n"
    )
    [later] = kernel.run("r").shown
    assert "fine" in later["text/html"]
    assert later["text/plain"] == "LLMModuleResult('summary', 'stop', 'fine')"


def test_an_expression_is_taken_whole_and_keeps_its_type(kernel, fake_llm):
    """Braces, blanks and quotes inside are Python's; any other value is text."""
    fake_llm.script("ok")
    kernel.run("rows = [{'a': 'x } y'}]")
    kernel.run("%aitoolman translate text={rows[0]['a'] + ' }'} language='Old Norse' -o r")
    assert fake_llm.requests[0].last_text == "x } y } in Old Norse"
    kernel.run("%aitoolman translate text={ {'k': [1, 2]} } language={None}")
    assert fake_llm.requests[1].last_text == "{'k': [1, 2]} in None"
    assert kernel.run("print(r.request_params['language'])").stream == "Old Norse\n"


@pytest.mark.parametrize("around", ["", "%%time\n"], ids=["awaiting", "blocking"])
def test_nobody_else_expands_the_line(kernel, fake_llm, around):
    """IPython's own {x} and $x stay out of it: numbers stay numbers, text stays text."""
    fake_llm.script("ok")
    kernel.run("x = 5")
    kernel.run(f"{around}%aitoolman translate text={{x}} language='{{x}} $x' -o r")
    shown = kernel.run("print(r.request_params)").stream
    assert "'text': 5" in shown
    assert "'language': '{x} $x'" in shown
    kernel.run(f"{around}%%llm_module priced --system 'It costs $x or {{x}}'\n{{{{ t }}}}")
    kernel.run("%%aitoolman priced\nt")
    assert fake_llm.requests[-1].messages[0]["content"] == "It costs $x or {x}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("text={await app} language=x", "an expression here cannot await"),
        ('text={"a": 1} language=x', "text that begins with a brace goes in quotes"),
        ("text=a language=b -o 1st", "-o 1st: no name that Python takes"),
        ("text=a language=b -o class", "-o class: no name that Python takes"),
        ("text={1/0} language=x", "text: {1/0} fails: ZeroDivisionError"),
        ("text={nothing} language=x", "NameError"),
        ("text={1 + } language=x", "no Python expression"),
        ("text={[1, 2", "closing brace is missing"),
        ("text='open language=x", "quote is not closed"),
        ("text=a", "needs language"),
        ("text=a language=b stray", "'stray' is no name=value pair"),
        ("text=a text=b", "given twice"),
        ("text=a language=b --modle x", "modle"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_sent(kernel, fake_llm, line, words):
    """The text of a failing expression is never sent instead of its value."""
    cell = kernel.run(f"%aitoolman translate {line}", ok=False)
    assert words in cell.stream + cell.evalue
    assert not cell.traceback
    assert not fake_llm.requests


def test_several_open_variables_are_listed(kernel, fake_llm):
    """An error names them; `--var` or name=value settles it."""
    cell = kernel.run("%%aitoolman translate\nHello", ok=False)
    assert "language, text" in cell.evalue
    fake_llm.script("ok")
    kernel.run("%%aitoolman translate --var text language=French\nHello")
    assert fake_llm.requests[0].last_text == "Hello in French"
    assert (
        "no open variable 'txt'"
        in kernel.run("%%aitoolman translate --var txt\nx", ok=False).evalue
    )
    assert "no variable left" in kernel.run("%%aitoolman fixed\nx", ok=False).evalue


def test_unknown_names_come_with_near_ones(kernel):
    """Modules, files and options: one line each, and what was meant."""
    assert "'summary'" in kernel.run("%%aitoolman sumary\nx", ok=False).evalue
    assert "there is no configuration file" in kernel.run("%llm_config none.toml", ok=False).evalue
    cell = kernel.run("%%aitoolman summary --model fats\nx", ok=False)
    assert "fast" in "".join(cell.traceback)
    assert len(cell.traceback) == 1


def test_model_no_stream_preview_and_fresh(kernel, fake_llm):
    """Each option changes the request as it says; a preview sends nothing."""
    fake_llm.script("ok")
    [data] = kernel.run("%%aitoolman summary --preview\nwhat is sent").shown
    assert "Summarise: what is sent" in data["text/html"]
    assert CANARY not in str(data)
    assert not fake_llm.requests
    kernel.run("%%aitoolman summary --model Good-Model --no-stream\nx")
    assert fake_llm.requests[0].model == "slow-1"
    assert not fake_llm.requests[0].stream


def test_a_failing_request_shows_why_in_place_and_stops_run_all(kernel, fake_llm):
    """The view keeps the text so far and the reason; the error is one line."""
    fake_llm.script(Reply(status=400, error="the vendor says no"))
    cell = kernel.run("%%aitoolman summary -o r\nx", ok=False)
    assert "the vendor says no" in cell.shown[0]["text/markdown"]
    assert cell.ename == "LLMApiRequestError"
    assert len(cell.traceback) == 1
    assert kernel.run("print(r.status.name)").stream == "error_request\n"
    fake_llm.script(Reply("Half an ans", chunks=["Half ", "an ans"], drop_after=2))
    cell = kernel.run("%%aitoolman summary\nx", ok=False)
    assert "Half" in cell.shown[0]["text/plain"]


def test_a_cell_defines_a_module_and_it_is_live_at_once(kernel, fake_llm):
    """Prompt, front part and options; callable, redefinable, with its variables marked."""
    fake_llm.script('{"mood": "good"}')
    cell = kernel.run(
        '%%llm_module mood --system "As JSON." --output parse_json\n'
        '+++\ndescription = "Mood"\noptions = { temperature = 0 }\n'
        '[[examples]]\nuser = "Great!"\nassistant = \'{"mood": "good"}\'\n+++\n'
        "How is {{ text }}?"
    )
    assert "{{ text }}" in cell.shown[0]["text/html"]
    kernel.run("r = await app['mood'](text='this')")
    body = fake_llm.requests[0].body
    assert [m["content"] for m in body["messages"]] == [
        "As JSON.", "Great!", '{"mood": "good"}', "How is this?",
    ]  # fmt: skip
    assert body["temperature"] == 0
    assert kernel.run("print(r.data)").stream == "{'mood': 'good'}\n"
    kernel.run("%%llm_module mood\nMood of {{ words }}?")
    assert kernel.run("print(app['mood'].variables)").stream == "['words']\n"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%llm_module m\n+++\nmodel = 'fast'\n{{ x }}", "second line of +++ is missing"),
        ("%%llm_module m\n+++\nmodel =\n+++\n{{ x }}", "TOML"),
        ("%%llm_module m -o not-a-name\n{{ x }}", "no name that Python takes"),
        ("%%aitoolman\nx", "required: module\n"),
    ],
)
def test_a_broken_definition_is_one_line_and_defines_nothing(kernel, cell, words):
    """What is wrong, and no module of that name afterwards."""
    failed = kernel.run(cell, ok=False)
    assert words in failed.evalue + "\n"
    assert not failed.traceback
    assert kernel.run("print('m' in app)").stream == "False\n"


def test_saved_modules_send_the_same_bytes(kernel, folder, fake_llm):
    """From the cell to the file to a script."""
    fake_llm.script("ok")
    kernel.run('%%llm_module odd\n  {{ x }} "quoted" \\n\n\ttail\n')
    kernel.run("await app['odd'](x=1); app.save_modules('saved.toml')")
    assert list(load_config(folder / "saved.toml")["module"]) == ["odd"]
    kernel.run(
        "again = aitoolman.LLMApplication(app.client, aitoolman.load_config('saved.toml'))\n"
        "r = await again['odd'](x=1)"
    )
    first, second = fake_llm.requests
    assert first.raw == second.raw


def test_the_overview_shows_models_and_modules_and_no_key(kernel):
    """`app` and the bare magic are the same; keys are masked."""
    [data] = kernel.run("app").shown
    for word in ("fast", "slow", "Good-Model", "summary", "One sentence", "language", "***"):
        assert word in data["text/html"]
    assert (
        kernel.run("print(app is get_ipython().run_line_magic('llm_config', ''))").stream
        == "True\n"
    )


def test_configuring_again_keeps_what_cells_made(kernel, fake_llm):
    """Modules, processors and variables move over; the old client ends when its calls have."""
    fake_llm.script(Reply("late", hang=True))
    kernel.run("%%llm_module mine\n{{ a }}{{ b }}")
    kernel.run("app.vars['b'] = 'B'; app.add_processor('p', str.upper); old = app")
    kernel.run("waiting = asyncio.create_task(old['mine'](a='A'))\nawait asyncio.sleep(0)")
    kernel.until(lambda: fake_llm.open_requests == 1)
    kernel.run("app = %llm_config llm.toml prompts.toml")
    assert (
        kernel.run("print(app is old, app['mine'].render(a='A')[0].content)").stream == "False AB\n"
    )
    assert kernel.run("print('p' in app.processors)").stream == "True\n"
    fake_llm.release()
    assert kernel.run("print((await waiting).text)").stream == "late\n"
    kernel.run(
        "async def closed():\n"
        "    while not old.client._closed: await asyncio.sleep(0.01)\n"
        "await asyncio.wait_for(closed(), 5)"
    )


def test_a_trial_shows_what_flipped_and_asks_only_what_changed(kernel, fake_llm):
    """Previous answer, new answer, accuracy before and after; the same request costs nothing."""
    fake_llm.script(lambda r: "money" if "bill" in r.last_text or "v2" in r.last_text else "login")
    kernel.run(
        "rows = [{'t': 'bill', 'right': 'money'}, {'t': 'password', 'right': 'login'},"
        " {'t': 'invoice', 'right': 'money'}]"
    )
    first = kernel.run("%%llm_module label --try rows --label right\n{{ t }}")
    assert first.text.startswith("label: 3 rows · accuracy 67% · 3 asked\n")
    assert "before" not in first.shown[0]["text/html"]
    same = kernel.run("%%llm_module label --try rows --label right\n{{ t }}")
    assert "0 changed · accuracy 67% → 67% · 0 asked, 3 from the ledger" in same.text
    other = kernel.run("%%llm_module label --try rows --label right\n{{ t }} v2")
    assert "before" in other.shown[0]["text/html"]
    assert "2 changed · accuracy 67% → 67% · 3 asked" in other.text
    assert "* 2: login → money (right: money)" in other.text
    back = kernel.run("%%llm_module label --try rows --label right\n{{ t }}")
    assert "2 changed" in back.text
    assert "0 asked" in back.text
    assert len(fake_llm.requests) == 6


def test_a_trial_tells_why_a_row_failed_and_that_it_fails_no_more(kernel, fake_llm):
    """Cut off by its length or refused: the reason is in the row; mended, the row has changed."""
    cut = Reply("I am sorry to", finish="length")
    no = Reply(status=400, error="the vendor says no")
    fake_llm.script(lambda r: {"a": cut, "b": no}.get(r.last_text, "fine"))
    rows = "[{'t': 'a', 'right': 'fine'}, {'t': 'b', 'right': 'fine'}, {'t': 'c', 'right': 'fine'}]"
    first = kernel.run(f"%%llm_module one --try {rows} --label right\n{{{{ t }}}}")
    # A row that the vendor refused says nothing about the prompt.
    assert "3 rows · 2 failed · accuracy 50%" in first.text
    assert "0: the answer reached its token limit: I am sorry to" in first.text
    assert "the vendor says no" in first.text
    [data] = first.shown
    for words in ("the answer reached its token limit", "I am sorry to", "the vendor says no"):
        assert words in data["text/html"]
    fake_llm.script("fine")
    mended = kernel.run(f"%%llm_module one --try {rows} --label right\n{{{{ t }}}} x")
    assert "2 changed · accuracy 50% → 100%" in mended.text
    assert "* 0: the answer reached its token limit" in mended.text


def test_a_trial_sees_that_an_answer_of_nothing_has_changed(kernel, fake_llm):
    """`null` is an answer like any other."""
    fake_llm.script(["null", "1"])
    kernel.run("%%llm_module one --output parse_json --try ['a']\n{{ t }}")
    second = kernel.run("%%llm_module one --output parse_json --try ['a']\n{{ t }}!")
    assert "* 0: null → 1" in second.text


def test_rows_without_a_label_do_not_count(kernel, fake_llm):
    """Accuracy is over the rows that have one."""
    fake_llm.script("ok")
    rows = (
        "[{'t': 'a', 'right': 'ok'}, {'t': 'b', 'right': None}, {'t': 'c', 'right': float('nan')}]"
    )
    cell = kernel.run(f"%%llm_module one --try {rows} --label right\n{{{{ t }}}}")
    assert "3 rows · accuracy 100%" in cell.text
    assert "(right: nan)" not in cell.text


def test_a_trial_takes_frames_lists_and_plain_values_and_refuses_the_rest(kernel, fake_llm):
    """Rows that don't fit are told by number; too many are a batch."""
    fake_llm.script("ok")
    kernel.run("%%llm_module one --try ['a', 'b']\n{{ t }}")
    kernel.run("import pandas as pd; df = pd.DataFrame({'t': ['a', 'b', 'c']})")
    assert "3 rows" in kernel.run("%%llm_module one --try df[:3]\n{{ t }}").text
    kernel.run("import polars as pl; pf = pl.DataFrame({'t': ['a', 'b'], 'n': [1, 2]})")
    assert "2 rows" in kernel.run("%%llm_module one --try pf\n{{ t }}{{ n }}").text
    assert "3 rows" in kernel.run("%%llm_module one --try df['t']\n{{ t }}").text
    assert "1 row ·" in kernel.run("%%llm_module one --try df.to_dict('records')[:1]\n{{ t }}").text
    cell = kernel.run("%%llm_module one --try [{'x': 1}]\n{{ t }}", ok=False)
    assert "row 0 has no t; it has x" in cell.evalue
    assert "200" in kernel.run("%%llm_module one --try ['a']*300\n{{ t }}", ok=False).evalue
    assert "--try takes" in kernel.run("%%llm_module one --try 'abc'\n{{ t }}", ok=False).evalue


def test_a_trial_that_cannot_run_leaves_the_module_as_it_was(kernel, fake_llm):
    """A mistake in the cell is no new definition: neither of a module nor of another's place."""
    kernel.run("%%llm_module one --system Briefly.\n{{ t }}")
    kernel.run("%%llm_module one --try [{'t': 1}] --label rigth\n{{ other }}", ok=False)
    kernel.run("%%llm_module two --try [1, 2\n{{ t }}", ok=False)
    kernel.run("%%llm_module two --try [{'x': 1}]\n{{ t }}", ok=False)
    assert kernel.run(
        "app['one'].variables, app['one'].render(t=1)[0].content, 'two' in app"
    ).text == ("(['t'], 'Briefly.', False)")
    assert fake_llm.requests == []


def test_a_trial_stands_in_the_log_and_makes_a_frame(kernel, fake_llm):
    """Whatever was sent can be seen, also what a trial sent or found again."""
    fake_llm.script(lambda r: r.last_text.upper())
    cell = "%%llm_module one --try [{'t': 'a', 'right': 'A'}] --label right -o trial\n{{ t }}"
    kernel.run(cell)
    kernel.run(cell)
    table = kernel.run("%llm_log").text
    assert table.count("/try") == 2
    assert table.count("(ledger)") == 1
    assert "[user]\na" in kernel.run("%llm_log 1").text
    assert kernel.run("app.log(mine=True)").text == table
    frame = kernel.run("trial.frame().to_dict('records')").text
    assert frame == ("[{'answer': 'A', 'before': 'A', 'label': 'A', 'changed': False, 't': 'a'}]")


def test_the_log_shows_calls_one_whole_and_two_side_by_side(kernel, fake_llm):
    """Without a ledger it is what memory holds of this session."""
    fake_llm.script(["first answer", "second answer"])
    kernel.run("%%aitoolman summary\none")
    kernel.run("%%aitoolman summary\ntwo")
    table = kernel.run("%llm_log").text
    assert table.count("fast") == 2
    one = kernel.run("%llm_log 1").text
    assert "Summarise: one" in one
    assert "first answer" in one
    both = kernel.run("%llm_log 1 2").text
    assert "-Summarise: one\n+Summarise: two" in both
    assert "no call number 9" in kernel.run("%llm_log 9", ok=False).evalue


def test_with_a_ledger_the_log_is_this_sessions(kernel, fake_llm, folder):
    """`--ledger` puts one in place; earlier sessions come with --all; search reads prompts."""
    fake_llm.script("kept answer")
    kernel.run("app = %llm_config llm.toml prompts.toml --ledger read_write:sub.db")
    kernel.run("%%aitoolman summary\nfindme")
    cell = kernel.run("%%aitoolman summary\nfindme")
    assert "from ledger" in cell.shown[0]["text/markdown"]
    kernel.run("%%aitoolman summary --fresh\nfindme")
    assert len(fake_llm.requests) == 2
    assert kernel.run("%llm_log --search findme").text.count("fast") == 3
    assert "kept answer" in kernel.run("%llm_log 1").text


def test_help_names_every_option(kernel):
    """`%%aitoolman?` works as for IPython's own magics."""
    text = kernel.run("%%aitoolman?").pages[0]["data"]["text/plain"]
    for option in ("--var", "-o", "--model", "--no-stream", "--preview", "--fresh"):
        assert option in text


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%%aitoolman su", {"summary"}),
        ("%%aitoolman ", {"summary", "translate", "fixed"}),
        ("%%aitoolman translate ", {"text=", "language="}),
        ("%%aitoolman translate text=x --var ", {"text", "language"}),
        ("%%aitoolman summary --model ", {"fast", "slow", "Good-Model"}),
        ("%%aitoolman summary --pre", {"--preview"}),
        ("%llm_config --ledger re", {"record", "read_write", "refresh", "replay"}),
    ],
)
def test_names_are_completed(kernel, line, wanted):
    """Modules, variables, models, options and modes."""
    asked = kernel.client.complete(line, len(line))
    message = kernel.client.get_shell_msg(timeout=5)
    while message["parent_header"]["msg_id"] != asked:
        message = kernel.client.get_shell_msg(timeout=5)
    assert set(message["content"]["matches"]) == wanted


def test_reload_and_unload_restore_everything(kernel):
    """Twice loaded is once loaded; unloaded nothing is left, and the application outlives both."""
    count = (
        "ip = get_ipython(); print(len(ip.input_transformers_post),"
        " 'aitoolman' in ip.magics_manager.magics['cell'],"
        " len(ip.events.callbacks['pre_run_cell']))"
    )
    before = kernel.run(count).stream
    assert not kernel.run("%reload_ext aitoolman").outputs
    kernel.run("%reload_ext aitoolman\n%load_ext aitoolman")
    assert kernel.run(count).stream == before
    assert (
        kernel.run("print(get_ipython().run_line_magic('llm_config', '') is app)").stream
        == "True\n"
    )
    kernel.run("%unload_ext aitoolman")
    assert " False " in kernel.run(count).stream
    [data] = kernel.run("app").shown
    assert set(data) == {"text/plain"}
    kernel.run("%load_ext aitoolman")
