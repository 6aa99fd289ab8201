"""Patterns that count: `^[^x]{1,2000}$` is `^[^x]*$` together with a length, which is counted while it is written.

Where a length does not say it, each repeat is counted for itself (`counting_automaton`). Knows syntax trees and
automata. Gives counts only where the strings are exactly the same.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automata.alphabet import Ranges
from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.regex.counting_automaton import (
    MOST_CHARACTERS,
    NotCountableError,
    counting_automaton,
    positions,
    without_counts,
)
from engine.schema.regex.parser import parse
from engine.schema.regex.pattern import compile_tree, from_pattern
from engine.schema.regex.tree import Choice, Edge, Node, Repeat, Sequence, Set, walk
from engine.schema.sets.lengths import bounded, lower_of, measures
from engine.schema.sets.shape import StringSet

MANY, MANY_WIDE = 16, 2
"""How often a set is repeated at least, and a set of most characters, where counting is worth it."""
_WIDE = 0x10FFFF // 2
MANY_POSITIONS = 100
"""Characters of a pattern, repeats written out, from which on these are counted."""
COMPARED = 1_000
"""States of a pattern that is compared with its uncounted form."""


@lru_cache(maxsize=1024)
def counted_pattern(pattern: str) -> StringSet | None:
    """The strings in which `pattern` surely matches, None where there are none. Raises what `from_pattern` raises."""
    tree = parse(pattern)
    counts = any(map(_counts, walk(tree)))
    sizes = _sizes_of_whole(tree) if counts else None
    if sizes is None and positions(tree) > MANY_POSITIONS and _is_countable(pattern):
        return restricted(StringSet(compile_tree(without_counts(tree)), pattern=pattern), 0, None)
    if not counts:
        return bounded(from_pattern(pattern), 0, None)
    uncounted = compile_tree(_uncounted(tree))
    if sizes is None:
        automaton = from_pattern(pattern)
        sizes = measures(automaton).fewest[0], measures(automaton).most[0]
        if automaton.states > COMPARED or not _is_same(automaton, uncounted, *sizes):
            return bounded(automaton, 0, None)
    return bounded(uncounted, *sizes)


def _is_countable(pattern: str) -> bool:
    try:
        counting_automaton(pattern)
    except NotCountableError:
        return False
    return True


def restricted(part: StringSet, low: int, high: int | None) -> StringSet | None:
    """The strings of a part of `low` to `high` code points; None where there are none. Counts go where they do not tell
    whether some word is as long."""
    low, high = max(low, part.low), lower_of(high, part.high)
    if part.pattern is None:
        return bounded(part.automaton, low, high)
    automaton = counting_automaton(part.pattern)
    fewest, most = automaton.fewest(automaton.start), automaton.most(automaton.start)
    if (high is not None and high < max(low, fewest)) or (most is not None and most < low):
        return None
    low = low if low > fewest else 0
    high = None if high is None or (most is not None and most <= high) else high
    if low > MOST_CHARACTERS or (low and high is not None and high - low + 1 < automaton.gap):
        return bounded(from_pattern(part.pattern), low, high)
    return StringSet(part.automaton, low, high, part.pattern)


@lru_cache(maxsize=1024)
def both_strings(a: StringSet, b: StringSet) -> StringSet | None:
    """The strings in both."""
    if a.pattern is None or (b.pattern is not None and b.pattern != a.pattern):
        a, b = b, a
    if a.pattern is None:
        return bounded(a.automaton & b.automaton, max(a.low, b.low), lower_of(a.high, b.high))
    if b.pattern == a.pattern or (b.pattern is None and b.automaton.is_universal):
        return restricted(a, b.low, b.high)
    if b.pattern is None and b.automaton.few is not None:
        automaton = counting_automaton(a.pattern)
        ends = [(word, automaton.run(automaton.start, word)) for word in b.automaton.few]
        words = [word for word, end in ends if end is not None and automaton.accepts(end)]
        return bounded(Automaton.of(words), max(a.low, b.low), lower_of(a.high, b.high)) if words else None
    return both_strings(uncounted(a), uncounted(b))


def uncounted(part: StringSet) -> StringSet:
    """The same with the pattern's counts in states. AutomatonTooLarge where they are too many."""
    return part if part.pattern is None else StringSet(from_pattern(part.pattern), part.low, part.high)


def _is_same(automaton: Automaton, uncounted: Automaton, low: int, high: int | None) -> bool:
    try:
        return (uncounted & Automaton.length(low, high)) == automaton
    except AutomatonTooLarge:
        return False


def _counts(node: Node) -> bool:
    if not isinstance(node, Repeat) or not isinstance(node.part, Set):
        return False
    return max(node.minimum, node.maximum or 0) >= (MANY_WIDE if _is_wide(node.part.ranges) else MANY)


def _is_wide(ranges: Ranges) -> bool:
    return sum(high - low + 1 for low, high in ranges) > _WIDE


def _uncounted(node: Node) -> Node:
    if isinstance(node, Repeat):
        bounds = (0, None) if _counts(node) else (node.minimum, node.maximum)
        return Repeat(_uncounted(node.part), *bounds)
    if isinstance(node, Sequence | Choice):
        return type(node)(tuple(map(_uncounted, node.parts)))
    return node


def _sizes_of_whole(tree: Node) -> tuple[int, int | None] | None:
    """The lengths of a pattern that is anchored on both sides and of fixed size but for one set that is repeated: what
    stands before and behind it is told from it by its place."""
    parts = tree.parts if isinstance(tree, Sequence) else ()
    if len(parts) < 3 or parts[0] != Edge(False) or parts[-1] != Edge(True):
        return None
    counted = [part for part in parts[1:-1] if _counts(part)]
    fixed = [_fixed_size(part) for part in parts[1:-1] if not _counts(part)]
    if len(counted) != 1 or None in fixed:
        return None
    (repeat,) = counted
    assert isinstance(repeat, Repeat)
    beside = sum(size for size in fixed if size is not None)
    return beside + repeat.minimum, None if repeat.maximum is None else beside + repeat.maximum


def _fixed_size(node: Node) -> int | None:
    if isinstance(node, Set):
        return 1
    if isinstance(node, Repeat):
        size = _fixed_size(node.part)
        return None if size is None or node.minimum != node.maximum else size * node.minimum
    if isinstance(node, Sequence | Choice):
        sizes = [_fixed_size(part) for part in node.parts]
        if None in sizes or (isinstance(node, Choice) and len(set(sizes)) > 1):
            return None
        known = [size for size in sizes if size is not None]
        return sum(known) if isinstance(node, Sequence) else known[0]
    return None
