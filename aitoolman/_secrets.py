"""Keeping secrets out of sight: what is masked in reprs, and what is cut out of any text."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

__all__ = [
    "MASK",
    "Redactor",
    "is_secret_name",
    "mask",
    "mask_headers",
    "mask_tree",
    "mask_url",
    "shorten",
    "url_secrets",
    "whole_words",
]

MASK = "***"

_SECRET_WORD = re.compile(
    r"auth|authorization|bearer|cookies?|credentials?|passphrase|passwd|pwd|secrets|session"
    r"|sig|signature|.*(?:key|token|secret|password)"
)
_OPEN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "http-referer",
        "openai-beta",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "server",
        "transfer-encoding",
        "user-agent",
        "x-title",
    }
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_REFERENCE = re.compile(r"(?:[A-Za-z]+ )?\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|api-key)\s+(\S.*)", re.IGNORECASE | re.DOTALL)
# Keys and tokens as vendors write them, wherever they stand.
_KEY_SHAPE = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|pplx|r8|nvapi)[-_][A-Za-z0-9_\-]{8,}"
    r"|\bAIza[A-Za-z0-9_\-]{20,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-.]+"
    r"|(?i:(?<=bearer )|(?<=basic ))(?!\$\{)\S{4,}"
)
_LAST_WORD = re.compile(r"[^\s\"'<>,;:(){}\[\]]*\Z")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>]+")
_QUERY_PAIR = re.compile(r"([?&;#])([^=&;#]+)=([^&;#]*)")
# A password may hold a slash that should have been encoded; a path may hold an @ (host:80/@x).
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s:]*:(?!\d+/)[^?#\s]*@)")


def is_secret_name(name: object) -> bool:
    """True where a key of this name usually holds a secret (``api_key``, not ``max_tokens``)."""
    return any(_SECRET_WORD.fullmatch(word.lower()) for word in _WORD.findall(str(name)))


def mask(value: object) -> str:
    """``***`` for any value; a mere reference (``Bearer ${KEY}``) stays, as it shows nothing."""
    text = value if isinstance(value, str) else ""
    return text if _REFERENCE.fullmatch(text) else MASK


def mask_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which only headers known to be harmless keep their value."""
    return {
        name: mask_tree(value) if str(name).lower() in _OPEN_HEADERS else mask(value)
        for name, value in headers.items()
    }


def mask_url(url: str) -> str:
    """The address without its user, password and the values of secret query keys."""
    return _QUERY_PAIR.sub(_mask_pair, _USERINFO.sub(f"{MASK}@", url))


def _mask_pair(match: re.Match[str]) -> str:
    separator, name, value = match.groups()
    return f"{separator}{name}={mask(value) if is_secret_name(unquote(name)) else value}"


