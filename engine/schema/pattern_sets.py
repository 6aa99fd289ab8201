"""What `.`, `\\d`, `\\w`, `\\s`, `\\b` and `\\p` stand for, from below and from above.

ECMA-262 and the validators' regex engine differ: that engine's `.` takes a carriage return, its word edges are
Unicode's, and beside lookarounds its classes are. The lower reading of an expression holds what matches under both,
the upper what matches under either; between negations the two swap.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.alphabet import Ranges, scalars, without
from engine.schema.pattern_tree import Choice, Look, Node, Sequence, Set
from engine.schema.unicode_sets import (
    DIGIT,
    LINE_ENDS,
    LINE_FEED,
    SPACE,
    WORD,
    category,
    possible_word,
    property_ranges,
    unassigned,
)

NEXT_LINE = 0x85
BYTE_ORDER_MARK = 0xFEFF


def dot(upper: bool) -> Ranges:
    """`.`"""
    return without(LINE_FEED if upper else LINE_ENDS)


@lru_cache(maxsize=16)
def named_class(letter: str, upper: bool, mixed: bool) -> Ranges:
    """`\\d`, `\\w`, `\\s` and their negations; `mixed`: the pattern has lookarounds."""
    if letter.isupper():
        return without(named_class(letter.lower(), not upper, mixed))
    plain = {"d": DIGIT, "w": WORD, "s": SPACE}[letter]
    if not mixed:
        return plain
    if letter == "s":
        only_space = scalars([*SPACE, (NEXT_LINE, NEXT_LINE)])
        return only_space if upper else tuple(span for span in SPACE if span[0] != BYTE_ORDER_MARK)
    if not upper:
        return plain
    return possible_word() if letter == "w" else scalars([*category("Nd"), *unassigned()])


@lru_cache(maxsize=128)
def property_class(name: str, negative: bool, upper: bool) -> Ranges:
    """`\\p{name}` or `\\P{name}`. Raises UnknownProperty."""
    inside = property_ranges(name)
    if negative:
        return without(inside if upper else scalars([*inside, *unassigned()]))
    return scalars([*inside, *unassigned()]) if upper else inside


@lru_cache(maxsize=4)
def word_edge(negative: bool, upper: bool) -> Node:
    """`\\b` or `\\B` as lookarounds: a word character on exactly one side, or on both or none."""
    sure, possible = Set(WORD), Set(possible_word())
    word, other = (possible, sure) if upper else (sure, possible)
    before, not_before = Look(word, False, False), Look(other, False, True)
    after, not_after = Look(word, True, False), Look(other, True, True)
    if negative:
        return Choice((Sequence((before, after)), Sequence((not_before, not_after))))
    return Choice((Sequence((before, not_after)), Sequence((not_before, after))))
