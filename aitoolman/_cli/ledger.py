"""``aitoolman ledger``: read, compare, export, clear and check the record of all calls."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import ledger_files

if TYPE_CHECKING:
    import argparse

    from .._ledger.reader import Ledger
    from .._ledger.table import CallRow

__all__ = ["add_arguments", "run"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _action(commands, "ls", "list calls and events, the latest last")
    listing.add_argument("-n", "--limit", type=int, default=20, help="at most so many (0: all)")
    listing.add_argument("--model", help="only this model name")
    listing.add_argument("--status", help='only calls that ended so, as "error: request"')
    listing.add_argument("--context", help="only this context and those below it")
    listing.add_argument("--text", help="only calls whose prompt or answer holds this text")
    listing.add_argument("--since", type=_age, metavar="AGE", help="only the last 30m, 12h, 7d ...")
    _action(commands, "show", "one call whole").add_argument("number", type=int)
    comparing = _action(commands, "diff", "two calls compared, prompt and answer")
    comparing.add_argument("one", type=int)
    comparing.add_argument("other", type=int)
    exporting = _action(commands, "export", "all answers as JSON Lines, to keep in git and replay")
    exporting.add_argument("file", type=Path)
    _add_prune(_action(commands, "prune", "remove answers, media and, if asked, rows"))
    _action(commands, "verify", "check that the file is sound")


def _action(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    action.add_argument(
        "--path", type=Path, metavar="FILE",
        help=".aitoolman/ledger.db, here or beside config/llm_config.toml, unless given",
    )  # fmt: skip
    action.add_argument("--json", action="store_true", help="print JSON")
    return action


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before", type=_age, metavar="AGE", help="what is older than 30d, 12h ..."
    )
    parser.add_argument("--model", help="only answers of this model name")
    parser.add_argument("--all", action="store_true", help="everything")
    parser.set_defaults(refuse=parser.error)
    parser.add_argument("--calls", action="store_true", help="the list of calls and events as well")


def _age(text: str) -> float:
    """The Unix time so long ago."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise ValueError(text)
    return time.time() - float(found[1]) * _UNITS[found[2]]


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 where `verify` finds something or calls differ, 2 for wrong arguments."""
    from .._ledger.reader import Ledger

    return _ACTIONS[arguments.action](Ledger(arguments.path or _found()), arguments)


def _found() -> Path:
    """The ledger of the project in the working directory.

    Raises:
        FileNotFoundError: There is none; the places are named.
    """
    places = ledger_files()
    for path in places:
        if path.exists():
            return path
    looked = " nor at ".join(str(path) for path in places)
    raise FileNotFoundError(f"there is no ledger at {looked}; name its file with --path")


def _ls(ledger: Ledger, arguments: argparse.Namespace) -> int:
    calls = ledger.calls(
        arguments.limit or None,
        context=arguments.context,
        model=arguments.model,
        status=arguments.status,
        text=arguments.text,
        since=arguments.since,
    )
    if arguments.json:
        for call in calls:
            _print_json(_plain(call))
    else:
        print(calls)
    return 0


def _show(ledger: Ledger, arguments: argparse.Namespace) -> int:
    call = ledger.call(arguments.number)
    if arguments.json:
        whole = {"request": call.request, "response": call.response, "fragments": call.fragments}
        _print_json(_plain(call.row) | whole)
    else:
        print(call)
    return 0


def _diff(ledger: Ledger, arguments: argparse.Namespace) -> int:
    diff = ledger.diff(arguments.one, arguments.other)
    if arguments.json:
        _print_json({"one": arguments.one, "other": arguments.other, "diff": diff})
    else:
        print(diff or "prompt and answer are the same")
    return 1 if diff else 0


def _export(ledger: Ledger, arguments: argparse.Namespace) -> int:
    count = ledger.export(arguments.file)
    _tell(arguments, {"answers": count}, f"{count} answers written to {arguments.file}")
    return 0


def _prune(ledger: Ledger, arguments: argparse.Namespace) -> int:
    if not arguments.all and arguments.before is None and arguments.model is None:
        arguments.refuse("say what to remove: --before AGE, --model NAME or --all")
    removed = ledger.prune(before=arguments.before, model=arguments.model, calls=arguments.calls)
    told = ", ".join(f"{count} {table}" for table, count in removed.items())
    _tell(arguments, removed, f"removed from {ledger.path}: {told}")
    return 0


def _verify(ledger: Ledger, arguments: argparse.Namespace) -> int:
    problems = ledger.verify()
    _tell(arguments, {"problems": problems}, "\n".join(problems) or f"{ledger.path} is sound")
    return 1 if problems else 0


def _tell(arguments: argparse.Namespace, values: dict[str, Any], text: str) -> None:
    if arguments.json:
        _print_json(values)
    else:
        print(text)


def _plain(call: CallRow) -> dict[str, Any]:
    values = {k: v for k, v in call._asdict().items() if v is not None}
    for name in ("attempts", "fields"):
        if name in values:
            values[name] = json.loads(values[name])
    if call.fingerprint is not None:
        values["fingerprint"] = call.fingerprint.hex()
    return values | {"from_ledger": bool(call.from_ledger)}


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


_ACTIONS = {
    "ls": _ls,
    "show": _show,
    "diff": _diff,
    "export": _export,
    "prune": _prune,
    "verify": _verify,
}
