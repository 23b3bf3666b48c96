"""docs/api.md is what the code says."""

from __future__ import annotations

import sys

import pytest

import aitoolman
from tests import api_page


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures differ by version")
def test_the_page_is_up_to_date():
    """The committed page is the generated one: run `python -m tests.api_page` after a change."""
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page()


def test_every_public_name_has_a_docstring():
    """Nothing public is without a word for its user."""
    silent = [
        name
        for name in aitoolman.__all__
        if not name.startswith("__") and not (getattr(aitoolman, name).__doc__ or "").strip()
    ]
    assert not silent
