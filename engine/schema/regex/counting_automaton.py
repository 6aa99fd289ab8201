"""Patterns whose repeats are counted: an automaton over the pattern's own positions with a number beside each repeat.

Glushkov's construction with counters (Gelade, Gyssens and Martens 2009). Only for patterns in which the text tells at
each character which position it is at; then a state is one position and one number a repeat, however high they go. From
each state some word ends, since every repeat can go on up to its least number and then be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

from engine.schema.automata.alphabet import NO_CLASS, Ranges, partition, plainest
from engine.schema.automata.automaton import Automaton
from engine.schema.regex.parser import parse
from engine.schema.regex.tree import Choice, Edge, Node, Repeat, Sequence, Set

MOST_POSITIONS = 200
MOST_CHARACTERS = 10_000
"""Of the shortest word."""
KEPT = 16
"""Positions that a repeat may have together and stay a repeat in `without_counts`."""
_REMEMBERED = 100_000
"""Moves of all automata."""

State = tuple[int, tuple[int, ...]]
"""The position (0: nothing is read), and of each counted repeat, how often it has begun; 0 outside of it."""


class NotCountableError(Exception):
    """The text does not tell where in the pattern it is, or the pattern asks for more than sets of characters."""


@dataclass(frozen=True, slots=True)
class _Move:
    """To `target`, out of the repeats `leaves`, once more around `again` (-1: none), into those in `enters`."""

    target: int
    leaves: tuple[int, ...]
    again: int
    enters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Counted:
    """A repeat: its bounds, those that `without_counts` keeps, and how long its part is."""

    low: int
    high: int | None
    kept_low: int
    kept: bool
    fewest: int
    most: int | None


@dataclass(slots=True)
class _Part:
    """A part of the pattern: where it begins and ends, and the lengths of its words, up to `gap` apart."""

    fewest: int
    most: int | None
    gap: int
    first: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    last: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    positions: range = range(0)
    nullable: bool = False


_End = tuple[int, tuple[int, ...]]


_moves: dict[tuple[CountingAutomaton, State, str], Any] = {}


class CountingAutomaton:
    """Deterministic. Made by `counting_automaton`."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._sets: list[Ranges] = [()]
        self._counted: list[_Counted] = []
        self._around: list[list[int]] = [[]]
        self._after: list[tuple[int, int | None]] = [(0, 0)]
        self._from: list[dict[_Move, None]] = [{}]
        whole = self._part(_unanchored(parse(pattern)))
        if whole.fewest > MOST_CHARACTERS:
            raise NotCountableError
        self._ends: list[list[tuple[int, ...]]] = [[] for _ in self._sets]
        for at, leaves in whole.last:
            self._ends[at].append(leaves)
        if whole.nullable:
            self._ends[0].append(())
        self._join([(0, ())], whole.first, -1)
        self._after[0] = whole.fewest, whole.most
        self.gap = whole.gap
        """Lengths of words that are possible from one state are no further apart."""
        self.alphabet = partition(tuple(dict.fromkeys(self._sets[1:])))
        self.start: State = (0, (0,) * len(self._counted))
        classes = [self.alphabet.classes_in(ranges) if ranges else () for ranges in self._sets]
        self._table = [self._row(moves, classes) for moves in self._from]
        self.kinds = tuple(sorted({kind for part in classes for kind in part}))
        """The classes of characters that occur in words."""
        self.longest_rest = max(after for after, _ in self._after) + sum(c.low * c.fewest for c in self._counted)
        """A bound on `fewest`."""

    # How the pattern is taken apart.

    def _part(self, node: Node) -> _Part:
        if isinstance(node, Set):
            return self._set(node)
        if isinstance(node, Repeat):
            return self._repeat(node)
        if not isinstance(node, Sequence | Choice):
            raise NotCountableError
        begin = len(self._sets)
        parts = [self._part(part) for part in node.parts]
        found = self._sequence(parts, begin) if isinstance(node, Sequence) else _either(parts)
        found.positions = range(begin, len(self._sets))
        return found

    def _set(self, node: Set) -> _Part:
        if not node.ranges or len(self._sets) > MOST_POSITIONS:
            raise NotCountableError
        at = len(self._sets)
        self._sets.append(node.ranges)
        self._around.append([])
        self._after.append((0, 0))
        self._from.append({})
        return _Part(1, 1, 1, [(at, ())], [(at, ())], range(at, at + 1))

    def _sequence(self, parts: list[_Part], begin: int) -> _Part:
        found = _Part(0, 0, 1, nullable=True)
        for part in parts:
            for at in range(begin, part.positions.start):
                self._follow(at, part.fewest, part.most)
            self._join(found.last, part.first, -1)
            found.first += part.first if found.nullable else []
            found.last = part.last + (found.last if part.nullable else [])
            found.nullable = found.nullable and part.nullable
            found.fewest, found.most = found.fewest + part.fewest, _sum(found.most, part.most)
            found.gap = max(found.gap, part.gap)
        return found

    def _follow(self, at: int, fewest: int, most: int | None) -> None:
        self._after[at] = self._after[at][0] + fewest, _sum(self._after[at][1], most)

    def _repeat(self, node: Repeat) -> _Part:
        if node.maximum == 0:
            return _Part(0, 0, 1, positions=range(len(self._sets), len(self._sets)), nullable=True)
        part = self._part(node.part)
        if not part.positions:
            return part
        low, high = 0 if part.nullable else node.minimum, node.maximum
        found = _Part(
            low * part.fewest,
            None if high is None or part.most is None else high * part.most,
            part.gap if low == high else max(part.gap, part.fewest),
            part.first,
            part.last,
            part.positions,
            part.nullable or low == 0,
        )
        if high == 1:
            return found
        if high is None and low <= 1:
            self._join(part.last, part.first, -1)
            for at in part.positions:
                self._follow(at, 0, None)
            return found
        number = len(self._counted)
        kept = _is_kept(node)
        self._counted.append(
            _Counted(low, high, low if kept else min(low, _least_kept(node)), kept, part.fewest, part.most)
        )
        self._join(part.last, part.first, number)
        for at in part.positions:
            self._around[at].append(number)
        found.first = [(at, (number, *enters)) for at, enters in part.first]
        found.last = [(at, (*leaves, number)) for at, leaves in part.last]
        return found

    def _join(self, last: list[_End], first: list[_End], again: int) -> None:
        for source, leaves in last:
            for target, enters in first:
                self._from[source][_Move(target, leaves, again, enters)] = None

    def _row(self, moves: dict[_Move, None], classes: list[tuple[int, ...]]) -> dict[int, tuple[_Move, ...]]:
        row: dict[int, tuple[_Move, ...]] = {}
        for move in moves:
            for kind in classes[move.target]:
                row[kind] = (*row.get(kind, ()), move)
        for ways in row.values():
            if any(not self._are_apart(a, b) for a, b in combinations(ways, 2)):
                raise NotCountableError
        return row

    def _are_apart(self, first: _Move, second: _Move) -> bool:
        """Whether a count decides which of the two it is, one that is no more than it is without counts."""
        for a, b in ((first, second), (second, first)):
            if a.again in b.leaves:
                counted = self._counted[a.again]
                return counted.kept and counted.low == counted.high
        return False

    # Reading.

    def step(self, state: State, kind: int) -> State | None:
        """The state after a character of this class; None where no word goes on so."""
        at, counts = state
        for move in self._table[at].get(kind, ()):
            if self._may_leave(counts, move.leaves) and self._may_repeat(counts, move.again):
                reached = [*counts]
                for number in move.leaves:
                    reached[number] = 0
                for number in move.enters:
                    reached[number] = 1
                if move.again >= 0:
                    counted = self._counted[move.again]
                    reached[move.again] += counted.high is not None or reached[move.again] < counted.low
                return move.target, tuple(reached)
        return None

    def _may_leave(self, counts: tuple[int, ...], leaves: tuple[int, ...]) -> bool:
        return all(counts[number] >= self._counted[number].low for number in leaves)

    def _may_repeat(self, counts: tuple[int, ...], again: int) -> bool:
        high = None if again < 0 else self._counted[again].high
        return high is None or counts[again] < high

    def accepts(self, state: State) -> bool:
        """Whether a word may end here."""
        return any(self._may_leave(state[1], leaves) for leaves in self._ends[state[0]])

    def run(self, state: State | None, text: str) -> State | None:
        """The state after a text. A tenth of a microsecond a character where it has been before, 2 where not."""
        for character in text:
            if state is None:
                break
            key = (self, state, character)
            found = _moves.get(key, key)
            if found is key:
                if len(_moves) > _REMEMBERED:
                    _moves.clear()
                kind = self.alphabet.class_of(ord(character))
                found = _moves[key] = None if kind == NO_CLASS else self.step(state, kind)
            state = found
        return state

    def fewest(self, state: State) -> int:
        """How many more characters a word has at least."""
        at, counts = state
        needed = (max(0, (c := self._counted[n]).low - counts[n]) * c.fewest for n in self._around[at])
        return self._after[at][0] + sum(needed)

    def most(self, state: State) -> int | None:
        """And at most; None: any number."""
        at, counts = state
        total = self._after[at][1]
        for number in self._around[at]:
            counted = self._counted[number]
            if total is None or counted.high is None or counted.most is None:
                return None
            total += (counted.high - counts[number]) * counted.most
        return total

    def alike_for(self, state: State) -> int:
        """Characters up to which no word goes on in another way than one of `without_counts` does, quote aside."""
        found = MOST_CHARACTERS
        for number, counted in enumerate(self._counted):
            if not counted.kept:
                count = state[1][number]
                if counted.high is not None:
                    found = min(found, (counted.high - count) * counted.fewest)
                if counted.kept_low < counted.low:
                    begun = count if count < counted.low else 0  # or it may be left, and entered again
                    found = min(found, max(0, counted.kept_low - begun) * counted.fewest)
        return found

    def view(self, state: State, within: int) -> tuple[object, ...]:
        """All of a state that `within` characters can tell."""
        seen = []
        for number in self._around[state[0]]:
            counted, count = self._counted[number], state[1][number]
            times = within // max(1, counted.fewest) + 2
            seen.append(min(max(0, counted.low - count), times + 1))
            seen.append(times if counted.high is None else min(counted.high - count, times))
        return (state[0], *seen)

    def spans(self, kind: int) -> Ranges:
        """The characters of a class."""
        return self.alphabet.ranges[kind]

    def beside(self, automaton: Automaton) -> dict[int, list[State]]:
        """For each state of an automaton that leaves out counts, those that the same texts lead to, each repeat at its
        first time: from there most must come."""
        pairs = {(0, 0): self.start}
        queue = [*pairs]
        for at, other in queue:
            for kind, moves in self._table[at].items():
                target = automaton.run(chr(self.spans(kind)[0][0]), other)
                for pair in ((move.target, target) for move in moves if target is not None):
                    if pair not in pairs:
                        counts = [0] * len(self._counted)
                        for number in self._around[pair[0]]:
                            counts[number] = 1
                        pairs[pair] = pair[0], tuple(counts)
                        queue.append(pair)
        found: dict[int, list[State]] = {}
        for (_, other), state in pairs.items():
            found.setdefault(other, []).append(state)
        return found

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        """A plain character of each class that goes on, and where it leads."""
        for kind in self._table[state[0]]:
            target = self.step(state, kind)
            if target is not None:
                yield chr(plainest(self.spans(kind))), target


