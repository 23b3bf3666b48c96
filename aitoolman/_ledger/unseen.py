"""What to tell of a request that a replayed ledger does not hold: the nearest one it does."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from .._datamodel import did_you_mean

if TYPE_CHECKING:
    import sqlite3

    from .questions import Question

__all__ = ["explain_unseen", "request_lines"]

NEAREST_OF = 200
"""How many recorded requests are compared, the latest first."""
DIFF_LINES = 40


def explain_unseen(db: sqlite3.Connection, question: Question) -> str:
    """A sentence, and the difference to the nearest recorded request."""
    model = question.request.model_name
    names = [row[0] for row in db.execute("SELECT DISTINCT name FROM models")]
    if model not in names:
        return f"replay: no call of model {model!r} was recorded; {did_you_mean(model, names)}"
    rows = db.execute(
        "SELECT request FROM answers WHERE model = ? ORDER BY id DESC LIMIT ?", (model, NEAREST_OF)
    )
    wanted = request_lines(json.loads(question.encoded))
    recorded = [request_lines(json.loads(row[0])) for row in rows]
    if not recorded:
        return f"replay: no answer of model {model!r} was kept"
    nearest = max(recorded, key=lambda lines: _likeness(lines, wanted))
    if nearest == wanted:
        return (
            f"replay: this request was recorded for {model!r}, but with other settings of the"
            " model or another sample number"
        )
    diff = difflib.unified_diff(nearest, wanted, "recorded", "asked now", lineterm="", n=1)
    shown = list(diff)[:DIFF_LINES]
    return "replay: this request was not recorded; the nearest one differs so:\n" + "\n".join(shown)


def request_lines(canonical: dict[str, Any]) -> list[str]:
    """A request as lines of text that diff well."""
    lines = []
    for message in canonical.get("messages", []):
        lines.append(f"[{message.get('role')}]")
        lines += str(message.get("content") or "").splitlines()
        rest = {k: v for k, v in message.items() if k not in ("role", "content")}
        lines += [f"{k}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(rest.items())]
    for part in ("tools", "options"):
        values = canonical.get(part) or {}
        lines += [f"{part}.{k}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(values.items())]
    return lines


def _likeness(one: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).quick_ratio()