def mask_tree(value: Any, *, name: object = "", hidden: bool = False) -> Any:
    """A configuration value with its structure kept and everything that looks secret masked.

    Args:
        value: Tables, lists and scalars as TOML gives them; other objects come back untouched.
        name: The key that `value` stands under.
        hidden: True inside something secret: every leaf is masked.
    """
    hidden = hidden or is_secret_name(name)
    if isinstance(value, Mapping):
        if str(name).lower() == "headers" and not hidden:
            return mask_headers(value)
        return {key: mask_tree(item, name=key, hidden=hidden) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_tree(item, hidden=hidden) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if hidden:
        return mask(value)
    return _mask_shapes(value) if isinstance(value, str) else value


def _mask_shapes(text: str) -> str:
    return _KEY_SHAPE.sub(MASK, _URL.sub(lambda match: mask_url(match.group()), text))


def shorten(text: str, length: int) -> str:
    """`text` on one printable line of at most `length` characters.

    It is never cut within a word: that might be a key, and half a key is found by no `Redactor`.
    """
    head = text[: 16 * length]
    line = "".join(c if c.isprintable() else "?" for c in " ".join(head.split()))
    if len(line) <= length and len(head) == len(text):
        return line
    return whole_words(line[: length - 3])


def whole_words(text: str) -> str:
    """`text` with dots for its last word, which was cut off and might be half a key."""
    return _LAST_WORD.sub("", text) + "..."


_UNESCAPED = re.compile(r"[A-Za-z0-9_-]+")


class Redactor:
    """Cuts known secrets out of texts: logs, errors, recorded exchanges.

    A secret is found as it is, URL-encoded, escaped as in JSON by whatever writer, in base64, and
    without the word before it (``Bearer``, ``Basic``). Secrets under four characters are ignored:
    cutting them would tear every text apart. May be used from any thread.

    Args:
        secrets: The first secrets; more can be added at any time.
    """

    MIN_LENGTH = 4

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()
        self._escaped: tuple[re.Pattern[str], ...] = ()
        self._add_all(secrets)

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def add(self, secret: str | None) -> None:
        """Cut out `secret` from now on; None and short ones are ignored."""
        self._add_all([secret] if secret else [])

    def text(self, s: str) -> str:
        """`s` with every form of every secret replaced by ``***``."""
        for form in self._forms:
            if form in s:
                s = s.replace(form, MASK)
        if "\\" in s:
            for pattern in self._escaped:
                s = pattern.sub(MASK, s)
        return s

    def _add_all(self, secrets: Iterable[str]) -> None:
        secrets = list(secrets)
        spelled = {
            s for secret in secrets for s in _spellings(secret) if not _UNESCAPED.fullmatch(s)
        }
        patterns = [_escaped(s) for s in sorted(spelled, key=len, reverse=True)]
        new = {form for secret in secrets for form in _forms(secret)}
        with self._lock:
            # The longest first, or a part that is a secret itself would leave the rest standing.
            self._forms = tuple(sorted(new.union(self._forms), key=len, reverse=True))
            self._escaped = tuple(dict.fromkeys([*patterns, *self._escaped]))


def _escaped(secret: str) -> re.Pattern[str]:
    """Any mixture of escapes, also of escaped ones: each writer of JSON has its own choice."""
    return re.compile("".join(c if _UNESCAPED.match(c) else _any_escape(c) for c in secret))


def _any_escape(char: str) -> str:
    return rf"\\{{0,15}}(?:{re.escape(char)}|(?i:u{ord(char):04x}))"


def _forms(secret: str) -> Iterator[str]:
    for plain in _spellings(secret):
        yield from (f for f in _encodings(plain) if len(f) >= Redactor.MIN_LENGTH)


def _spellings(secret: str) -> Iterator[str]:
    """The secret, and what is in it: the part after ``Bearer``, the password of ``Basic``."""
    plain = secret.strip()
    if len(plain) < Redactor.MIN_LENGTH:
        return
    yield plain
    scheme = _SCHEME.fullmatch(plain)
    if scheme:
        yield scheme.group(1)
        yield from _basic_credentials(scheme.group(1))


def _basic_credentials(coded: str) -> Iterator[str]:
    try:
        decoded = base64.b64decode(coded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return
    user, colon, password = decoded.partition(":")
    if colon:
        yield from (part for part in (decoded, password or user) if len(part) >= 4)


def _encodings(plain: str) -> Iterator[str]:
    raw = plain.encode("utf-8", "surrogatepass")
    yield plain
    for coded in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield coded
        yield re.sub("%..", lambda match: match.group().lower(), coded)
    for ascii_only in (True, False):
        escaped = json.dumps(plain, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    yield repr(plain)[1:-1]
    # The last, partial group of base64 depends on what follows it: only whole groups are searched.
    whole = raw[: len(raw) // 3 * 3]
    if len(whole) >= 6:
        yield base64.b64encode(whole).decode()
        yield base64.urlsafe_b64encode(whole).decode()


def url_secrets(url: str) -> tuple[str, ...]:
    """User, password and secret query values of an address."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query)
    found = [value for name, value in pairs if is_secret_name(name)]
    return tuple(part for part in (parts.password, parts.username, *found) if part)
