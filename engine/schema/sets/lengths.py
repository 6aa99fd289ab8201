"""How long the words of an automaton are, and bounds on them: beside the automaton, in its states where they must be.

A bound beside an automaton is counted while a document is written (`guards.Length`). That leads to no dead end if,
wherever a word stands, some of its endings fits between the bounds, which the gaps between the lengths of words tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.automata.components import components
from engine.schema.automata.tables import DEAD, states_of
from engine.schema.regex.pattern import from_pattern
from engine.schema.sets.shape import StringSet

FOLDED_STATES = 160
"""States that an automaton and a length may have together where the length cannot stay beside it."""
FOLDED_LENGTH = 128
"""Lengths up to here become states where nobody counts: names of keys, strings without quotes."""
_STEPS = 400_000
"""Lengths times states that are looked through for gaps."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Per state, how many more code points a word has at least and at most (None: any number). Neighbours among the
    lengths that are possible from one state are up to `gap` apart; None: nobody knows."""

    fewest: tuple[int, ...]
    most: tuple[int | None, ...]
    gap: int | None
    phase: int | None = None
    """Where all words are as long as this and a number of gaps, and go on so from wherever they stand."""


def bounded(automaton: Automaton, low: int, high: int | None) -> StringSet | None:
    """Words of `low` to `high` code points; None where there are none. Bounds that say nothing are dropped."""
    if high is not None and low > high:
        return None
    if automaton.few is not None:
        words = [word for word in automaton.few if low <= len(word) and (high is None or len(word) <= high)]
        return None if not words else StringSet(automaton if words == automaton.few else Automaton.of(words))
    if low <= 0 and high is None:
        return StringSet(automaton)
    found = measures(automaton)
    fewest, most = found.fewest[0], found.most[0]
    if (high is not None and high < fewest) or (most is not None and most < low):
        return None
    if found.gap is not None and found.phase is not None:
        low += (found.phase - low) % found.gap
        high = None if high is None else high - (high - found.phase) % found.gap
        if high is not None and high < low:
            return None
    low = low if low > fewest else 0
    high = None if high is None or (most is not None and most <= high) else high
    beside = StringSet(automaton, low, high)
    return beside if is_countable(beside) else _folded(beside)


def is_countable(part: StringSet) -> bool:
    """Whether counting code points holds the bounds and leads to no dead end. An upper bound alone always does."""
    if not part.low:
        return True
    found = measures(part.automaton)
    if found.gap is None:
        return False
    in_phase = found.phase is not None and part.low % found.gap == found.phase
    return in_phase or part.high is None or part.high - part.low + 1 >= found.gap


def _folded(part: StringSet) -> StringSet | None:
    try:
        both = part.automaton & Automaton.length(part.low, part.high)
    except AutomatonTooLarge:
        return part
    if both.is_empty:
        return None
    return StringSet(both) if both.states <= max(FOLDED_STATES, part.automaton.states) else part


def in_states(part: StringSet) -> tuple[Automaton, bool]:
    """The automaton with its bounds in it, for a place where nobody counts, and whether all of them are."""
    low = part.low if part.low <= FOLDED_LENGTH else 0
    high = part.high if part.high is not None and part.high <= FOLDED_LENGTH else None
    try:
        automaton = part.automaton if part.pattern is None else from_pattern(part.pattern)
        return automaton & Automaton.length(low, high), (low, high) == (part.low, part.high)
    except AutomatonTooLarge:
        return part.automaton, not part.is_bounded


def lower_of(first: int | None, second: int | None) -> int | None:
    """The lower of two upper bounds, None being none."""
    return second if first is None else first if second is None else min(first, second)


@lru_cache(maxsize=1024)
def measures(automaton: Automaton) -> Measures:
    """Linear where every end of a word can be an end one character later, else quadratic at worst."""
    sources = [0] * automaton.states
    for state, row in enumerate(automaton.table):
        for target in set(row) - {DEAD}:
            sources[target] |= 1 << state
    accepting = sum(1 << state for state in automaton.accepting)
    fewest = [0] * automaton.states
    seen, layer, distance = accepting, accepting, 0
    while layer:
        for state in states_of(layer):
            fewest[state] = distance
        layer = _before(layer, sources) & ~seen
        seen |= layer
        distance += 1
    successors = automaton.successors
    order = components(successors)
    most = _longest(order, successors)
    if _is_dense(automaton):
        gap: int | None = 1
    else:
        finite = most[0] is not None
        gap = _gap_of_few(automaton, order, successors) if finite else _gap(accepting, sources)
    phase = None if gap is None else _phase(automaton.accepting, successors, gap)
    return Measures(tuple(fewest), most, gap, phase)


_Successors = dict[int, list[int]]


def _phase(accepting: frozenset[int], successors: _Successors, gap: int) -> int | None:
    """The length of every word by this measure; None where it is not the same."""
    depths, pending = {0: 0}, [0]
    while pending:
        state = pending.pop()
        for target in successors[state]:
            depth = (depths[state] + 1) % gap
            if target not in depths:
                depths[target] = depth
                pending.append(target)
            elif depths[target] != depth:
                return None
    found = {depths[state] for state in accepting}
    return found.pop() if len(found) == 1 else None


def _is_dense(automaton: Automaton) -> bool:
    """Whether from each state words of all lengths are possible, from its shortest one on."""
    return all(any(target in automaton.accepting for target in automaton.table[state]) for state in automaton.accepting)


def _longest(order: list[list[int]], successors: _Successors) -> tuple[int | None, ...]:
    most: list[int | None] = [0] * len(successors)
    for component in order:
        for state in component:
            lengths = [most[target] for target in successors[state]]
            if len(component) > 1 or state in successors[state] or None in lengths:
                most[state] = None
            else:
                most[state] = max((1 + length for length in lengths if length is not None), default=0)
    return tuple(most)


def _gap_of_few(automaton: Automaton, order: list[list[int]], successors: _Successors) -> int:
    """The same as `_gap` where words are not of any length. Linear."""
    lengths = [0] * automaton.states
    """By state those of its words, as bits."""
    gap = 1
    for (state,) in order:
        own = int(state in automaton.accepting)
        for target in successors[state]:
            own |= lengths[target] << 1
        lengths[state] = own
        if (own // (own & -own) + 1).bit_count() > 1:
            gap = max(gap, 1 + max(map(len, f"{own:b}".rstrip("0").split("1"))))
    return gap


def _gap(accepting: int, sources: list[int]) -> int | None:
    """The widest gap between two lengths of words from one state; None if that takes too long to find out."""
    at, length, gap = accepting, 0, 1
    seen: dict[int, int] = {}
    last: dict[int, int] = {}
    end: int | None = None
    while at and length != end:
        if length * len(sources) > _STEPS:
            return None
        if end is None and at in seen:
            end = 2 * length - seen[at]  # once more around
        seen.setdefault(at, length)
        for state in states_of(at):
            gap = max(gap, length - last.get(state, length))
            last[state] = length
        at, length = _before(at, sources), length + 1
    return gap


def _before(states: int, sources: list[int]) -> int:
    found = 0
    for state in states_of(states):
        found |= sources[state]
    return found
