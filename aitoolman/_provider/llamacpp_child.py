"""The process around llama.cpp's server; run as a file, it imports nothing of this package.

In:  one line of JSON on stdin: ``model``, ``n_ctx``, ``n_parallel``, ``n_threads``, ``api_key``,
     ``search`` (folders for imports). The end of stdin means that the parent is gone.
Out: one line of JSON on stdout: ``{"url": ...}`` when it serves, or ``{"error": ...}``.

The engine deadlocks when its server is dropped while it answers, so the process is ended instead:
`os._exit` runs no destructors.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, NoReturn

ERRORS_ONLY = 1
"""The engine's verbosity: what it says goes to stderr, whose tail explains a death."""


def main() -> None:
    """Serve until stdin ends."""
    answers = _take_stdout()
    config = json.loads(sys.stdin.readline() or "{}")
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        server = _serve(config)
    except Exception as exc:  # noqa: BLE001 - whatever it was, the parent shall know
        _say(answers, {"error": f"{type(exc).__name__}: {exc}"})
        _exit(1)
    _say(answers, {"url": server.listening_address})
    threading.Event().wait()


def _serve(config: dict[str, Any]) -> Any:
    sys.path += [folder for folder in config["search"] if folder not in sys.path]
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.n_ctx = config["n_ctx"]
    params.n_parallel = config["n_parallel"]
    params.cpuparams.n_threads = config["n_threads"]
    params.cpuparams_batch.n_threads = config["n_threads"]
    params.api_keys = [config["api_key"]]
    params.port = 0
    params.verbosity = ERRORS_ONLY
    return xllamacpp.Server(params)


def _take_stdout() -> int:
    """Keep stdout for answers; what the engine prints there goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _say(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, json.dumps(message).encode() + b"\n")


def _end_with_stdin() -> None:
    while sys.stdin.readline():
        pass
    _exit(0)


def _exit(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
