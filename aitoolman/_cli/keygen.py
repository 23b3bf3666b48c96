"""``aitoolman keygen``: a random token for a server and its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--number", type=int, default=1, metavar="N", help="how many")


def run(arguments: argparse.Namespace) -> int:
    """Print the token, and nothing else, so that it can go straight into a file."""
    from .._service.security import new_token

    for _ in range(arguments.number):
        print(new_token())
    return 0
