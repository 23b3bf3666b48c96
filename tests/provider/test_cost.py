"""Money: cached and reasoning tokens counted once, failures included, unknown stays unknown."""

from __future__ import annotations

import pytest

from aitoolman._config import Price
from aitoolman._datamodel import Attempt
from aitoolman._provider.cost import token_cost, total_cost

FULL = Price(input=2.0, output=10.0, cached_input=0.5)


@pytest.mark.parametrize(
    ("price", "prompt", "completion", "cached", "cost"),
    [
        (FULL, 1_000_000, 0, 0, 2.0),
        (FULL, 1_000_000, 1_000_000, 400_000, 0.6 * 2 + 0.4 * 0.5 + 10),
        (Price(2.0, 10.0), 1_000_000, 0, 400_000, 2.0),
        (FULL, 100, 0, 1_000_000, 100 * 0.5 / 1e6),
        (None, 1, 1, None, None),
        (FULL, None, 5, None, None),
        (FULL, 5, None, None, None),
        (Price(input=2.0), 10, 5, None, None),
        (Price(input=2.0), 1_000_000, 0, None, 2.0),
        (Price(0.0, 0.0), 10, 10, None, 0.0),
    ],
)
def test_what_tokens_cost(price, prompt, completion, cached, cost):
    """Cached tokens are part of the prompt's; a missing count or needed price is unknown."""
    found = token_cost(price, prompt, completion, cached)
    assert found == (None if cost is None else pytest.approx(cost))


def test_the_total_is_unknown_where_one_attempt_is():
    """Zero is a sum, unknown is not zero."""

    def attempt(cost):
        return Attempt("m", 0, 0, "ok", cost=cost)

    assert total_cost([attempt(0.0), attempt(1.5)]) == 1.5
    assert total_cost([attempt(None), attempt(1.5)]) is None
    assert total_cost([]) is None
