"""``aitoolman client``: chat with any configured model, or send one message through a pipe."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from .._datamodel import LLMApplicationError, LLMConfigError, LLMError
from .._provider.model_files import KNOWN_MODELS
from .chat import Chat, media_from
from .places import (
    PROMPT_FILES,
    PROVIDER_FILES,
    add_processors,
    functions,
    prompt_file,
    provider_file,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .._config import ModelEntry, ProviderConfig
    from .._datamodel import LLMModuleResult
    from .._transport.client import LLMClient

EMBEDDED_OPTIONS = {"frequency_penalty": 0.5, "max_tokens": 200}
EMBEDDED = (
    "(the embedded model answers{}: with 135 million parameters it shows how things work, knows"
    " very little, and is often wrong)"
)
SILENT_SECONDS = 1.0
COMMANDS = """\
A line is a message. Commands:
  /media FILE   send a file with the next message
  /reset        forget the conversation
  /help         this text
  /quit         end (also Ctrl-D); Ctrl-C ends an answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-c", "--config", metavar="FILE",
        help=f"provider file, or: demo (default: {' or '.join(PROVIDER_FILES)}, else demo)",
    )  # fmt: skip
    where.add_argument(
        "-r", "--router-endpoint", metavar="ENDPOINT", help="a running service: tcp://host:5555"
    )
    parser.add_argument("-a", "--auth", metavar="TOKEN", help="the service's token")
    parser.add_argument("-m", "--model", help="model or alias (default: the file's only one)")
    parser.add_argument("--module", help="send messages through this module")
    parser.add_argument(
        "-p", "--prompts", metavar="FILE",
        help=f"where the module is (default: {' or '.join(PROMPT_FILES)})",
    )  # fmt: skip
    add_processors(parser)
    parser.add_argument("-s", "--system", metavar="TEXT", help="system prompt")
    parser.add_argument(
        "--media", metavar="FILE", action="append", default=[], help="send a file along"
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="the longest answer")
    parser.add_argument("--no-stream", action="store_true", help="show an answer when it is whole")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 where every answer was good, 1 after a failed one, 2 for wrong arguments."""
    try:
        with _chat(arguments) as chat:
            if sys.stdin.isatty():
                return _converse(chat)
            return _one_message(chat, sys.stdin.read())
    except (LLMError, LLMConfigError, OSError, ValueError) as exc:
        return _complain(exc)


def _complain(exc: Exception) -> int:
    print(f"aitoolman client: {exc}", file=sys.stderr)
    wrong_use = isinstance(exc, (LLMConfigError, LLMApplicationError, OSError, ValueError))
    return 2 if wrong_use else 1


@contextlib.contextmanager
def _chat(arguments: argparse.Namespace) -> Iterator[Chat]:
    from .._application.app import LLMApplication
    from .._config import load_config

    prompts = arguments.prompts or (prompt_file() if arguments.module else None)
    if arguments.module and not prompts:
        raise ValueError(
            "--module needs the file that defines it: -p FILE (there is no"
            f" {' and no '.join(PROMPT_FILES)} here)"
        )
    config = load_config(prompts) if prompts else None
    client = _client(arguments)
    try:
        app = LLMApplication(client, config, functions(arguments.processors))
        asked = arguments.model or (arguments.module and app[arguments.module].config.model)
        if arguments.router_endpoint and asked:
            _meet(client, arguments.router_endpoint, app._modules.alias(asked))
        model = arguments.model or (None if arguments.module else _only_model(client))
        options = {"max_tokens": arguments.max_tokens} if arguments.max_tokens else {}
        name = app._modules.alias(str(model or asked))
        embedded = _embedded(client, name)
        if embedded:
            print(_introduction(embedded, name), file=sys.stderr)
        if embedded and model:
            options = _against_repetition(embedded) | options
        chat = Chat(
            app, model, arguments.module, arguments.system, options or None,
            not arguments.no_stream,
        )  # fmt: skip
        chat.media = [media_from(path) for path in arguments.media]
        yield chat
    finally:
        client.sync.close()


def _client(arguments: argparse.Namespace) -> LLMClient:
    from .._connect import connect

    if arguments.router_endpoint:
        options: dict[str, Any] = {"token": arguments.auth} if arguments.auth else {}
        return connect(arguments.router_endpoint, **options)
    return connect(arguments.config or provider_file() or "demo")


def _meet(client: LLMClient, endpoint: str, model: str) -> None:
    """Wait for the server's first word; where that takes long, say for whom.

    Raises:
        LLMApiRequestError: The server is not there, refuses, or has no such model.
    """
    notice = threading.Timer(
        SILENT_SECONDS, print, [f"waiting for {endpoint}"], {"file": sys.stderr, "flush": True}
    )
    notice.daemon = True
    notice.start()
    try:
        client.sync.describe(model)
    finally:
        notice.cancel()


def _only_model(client: LLMClient) -> str:
    """The model of a file that has just one.

    Raises:
        ValueError: There are several, or the client does not say.
    """
    config: ProviderConfig | None = getattr(client, "config", None)
    entries, aliases = (list(config.entries), list(config.aliases)) if config else ([], [])
    if len(entries) == 1:
        return entries[0]
    known = f"; there are {', '.join([*aliases, *entries])}" if entries else ""
    raise ValueError(f"name a model with -m (or a module with -p FILE --module NAME){known}")


def _embedded(client: LLMClient, model: str) -> ModelEntry | None:
    """The entry of a model that runs on this machine, where `model` is one."""
    config: ProviderConfig | None = getattr(client, "config", None)
    if config is None:
        return None
    with contextlib.suppress(LLMError, LLMConfigError):  # told when it is asked
        entry = config.candidates(model)[0]
        return entry if entry.model in KNOWN_MODELS and entry.type == "llamacpp" else None
    return None


def _introduction(entry: ModelEntry, name: str) -> str:
    """Which model this is; a name such as ``GPT-4`` may promise another one."""
    return EMBEDDED.format("" if name == entry.name else f" for {name!r}")


def _against_repetition(entry: ModelEntry) -> dict[str, Any]:
    """What keeps so small a model from saying the same until its limit; the user's file wins."""
    chosen = entry.body_options if entry.file else {}
    return {name: value for name, value in EMBEDDED_OPTIONS.items() if name not in chosen}


