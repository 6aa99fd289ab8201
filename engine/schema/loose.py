"""Unanchored parts of an automaton, made nondeterministic: a loop that waits, and the way of the match alone.

In the automaton of "holds `abc` somewhere" every state reads every character, and a matcher's compiler walks the whole
vocabulary for each. Here one state loops and guesses where the match begins; the states of the match read only what
they are about. Knows automata only; the language stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from engine.schema.alphabet import Ranges
from engine.schema.automaton import Automaton
from engine.schema.grammar import normalise_ranges
from engine.schema.states import DEAD, states_of
from engine.schema.suffixes import Machine, components, short_digest

STATES = 160
"""Larger automata are left as they are: all pairs of states are compared."""
WIDE = 0.3
"""What a loop must wait for, as a part of the vocabulary."""
WORTH = 1.0
"""Automata that take fewer walks over the vocabulary are left as they are."""
PLACES = 3
"""Places a state on the average; more would be a product of the automaton with itself."""
GAIN = 0.8
"""The new form must cost less than this part of the old one."""
ASCII = 0x80

Move = tuple[Ranges, int]
_Place = tuple[int, int, int]
"""(loop, state, other): on the way from `loop` in `state`, while starting one character later leads to `other`.
`loop` is DEAD where the automaton is simply in `state`."""


@dataclass(frozen=True)
class Loose:
    """A nondeterministic automaton without empty moves."""

    every: tuple[tuple[Move, ...], ...]
    accepting: frozenset[int]

    @property
    def states(self) -> int:
        return len(self.every)

    @cached_property
    def table(self) -> list[list[int]]:
        """The targets of each state."""
        return [[target for _, target in moves] for moves in self.every]

    @cached_property
    def digest(self) -> str:
        return short_digest(repr((tuple(map(list, self.every)), sorted(self.accepting))))

    def moves(self, state: int) -> tuple[Move, ...]:
        return self.every[state]


@lru_cache(maxsize=1024)
def loosened(automaton: Automaton) -> Machine:
    """The same language, with waiting loops if that is cheaper. Quadratic in a circle's states at worst."""
    if automaton.states > STATES or _cost(automaton) < WORTH:
        return automaton
    members = {state: frozenset(part) for part in components(automaton) for state in part if _loops(automaton, part)}
    if not members:
        return automaton
    builder = _Builder(automaton, members)
    if not builder.waits:
        return automaton
    loose = builder.build()
    return automaton if loose is None or _cost(loose) > GAIN * _cost(automaton) else loose


def _loops(automaton: Automaton, part: list[int]) -> bool:
    """Whether a component is a circle, or one state that loops on some characters and leaves on others."""
    row = automaton.table[part[0]]
    return len(part) > 1 or (part[0] in row and any(target != part[0] for target in row))


