"""``aitoolman doctor``: is the configuration right, and what can its endpoints do?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from .._batch.words import plural
from .._datamodel import LLMConfigError
from .agreement import left_to_the_program, missing_models
from .places import PROMPT_FILES, PROVIDER_FILES, prompt_file, provider_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .._application.modules import ModuleSet
    from .._config import ModelEntry, ProviderConfig
    from .probes import Finding, Report

_SIGNS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE",
        help=f"provider file (default: {' or '.join(PROVIDER_FILES)})",
    )  # fmt: skip
    parser.add_argument(
        "-p", "--prompts", metavar="FILE",
        help="prompt file, checked by itself and against the other"
        f" (default: without -c, {' or '.join(PROMPT_FILES)} where there is one)",
    )  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="check the files, send nothing")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these [api] entries")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 where all is well, 1 where something has to be fixed, 2 for a wrong file."""
    from .._config import load_config
    from .._provider.checking import checked_config

    source = arguments.config or provider_file() or PROVIDER_FILES[0]
    prompts = arguments.prompts or (None if arguments.config else prompt_file())
    try:
        table = load_config(source)
        config = checked_config(table)
        print(f"{source}: {plural(len(config.entries), 'model')}, all keys valid")
        modules = _modules(prompts) if prompts else None
    except (LLMConfigError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 2
    broken = [*_dangling(config), *(missing_models(modules, config) if modules else ())]
    _print_findings(broken, left_to_the_program(modules) if modules else ())
    if arguments.offline:
        return int(bool(broken))
    reports = asyncio.run(_examine(table, _chosen(config, arguments.models)))
    for report in reports:
        _print_report(report, config.entries[report.name])
    return int(bool(broken) or not all(report.healthy for report in reports))


def _modules(path: str | Path) -> ModuleSet:
    from .._application.modules import ModuleSet
    from .._config import load_config

    modules = ModuleSet(load_config(path))
    print(f"{path}: {plural(len(modules), 'module')}, all templates valid")
    return modules


def _dangling(config: ProviderConfig) -> Iterator[str]:
    """A sentence for each alias that leads nowhere."""
    for alias, targets in config.aliases.items():
        missing = [t for t in targets if "${" not in t and t not in config.entries]
        if missing:
            yield f'[model_alias] "{alias}": there is no [api] entry {", ".join(missing)}'


def _print_findings(broken: Iterable[str], notes: Iterable[str]) -> None:
    for sign, sentences in (("fail", broken), ("note", notes)):
        for sentence in sentences:
            print(f"{_SIGNS[sign]}  {sentence}")


def _chosen(config: ProviderConfig, names: list[str]) -> list[ModelEntry]:
    entries = {e.name: e for name in names for e in config.candidates(name)}
    return list(entries.values()) if names else list(config.entries.values())


async def _examine(table: Any, entries: list[ModelEntry]) -> list[Report]:
    from .._transport.local import LLMLocalClient
    from .probes import examine_all

    # A probe wants to know the first answer, not the patience of the retries.
    quick = {**table, "default": {**table.get("default", {}), "max_retries": 0, "timeout": 60}}
    quick["api"] = {name: _without_patience(entry) for name, entry in table["api"].items()}
    async with LLMLocalClient(quick, ledger=False) as client:
        return await examine_all(client, entries)


def _without_patience(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("max_retries", "timeout")}


def _print_report(report: Report, entry: ModelEntry) -> None:
    print(f"\n{report.name}  ({entry.type}, {entry.model})")
    for finding in report.findings:
        _print_finding(finding)
    if report.settings:
        print("  recommended:")
        for line in recommended(report, entry):
            print(f"    {line}")


def _print_finding(finding: Finding) -> None:
    print(f"  {_SIGNS[finding.level]}  {finding.check}: {finding.text}")
    if finding.fix:
        print(f"        -> {finding.fix}")


def recommended(report: Report, entry: ModelEntry) -> list[str]:
    """The TOML lines to add to the entry's table."""
    lines = [f"[api.{json.dumps(entry.name)}]"]
    lines += [f"{key} = {_toml(value)}" for key, value in report.settings.items()]
    return lines


def _toml(value: Any) -> str:
    """JSON's words for booleans, strings and lists are TOML's, too."""
    return json.dumps(value, ensure_ascii=False)