def _one_message(chat: Chat, text: str) -> int:
    """A pipe: the answer goes to stdout as it comes, everything else to stderr."""
    channels = {"answer": chat.app.channels["stdout"]}
    with _printed(channels):
        result = chat.say(text.removesuffix("\n"))
    return _outcome(result)


def _converse(chat: Chat) -> int:
    print("type a message; /help lists commands", file=sys.stderr)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives the prompt a history
    last = 0
    while True:
        try:
            line = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return last
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit ends)", file=sys.stderr)
            continue
        if line.strip() == "/quit":
            return last
        if line.startswith("/"):
            _command(chat, line)
        elif line.strip():
            last = _turn(chat, line)


def _command(chat: Chat, line: str) -> None:
    name, _, rest = line.partition(" ")
    if name == "/reset":
        chat.reset()
        print("(forgotten)", file=sys.stderr)
    elif name == "/media":
        try:
            chat.media.append(media_from(rest.strip()))
            print("(goes out with the next message)", file=sys.stderr)
        except (OSError, ValueError) as exc:
            print(exc, file=sys.stderr)
    else:
        print(COMMANDS, file=sys.stderr)


def _turn(chat: Chat, line: str) -> int:
    """One message on a terminal; Ctrl-C ends the answer and not the program."""
    channels = {"reasoning": chat.app.channels["reasoning"], "answer": chat.app.channels["stdout"]}
    try:
        with _printed(channels):
            result = chat.say(line)
    except KeyboardInterrupt:
        print("\n(interrupted)", file=sys.stderr)
        return 130
    except (LLMError, OSError, ValueError) as exc:
        return _complain(exc)
    return _outcome(result)


def _printed(channels: dict[str, Any]) -> Any:
    """Show channels in the terminal's way: the answer plainly, reasoning apart and dimmed."""
    from .._transport.show import show
    from .terminal import TerminalCollector

    view = show(channels)
    view.collector = TerminalCollector(channels)
    return view


def _outcome(result: LLMModuleResult) -> int:
    try:
        result.raise_for_status()
    except LLMError as exc:
        print(f"aitoolman client: {exc}", file=sys.stderr)
        return 1
    for call in result.tool_calls:
        print(f"tool call: {call.name}({call.arguments_text})", file=sys.stderr)
    return 0
