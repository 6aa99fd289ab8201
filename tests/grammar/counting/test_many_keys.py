"""A set of many keys is a set, whichever way it grew, and older ones stay what they were."""

from __future__ import annotations

from collections.abc import Set

from hypothesis import given
from hypothesis import strategies as st

from engine.grammar.counting.cursor import Cursor
from engine.grammar.counting.many_keys import ManyKeys, with_key

names = st.integers(0, 300).map(str)


@given(st.integers(0, 200), st.lists(names, max_size=8), st.frozensets(names, max_size=30))
def test_it_is_the_set_of_what_was_added(size: int, more: list[str], other: frozenset[str]) -> None:
    keys: Set[str] = frozenset()
    for number in range(size):
        keys = with_key(keys, str(number))
    before, known = keys, {str(number) for number in range(size)}
    for name in more:
        keys = with_key(keys, name)
    full = known | set(more)
    assert (before, set(before), len(before)) == (known, known, len(known))
    assert (keys, set(keys), len(keys)) == (full, full, len(full))
    assert keys & other == other & keys == full & other
    assert (other - keys, keys - other) == (other - full, full - other)
    assert (other <= keys, keys <= other) == (other <= full, full <= other)
    assert (str(size + 1) in keys) == (str(size + 1) in full)


def test_equal_ones_are_the_same_place_in_a_dictionary() -> None:
    one, other = Cursor().read(b"{"), Cursor().read(b"{")
    for number in range(150):
        one = one.read(b'"%d":1,' % number)
        other = other.read(b'"%d":1,' % (149 - number))
    assert isinstance(one.keys, ManyKeys)
    assert len({one.keys, other.keys}) == 1