def _either(parts: list[_Part]) -> _Part:
    if not parts:
        raise NotCountableError
    found = _Part(min(part.fewest for part in parts), 0, max(part.gap for part in parts))
    for part in parts:
        found.first += part.first
        found.last += part.last
        found.nullable = found.nullable or part.nullable
        found.most = _greater(found.most, part.most)
    end: int | None = found.fewest
    for part in sorted(parts, key=lambda part: part.fewest):
        if end is not None:
            found.gap = max(found.gap, part.fewest - end)
            end = _greater(end, part.most)
    return found


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _greater(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else max(first, second)


def _unanchored(node: Node) -> Node:
    """What a pattern that is anchored on both sides holds between its anchors."""
    if isinstance(node, Choice):
        return Choice(tuple(map(_unanchored, node.parts)))
    if not isinstance(node, Sequence) or len(node.parts) < 2:
        raise NotCountableError
    if (node.parts[0], node.parts[-1]) != (Edge(False), Edge(True)):
        raise NotCountableError
    return Sequence(node.parts[1:-1])


def positions(node: Node) -> int:
    """How many characters of sets a pattern names, repeats written out."""
    if isinstance(node, Sequence | Choice):
        return sum(map(positions, node.parts))
    if isinstance(node, Repeat):
        return positions(node.part) * max(1, node.minimum, node.maximum or 0)
    return int(isinstance(node, Set))


@lru_cache(maxsize=1024)
def without_counts(node: Node) -> Node:
    """The pattern with its long repeats made endless."""
    if isinstance(node, Sequence | Choice):
        return type(node)(tuple(map(without_counts, node.parts)))
    if not isinstance(node, Repeat):
        return node
    part = without_counts(node.part)
    if _is_kept(node):
        return Repeat(part, node.minimum, node.maximum)
    return Repeat(part, min(node.minimum, _least_kept(node)), None)


def _is_kept(node: Repeat) -> bool:
    return (
        max(node.minimum, node.maximum or 0) <= 1
        or positions(without_counts(node.part)) * max(node.minimum, node.maximum or 0) <= KEPT
    )


def _least_kept(node: Repeat) -> int:
    return max(1, KEPT // max(1, positions(without_counts(node.part))))


@lru_cache(maxsize=1024)
def counting_automaton(pattern: str) -> CountingAutomaton:
    """Raises NotCountableError, and what `parse` raises. Quadratic in the pattern at worst."""
    return CountingAutomaton(pattern)
