"""docs/command-line.md is what the commands say."""

from __future__ import annotations

import sys

import pytest

from tests import command_page


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse words its help by version")
def test_the_page_is_up_to_date():
    """The committed page is the generated one: run `python -m tests.command_page`."""
    assert command_page.PAGE.read_text(encoding="utf-8") == command_page.page()
