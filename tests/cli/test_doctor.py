"""`aitoolman doctor`: what it finds, what it recommends, and that it shows no key."""

from __future__ import annotations

import pytest

from aitoolman._cli.main import main
from tests.vendors.reply import Call, Reply

KEY = "sk-canary-0123456789"


def write(tmp_path, text):
    path = tmp_path / "llm.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def entry(url, more=""):
    return f'[api.fast]\nurl = "{url}"\nmodel = "m"\napi_key = "{KEY}"\n{more}\n'


def examine(capsys, *arguments):
    code = main(["doctor", *arguments])
    output = capsys.readouterr()
    assert KEY not in output.out + output.err
    return code, output.out + output.err


def test_a_healthy_endpoint(fake_llm, tmp_path, capsys):
    """Everything is looked at with three short requests, and found good."""
    fake_llm.script(
        lambda seen: (
            Reply(tool_calls=[Call("get_weather", {"city": "Oslo"})])
            if seen.body.get("tools")
            else Reply(text="yes")
        )
    )
    code, said = examine(capsys, "-c", write(tmp_path, entry(fake_llm.openai_url)))
    assert code == 0
    assert len(fake_llm.requests) == 3
    for check in ("answers", "usage", "streams", "tools: called get_weather", "dialect"):
        assert f"ok    {check}" in said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401, error=f"Incorrect API key provided: {KEY}"), "check `api_key`"),
        (Reply(status=404, error="no such model"), "and `model`"),
        (Reply(status=429, error="quota", error_code="insufficient_quota"), "quota"),
        (Reply(status=500, error="oops"), "500"),
    ],
    ids=["key", "model", "quota", "server"],
)
def test_a_failing_endpoint_is_explained(fake_llm, tmp_path, capsys, reply, said):
    """Exit code 1 and a line on what to do."""
    fake_llm.script(lambda seen: reply)
    code, output = examine(capsys, "-c", write(tmp_path, entry(fake_llm.openai_url)))
    assert code == 1
    assert "FAIL" in output
    assert said in output


def test_reasoning_in_an_unknown_field_gets_a_recommendation(fake_llm, tmp_path, capsys):
    """A stream whose reasoning nobody reads: the doctor prints the TOML that reads it."""
    event = '{"choices":[{"index":0,"delta":{"my_thoughts":"hm"}}]}'
    end = '{"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}'
    stream = [f"data: {event}\n\ndata: {end}\n\ndata: [DONE]\n\n".encode()]
    fake_llm.script(lambda seen: Reply(raw_stream=stream) if seen.stream else Reply(text="yes"))
    code, said = examine(capsys, "-c", write(tmp_path, entry(fake_llm.openai_url)))
    assert code == 0
    assert '[api."fast"]\n    quirks.reasoning_in = ["my_thoughts"]' in said


def test_unreachable_missing_variable_and_dangling_alias(tmp_path, capsys):
    """Each problem of a file is told, one does not hide the others."""
    text = (
        '[api.off]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
        '[api.nokey]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\napi_key = "${NO_SUCH_KEY}"\n'
        '[model_alias]\nlost = "nothere"\n'
    )
    code, said = examine(capsys, "-c", write(tmp_path, text))
    assert code == 1
    assert "FAIL  reachable" in said
    assert "NO_SUCH_KEY" in said
    assert '"lost": there is no [api] entry nothere' in said


def test_a_broken_file_is_exit_code_2_with_all_mistakes(tmp_path, capsys):
    """Nothing is sent for a file that is wrong."""
    path = write(tmp_path, "[default]\ntimout = 5\n[api.x]\nurl = 5\n")
    code, said = examine(capsys, "-c", path, "--offline")
    assert code == 2
    assert "timeout" in said
    assert "url" in said


def test_prompts_are_checked_offline(tmp_path, capsys):
    """`-p` checks templates, too."""
    prompts = tmp_path / "p.toml"
    prompts.write_text('[module.x]\ntemplate.user = "{{ broken"\n', encoding="utf-8")
    path = write(tmp_path, '[api.x]\nurl = "http://h/v1"\nmodel = "m"\n')
    code, said = examine(capsys, "-c", path, "-p", str(prompts), "--offline")
    assert code == 2
    assert "template.user" in said


def test_what_a_prompt_file_names_is_held_against_the_provider_file(tmp_path, capsys):
    """A model in neither file has to be fixed; entries and the aliases of both files are fine."""
    (tmp_path / "p.toml").write_text(
        '[model_alias]\nown = "fast"\nlost = "nowhere"\n'
        + "".join(
            f'[module.{name}]\nmodel = "{model}"\ntemplate.user = "x"\n'
            for name, model in [
                ("a", "gptt"), ("b", "gpt"), ("c", "fast"), ("d", "own"), ("e", "lost"),
            ]
        ),
        encoding="utf-8",
    )  # fmt: skip
    path = write(tmp_path, entry("http://h/v1") + '[model_alias]\ngpt = "fast"\n')
    code, said = examine(capsys, "-c", path, "-p", str(tmp_path / "p.toml"), "--offline")
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("FAIL")] == [
        "FAIL  [module.\"a\"]: there is no model 'gptt'; did you mean 'gpt'?",
        "FAIL  [module.\"e\"]: there is no model 'nowhere' (which 'lost' stands for);"
        " known: 'fast', 'gpt', 'lost', 'own'",
    ]


def test_what_only_a_program_knows_is_a_note(tmp_path, capsys):
    """A post-processor may be registered in code, and a call may name the model."""
    (tmp_path / "p.toml").write_text(
        '[module.a]\nmodel = "fast"\ntemplate.user = "x"\npost_processor = "parse_jsn"\n'
        '[module.b]\ntemplate.user = "x"\npost_processor = "parse_xml:root"\n',
        encoding="utf-8",
    )
    path = write(tmp_path, entry("http://h/v1"))
    code, said = examine(capsys, "-c", path, "-p", str(tmp_path / "p.toml"), "--offline")
    assert code == 0
    first, second = [line for line in said.splitlines() if line.startswith("note")]
    assert "'parse_jsn' is not built in; did you mean 'parse_json'?" in first
    assert "add_processor" in first
    assert '[module."b"] names no model' in second


def test_a_project_is_found_in_its_folder(tmp_path, capsys, monkeypatch):
    """Without -c both files of config/ are checked, and one model is called one model."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "llm_config.toml").write_text(entry("http://h/v1"), encoding="utf-8")
    (tmp_path / "config" / "app_prompt.toml").write_text(
        '[module.a]\nmodel = "fast"\ntemplate.user = "x"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    code, said = examine(capsys, "--offline")
    assert code == 0
    assert "config/llm_config.toml: 1 model, all keys valid" in said
    assert "config/app_prompt.toml: 1 module, all templates valid" in said
