"""What a vendor's error says, and whether asking again can help."""

from __future__ import annotations

import html
import http
import json
import re
from typing import Any, Literal

from ..._datamodel import LLMApiRequestError
from ..._secrets import shorten
from .base import VendorError

__all__ = ["classify", "error_in", "parse_error_body", "refuses_content", "request_error"]

_MAX_MESSAGE = 300
_MAX_BODY = 100_000
_SILENT = "error without a message"

_QUOTA = (
    "insufficient_quota", "insufficient_balance", "insufficient balance", "billing",
    "credit balance", "exceeded your current quota", "quota_exceeded", "arrearage",
    "accountoverdue", "payment_required", "insufficient credits",
)  # fmt: skip
_POLICY = (
    "content_policy", "content_filter", "content_management", "datainspectionfailed",
    "data_inspection_failed", "moderation", "sensitivecontent", "safety",
)  # fmt: skip
_LENGTH = (
    "context_length", "exceed_context_size", "context window", "maximum context length",
    "prompt is too long", "request_too_large",
)  # fmt: skip
_STOP_TYPES = (
    "invalid_request", "invalid_api_key", "authentication", "permission", "not_found",
    "model_not_found", "unauthorized", "bad_request", "badrequest", "invalid_argument",
)  # fmt: skip
_WAIT = (
    "overloaded", "rate_limit", "ratelimit", "rate limit", "too many requests", "throttl",
    "resource_exhausted", "requestbursttoofast", "server_busy",
)  # fmt: skip
_SAID = ("message", "msg", "error_msg")
_AROUND = {"code", "type", "request_id", "status", "error_code", "success"}


def parse_error_body(status: int, body: str) -> VendorError:
    """What an error answer says, in whatever form: any vendor's JSON, HTML, plain text, nothing."""
    try:
        data = json.loads(body[:_MAX_BODY])
    except (ValueError, RecursionError):
        return VendorError(_one_line(_strip_html(body[:_MAX_BODY])) or _phrase(status))
    said = _message(data) if isinstance(data, dict) else ""
    return error_in(data) or VendorError(said or _text(data) or _phrase(status))


def error_in(data: Any) -> VendorError | None:
    """The error that a decoded body or stream event carries, or None where it carries none."""
    if isinstance(data, list):
        return error_in(data[0]) if data and isinstance(data[0], dict) else None
    if not isinstance(data, dict):
        return None
    found = next((data[k] for k in ("error", "errors", "detail") if data.get(k)), None)
    if found is not None:
        return _from_error(found, data)
    if data.get("object") == "error" or _looks_like_error(data):
        return _from_error(data, {})
    state = data.get("base_resp")  # MiniMax: {"status_code": 1002, "status_msg": ...}, 0 being fine
    return _from_error(state, {}) if isinstance(state, dict) and state.get("status_code") else None


def request_error(error: VendorError) -> LLMApiRequestError:
    """The exception for a vendor's error object, which it carries as ``vendor_error``."""
    code = f" ({error.code})" if error.code and error.code not in error.message else ""
    failure = LLMApiRequestError(error.message + code)
    failure.vendor_error = error
    return failure


def classify(
    status: int | None, error: VendorError | None = None
) -> Literal["wait", "retry", "stop"]:
    """Whether a failed attempt is to be repeated after a wait, after a short pause, or not at all.

    Args:
        status: The HTTP status; None where no answer came, 200 for an error inside a stream.
        error: What the vendor said, where it said something.
    """
    status = _effective_status(status, error)
    words = f"{error.code or ''} {error.message}".lower() if error else ""
    code = (error.code or "").lower() if error else ""
    if _any(_QUOTA, words) or _any(_POLICY, code) or _any(_LENGTH, words):
        return "stop"
    if status in (429, 529) or _any(_WAIT, code) or (status == 503 and _any(_WAIT, words)):
        return "wait"
    if status is None:
        return "stop" if _any(_STOP_TYPES, code) else "retry"
    return "retry" if status in (408, 409) or status >= 500 else "stop"


def _effective_status(status: int | None, error: VendorError | None) -> int | None:
    """A status inside a stream's error object stands for the 200 of the stream itself."""
    if status is not None and status >= 400:
        return status
    return error.status if error and error.status and error.status >= 400 else None


def _any(marks: tuple[str, ...], words: str) -> bool:
    return any(mark in words for mark in marks)


def _from_error(found: Any, around: dict[str, Any]) -> VendorError:
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return VendorError(_text(found) or _SILENT, _word(around, "code", "type"))
    message = _message(found) or _message(around) or json.dumps(found)
    code = _word(found, "code", "status", "type", "reason") or _word(around, "code")
    return VendorError(_one_line(message), code, _status_in(found) or _status_in(around))


def _looks_like_error(data: dict[str, Any]) -> bool:
    """A bare ``{"code": ..., "message": ...}``, as gateways, DashScope and Baidu answer."""
    return (
        "choices" not in data
        and any(isinstance(data.get(word), str) for word in _SAID)
        and bool(data.keys() & _AROUND or len(data) == 1)
    )


def _message(data: dict[str, Any]) -> str:
    message = next((data[k] for k in (*_SAID, "status_msg", "detail") if data.get(k)), "")
    raw = data.get("metadata")
    said = _text(message)
    if isinstance(raw, dict) and isinstance(raw.get("raw"), str):
        said = f"{said}: {raw['raw']}"  # OpenRouter: what the provider behind it said
    return said


def _word(data: dict[str, Any], *keys: str) -> str | None:
    """The first of the keys that holds a word; numbers are statuses, not codes."""
    for key in keys:
        value = data.get(key)
        if isinstance(value, str) and value and not value.isdigit():
            return shorten(value, 100)
    return None


def _status_in(data: dict[str, Any]) -> int | None:
    for key in ("code", "status", "status_code", "http_code"):
        value = data.get(key)
        if isinstance(value, str) and len(value) == 3 and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 100 <= value <= 599:
            return value
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _one_line(value)
    if isinstance(value, (dict, list)) and value:
        first = value[0] if isinstance(value, list) else value
        if isinstance(first, dict) and (inner := first.get("msg") or first.get("detail")):
            return _text(inner)
        return _one_line(json.dumps(value))
    return ""


def _strip_html(text: str) -> str:
    if "<" not in text:
        return text
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    if title and title.group(1).strip():
        return html.unescape(title.group(1))
    text = re.sub(r"<(script|style)\b.*?(</\1>|$)", " ", text, flags=re.IGNORECASE | re.DOTALL)
    return html.unescape(re.sub(r"<[^<>]*>", " ", text))


def _one_line(text: str) -> str:
    return shorten(text, _MAX_MESSAGE)


def _phrase(status: int) -> str:
    """What the status alone says; its number stands before it already."""
    try:
        return http.HTTPStatus(status).phrase if status >= 400 else _SILENT
    except ValueError:
        return _SILENT


def refuses_content(error: VendorError) -> bool:
    """True where the vendor's moderation refused what was sent."""
    return _any(_POLICY, (error.code or "").lower())
