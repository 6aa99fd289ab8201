"""What `.`, `\\d`, `\\w`, `\\s`, `\\b` and `\\p` stand for in ECMA-262.

Whether a code point has a property depends on the version of Unicode: the lower reading of an expression holds what
matches under all of them, the upper what matches under some; between negations the two swap.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automata.alphabet import Ranges, scalars, without
from engine.schema.regex.tree import Choice, Look, Node, Sequence, Set
from engine.schema.regex.unicode_sets import DIGIT, LINE_ENDS, SPACE, WORD, property_ranges, unassigned

DOT = without(LINE_ENDS)
"""`.`"""


def named_class(letter: str) -> Ranges:
    """`\\d`, `\\w`, `\\s` and their negations."""
    plain = {"d": DIGIT, "w": WORD, "s": SPACE}[letter.lower()]
    return without(plain) if letter.isupper() else plain


@lru_cache(maxsize=128)
def property_class(name: str, negative: bool, upper: bool) -> Ranges:
    """`\\p{name}` or `\\P{name}`. Raises UnknownProperty."""
    inside = property_ranges(name)
    if negative:
        return without(inside if upper else scalars([*inside, *unassigned()]))
    return scalars([*inside, *unassigned()]) if upper else inside


def word_edge(negative: bool) -> Node:
    """`\\b` or `\\B` as lookarounds: a word character on exactly one side, or on both or none."""
    before, not_before = Look(Set(WORD), False, False), Look(Set(WORD), False, True)
    after, not_after = Look(Set(WORD), True, False), Look(Set(WORD), True, True)
    if negative:
        return Choice((Sequence((before, after)), Sequence((not_before, not_after))))
    return Choice((Sequence((before, not_after)), Sequence((not_before, after))))