class _Builder:
    """Finds the loops of one automaton and writes it anew around them."""

    def __init__(self, automaton: Automaton, members: dict[int, frozenset[int]]) -> None:
        self.automaton = automaton
        self.members = members
        self.table = automaton.table
        self.letters = range(automaton.alphabet.size)
        self.below = _inclusions(automaton)
        self.waits = {state: found for state in sorted(members) if self._is_wide(found := self._classes(state))}
        self.bases = {state: self._base(state) for state in range(automaton.states)}

    def _classes(self, state: int) -> set[int]:
        """Classes that can be put before any word from here without harm: waiting here is legal for them."""
        row = self.table[state]
        return {index for index in self.letters if row[index] != DEAD and self.below[row[index]] >> state & 1}

    def _is_wide(self, classes: set[int]) -> bool:
        ranges = self.automaton.alphabet.ranges
        return sum(_width(ranges[index], False) for index in classes) > WIDE

    def _base(self, state: int) -> int:
        """The state itself where it waits or loops, else one that waits and whose words are all legal here."""
        row = self.table[state]
        if state in self.waits or self._is_wide({index for index in self.letters if row[index] == state}):
            return state
        found = [base for base in self.waits if self.below[state] >> base & 1]
        return max(found, key=lambda base: (self.below[base].bit_count(), -base), default=DEAD)

    def build(self) -> Loose | None:
        """Places numbered as they are reached; None when they are many more than the states."""
        numbers: dict[_Place, int] = {(DEAD, 0, DEAD): 0}
        queue = list(numbers)
        every: list[tuple[Move, ...]] = []
        for place in queue:
            if len(queue) > PLACES * self.automaton.states:
                return None
            moves: dict[int, list[tuple[int, int]]] = {}
            for index, target in self._onward(place):
                number = numbers.setdefault(target, len(queue))
                if number == len(queue):
                    queue.append(target)
                moves.setdefault(number, []).extend(self.automaton.alphabet.ranges[index])
            every.append(tuple([(normalise_ranges(spans), target) for target, spans in moves.items()]))
        accepting = frozenset(at for at, place in enumerate(queue) if place[1] in self.automaton.accepting)
        return Loose(tuple(every), accepting)

    def _onward(self, place: _Place) -> Iterator[tuple[int, _Place]]:
        loop, state, other = place
        waits = self.waits.get(state, set()) if loop == DEAD else set()
        for index in self.letters:
            first = self.table[state][index]
            second = DEAD if other == DEAD else self.table[other][index]
            if index in waits:
                yield index, place
                second = state
            if first != DEAD and first != second:
                for target in self._places(state if loop == DEAD else loop, first, second):
                    yield index, target

    def _places(self, loop: int, state: int, other: int) -> list[_Place]:
        """Where a move ends: on the way from a loop, or at `state`, which may stand for a loop and a way from it."""
        base = self.bases.get(state, DEAD)
        if other != DEAD and base != state and (base == loop or state in self.members.get(loop, ())):
            return [(loop, state, other)]
        if base in (DEAD, state):
            return [(DEAD, state, DEAD)]
        return [(DEAD, base, DEAD), (base, state, base)]


def _inclusions(automaton: Automaton) -> list[int]:
    """Per state, the states whose words are all words from it, as bits. n^2 steps per class at worst."""
    table, letters = automaton.table, range(automaton.alphabet.size)
    everything = (1 << automaton.states) - 1
    final = sum(1 << state for state in automaton.accepting)
    sources: list[dict[int, list[int]]] = [{} for _ in letters]
    for state, row in enumerate(table):
        for index, target in enumerate(row):
            sources[index].setdefault(target, []).append(state)
    masks = [{t: sum(1 << s for s in states) for t, states in column.items()} for column in sources]
    below = [everything if state in automaton.accepting else everything & ~final for state in range(automaton.states)]
    for index in letters:  # a word that begins where nothing is legal
        dead = masks[index].get(DEAD, 0)
        for state in sources[index].get(DEAD, ()):
            below[state] &= dead
    pending = {state: everything & ~below[state] for state in range(automaton.states)}
    while pending:
        large, small = pending.popitem()
        others = states_of(small)
        for index in letters:
            leading = sources[index].get(large)
            if leading is None:
                continue
            lost = 0
            for mask in map(masks[index].get, others):
                lost |= mask or 0
            for state in leading:
                gone = below[state] & lost
                if gone:
                    below[state] ^= gone
                    pending[state] = pending.get(state, 0) | gone
    return below


def _cost(machine: Machine) -> float:
    """What masks for all states cost, in walks over the vocabulary: half of it begins with ASCII, half beyond."""
    return sum(
        _width(spans, target == state) for state in range(machine.states) for spans, target in machine.moves(state)
    )


def _width(spans: Ranges, loop: bool) -> float:
    """The part of a walk that begins with these characters; XGrammar skips ASCII tokens on which a state loops."""
    near = sum(min(high, ASCII - 1) - low + 1 for low, high in spans if low < ASCII) / ASCII
    far = 0.5 if any(high >= ASCII + 0x400 for _, high in spans) else 0.0
    return far + 0.5 * near * (1 - near**4 if loop else 1)
