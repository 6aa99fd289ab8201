"""Bounds on the length of strings beside a pattern: in its states where those stay few, else beside its automaton.

Knows automata and what their states cost the compiler of a grammar; not keywords.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automaton import Automaton, AutomatonTooLarge
from engine.schema.pattern import full_match
from engine.schema.products import meet
from engine.schema.shape import StringSet
from engine.schema.states import DEAD
from engine.schema.suffixes import suffix_digests

FOLDED_LENGTH = 128
"""Length bounds up to here become states: a chain that all schemas share. Longer ones are not in the grammar."""
FOLDED_STATES = 160
"""States a pattern and its length bounds may have together; each costs the compiler about 10 ms."""
FOLDED_WIDE = 24
"""How many of them may read most characters beyond ASCII: such a state costs 20 to 60 ms, and next to
nothing where it is learnt ahead."""
WIDE_CHAINS = {".": 64, r"\S": 32}
"""Such characters that patterns repeat, and how many times at most what follows them is learnt ahead."""
_MOST = 0x10FFFF // 2


def with_length(automaton: Automaton, low: int, high: int | None) -> tuple[StringSet, ...]:
    """Words of `low` to `high` code points. Short bounds become states, long ones stay beside the automaton."""
    inside_low = low if low <= FOLDED_LENGTH else 0
    inside_high = high if high is not None and high <= FOLDED_LENGTH else None
    try:
        inside = strings_in_both(automaton, Automaton.length(inside_low, inside_high))
    except AutomatonTooLarge:
        inside = _unfolded(automaton, inside_low, inside_high)
    outside_high = None if high == inside_high else high
    found = StringSet(inside.automaton, max(inside.low, low - inside_low), lower_of(inside.high, outside_high))
    return () if found.is_empty else (found,)


def strings_in_both(first: Automaton, second: Automaton) -> StringSet:
    """Words of both; where one is a length that would make too many states of the other, it stays beside that."""
    both = meet(first, second)
    for pattern, other in ((first, second), (second, first)):
        if not _bounds(pattern) and (bounds := _bounds(other)) and _is_costly(pattern, both):
            return _unfolded(pattern, *bounds)
    return StringSet(both)


def lower_of(first: int | None, second: int | None) -> int | None:
    """The lower of two upper bounds, None being none."""
    return second if first is None else first if second is None else min(first, second)


def _bounds(automaton: Automaton) -> tuple[int, int | None] | None:
    """The bounds that an automaton says, if it says nothing else."""
    if automaton.alphabet.size > 1 or automaton.is_empty:
        return None
    low, last = min(automaton.accepting), automaton.states - 1
    onward = automaton.table[last][0]
    if onward not in (DEAD, last) or len(automaton.accepting) != last - low + 1:
        return None
    return low, None if onward == last else last


def _is_costly(automaton: Automaton, folded: Automaton) -> bool:
    """Whether the bounds make too many states of a pattern."""
    if folded.states > max(FOLDED_STATES, automaton.states):
        return True
    return wide_states(folded) > max(FOLDED_WIDE, wide_states(automaton))


def wide_states(automaton: Automaton) -> int:
    """States that read most code points; of more than FOLDED_WIDE only those that are not learnt ahead."""
    sizes = automaton.alphabet.sizes
    reads = (sum(size for size, target in zip(sizes, row, strict=True) if target != DEAD) for row in automaton.table)
    wide = [state for state, size in enumerate(reads) if size > _MOST]
    if len(wide) <= FOLDED_WIDE:
        return len(wide)
    digests = suffix_digests(automaton)
    return sum(digests[state] not in _learnt() for state in wide)


@lru_cache(maxsize=1)
def _learnt() -> frozenset[str]:
    """What is learnt ahead of patterns, as digests of what follows each state."""
    chains = (full_match(f"{characters}{{0,{most}}}") for characters, most in WIDE_CHAINS.items())
    return frozenset(digest for chain in chains for digest in suffix_digests(chain))


def _unfolded(automaton: Automaton, low: int, high: int | None) -> StringSet:
    """Bounds beside the automaton, but for those it keeps by itself and a lower bound that is cheap to hold."""
    if 0 < low <= FOLDED_LENGTH:
        automaton, low = _with_least(automaton, low)
    return StringSet(automaton, low, high)


def _with_least(automaton: Automaton, low: int) -> tuple[Automaton, int]:
    """The automaton with the lower bound in it, and what bound stays beside it."""
    try:
        held = meet(automaton, Automaton.length(low))
    except AutomatonTooLarge:
        return automaton, low
    return (automaton, low) if low > 1 and _is_costly(automaton, held) else (held, 0)
