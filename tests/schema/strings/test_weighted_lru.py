"""Results kept within a bound on their parts, and lowering's symbols that are kept once."""

from __future__ import annotations

import pytest

from engine.schema.lower import lower
from engine.schema.rules.grammar import Chars, Text
from engine.schema.strings.weighted_lru import WeightedLRU, keeps


def rows() -> tuple[list[int], WeightedLRU[[int], list[int]]]:
    """The sizes that were computed, and a function of a size that keeps ten numbers."""
    asked: list[int] = []

    @keeps(10, len)
    def row(size: int) -> list[int]:
        asked.append(size)
        return [0] * size

    return asked, row


def test_the_latest_results_are_kept_within_the_bound() -> None:
    asked, row = rows()
    for size in (4, 5, 4, 3, 4, 5):
        assert len(row(size)) == size
    assert asked == [4, 5, 3, 5], "4 was used after 5, so 5 made room for 3"
    assert row.held == 9


def test_what_is_over_the_bound_by_itself_drops_nothing_else() -> None:
    asked, row = rows()
    for size in (9, 11, 11, 9):
        row(size)
    assert asked == [9, 11, 11]
    row.cache_clear()
    assert row.held == 0
    row(9)
    assert asked == [9, 11, 11, 9]


def test_an_error_is_raised_each_time() -> None:
    @keeps(10, len)
    def refuse(text: str) -> str:
        raise ValueError(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse("no")
    assert refuse.held == 0


def test_rules_of_many_schemas_share_their_symbols() -> None:
    """A full collection walks over all of them, and it holds every thread."""
    kept = [lower({"type": "string", "pattern": f"^[a-f]{{{number},{2 * number}}}x[^x]*$"}) for number in range(9, 18)]
    rules = [rule for low in kept for name, rule in low.grammar.rules.items() if name[0] == "s" and name[1] != "q"]
    texts = {id(x): x for rule in rules for sequence in rule.alternatives for x in sequence}
    plain = [x.text for x in texts.values() if isinstance(x, Text) and len(x.text) < 2]
    spans = [x.ranges for x in texts.values() if isinstance(x, Chars) and len(x.ranges) < 2]
    assert len(plain) == len(set(plain))
    assert len(spans) == len(set(spans)) > 1
