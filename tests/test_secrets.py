"""Masking and redaction: nothing of a key is ever shown."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitoolman._secrets import MASK, Redactor, is_secret_name, mask, mask_headers, mask_url

KEYS = st.text(min_size=4, max_size=40).filter(lambda s: len(s.strip()) >= 4)
FORMS = {
    "plain": lambda s: s,
    "url": lambda s: quote(s.encode("utf-8", "surrogatepass"), safe=""),
    "form": lambda s: quote_plus(s.encode("utf-8", "surrogatepass")),
    "json": json.dumps,
    "json utf-8": lambda s: json.dumps(s, ensure_ascii=False),
    "repr": repr,
}


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "x-api-key",
        "Authorization",
        "X-Auth-Token",
        "accessToken",
        "APIKey",
        "client_secret",
        "Set-Cookie",
        "password",
        "sig",
        "key",
    ],
)
def test_names_of_secrets_are_known(name):
    """The usual names of secrets are told, in any spelling."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "max_completion_tokens", "tokenizer", "model", "author", "design", "keys", ""],
)
def test_harmless_names_are_left_alone(name):
    """Request fields that only sound alike stay readable."""
    assert not is_secret_name(name)


@pytest.mark.parametrize("value", ["sk-123456", "", None, 5, "Bearer ${A:-x}", "x${A}"])
def test_mask_shows_nothing(value):
    """Whatever the value, three stars; not even its length or last characters."""
    assert mask(value) == MASK


def test_headers_keep_only_what_is_known_to_be_harmless():
    """A header nobody knows may hold a key: it is masked."""
    headers = {"Content-Type": "text/plain", "X-Mine": "abcdefgh", "authorization": "Bearer abc"}
    assert mask_headers(headers) == {
        "Content-Type": "text/plain",
        "X-Mine": MASK,
        "authorization": MASK,
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v1", "https://host/v1"),
        ("https://user:pass@host:8/v1", "https://***@host:8/v1"),
        ("https://user:pa/ss@host/v1", "https://***@host/v1"),
        ("https://host:8080/run/@cf/meta", "https://host:8080/run/@cf/meta"),
        ("https://host/run/@cf/meta", "https://host/run/@cf/meta"),
        ("https://h/?key=abc&v=1", "https://h/?key=***&v=1"),
        (
            "https://h/?a=1&api%2Dkey=abc#access_token=abc",
            "https://h/?a=1&api%2Dkey=***#access_token=***",
        ),
        ("https://h/?key=${KEY}", "https://h/?key=${KEY}"),
        ("https://[::1/?token=abc", "https://[::1/?token=***"),
    ],
)
def test_addresses_lose_user_password_and_secret_query_values(url, shown):
    """What identifies the endpoint stays, what opens it goes."""
    assert mask_url(url) == shown


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(secret=KEYS, before=st.text(max_size=5), after=st.text(max_size=5))
def test_every_form_of_a_secret_is_cut_out(form, secret, before, after):
    """Plain, URL-encoded, in JSON or in a repr: no text keeps a known secret."""
    inner = form(secret.strip())
    assert inner not in Redactor([secret]).text(before + inner + after) or inner.strip("'\"*") == ""


@given(st.binary(min_size=9, max_size=60))
def test_base64_of_a_secret_is_cut_out(raw):
    """A key that went through base64, alone or before a colon, is found."""
    secret = raw.hex()
    for coded in (secret, secret + ":", secret + ":x"):
        text = Redactor([secret]).text(base64.b64encode(coded.encode()).decode())
        assert len(text) <= 3 + 8


def test_the_scheme_word_does_not_hide_a_token():
    """A secret header value gives its token too, and Basic its password."""
    basic = base64.b64encode(b"anna:open-sesame").decode()
    redactor = Redactor(["Bearer abc-123", f"Basic {basic}"])
    text = redactor.text(f"abc-123 {basic} open-sesame anna:open-sesame")
    assert text == "*** *** *** ***"


def escaped_as_dotnet(text):
    return "".join(c if c.isalnum() or c == "-" else f"\\u{ord(c):04X}" for c in text)


def escaped_as_gson(text):
    return text.replace("=", "\\u003d").replace("/", "\\/")


@pytest.mark.parametrize("write", [escaped_as_dotnet, escaped_as_gson, json.dumps])
def test_an_echo_escaped_by_any_writer_and_again_is_cut_out(write):
    """JSON writers differ in what they escape, and gateways put one's JSON into another's."""
    redactor = Redactor(["Bearer sk-0123/abcd+efgh=="])
    text = write("sk-0123/abcd+efgh==")
    for _ in range(3):
        assert "0123" not in redactor.text(text)
        assert "0123" not in redactor.text(repr(text))
        text = json.dumps(text)


def test_backslashes_without_end_are_searched_once():
    """A secret that begins with a character to be escaped costs no square of the text."""
    flood = "\\" * 2_000_000
    assert Redactor(["/secret/"]).text(flood) == flood


def test_a_secret_inside_another_leaves_no_rest():
    """The longer secret goes first, whatever the order of adding."""
    redactor = Redactor(["abcd"])
    redactor.add("abcdefgh")
    assert redactor.text("abcdefgh abcd") == "*** ***"


@pytest.mark.parametrize("secret", [None, "", "abc", "   a "])
def test_short_secrets_are_ignored(secret):
    """Three letters stand in every text: they are left."""
    redactor = Redactor()
    redactor.add(secret)
    assert redactor.text("an abc a") == "an abc a"


def test_the_repr_of_a_redactor_shows_no_secret():
    """Neither the secrets nor their forms can be read off."""
    assert "open-sesame" not in repr(Redactor(["open-sesame"]))


def test_secrets_added_from_many_threads_are_all_kept():
    """No update is lost between threads."""
    redactor = Redactor()
    secrets = [f"secret-{n:04}" for n in range(200)]

    def add(part):
        for secret in part:
            redactor.add(secret)

    threads = [threading.Thread(target=add, args=(secrets[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redactor.text(" ".join(secrets)) == " ".join([MASK] * 200)
