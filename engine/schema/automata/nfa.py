"""Nondeterministic automata with empty moves, and their determinisation: how sequences, choices and loops are joined.

Determinisation packs state sets into integers; over the limit it raises AutomatonTooLarge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from engine.schema.automata import alphabet as _alphabet
from engine.schema.automata.alphabet import Ranges
from engine.schema.automata.constructions import Made
from engine.schema.automata.tables import AutomatonTooLarge, explore, states_of

NFA_LIMIT = 50_000
WORK_LIMIT = 1_000_000

Moves = tuple[tuple[Ranges, int], ...]
"""Where a state leads: code points and target. Tuples of numbers, which garbage collections pass over."""
Parts = tuple[Sequence[Moves], Collection[int]]
"""A deterministic automaton: the moves of each state (0 starts), and the accepting states."""


@dataclass
class Nfa:
    """States are numbers. `empty[s]` are free moves, `edges[s]` moves on a set, `guards[s]` moves under a condition.

    A guard is any hashable; this module interprets START and END only.
    """

    empty: list[list[int]] = field(default_factory=list)
    edges: list[list[tuple[Ranges, int]]] = field(default_factory=list)
    guards: list[list[tuple[object, int]]] = field(default_factory=list)

    def state(self) -> int:
        """A new state."""
        if len(self.empty) >= NFA_LIMIT:
            raise AutomatonTooLarge(f"more than {NFA_LIMIT} positions")
        self.empty.append([])
        self.edges.append([])
        self.guards.append([])
        return len(self.empty) - 1

    def embed(self, parts: Parts, entry: int) -> int:
        """Attach a copy of a deterministic automaton behind `entry`; returns its exit."""
        moves, accepting = parts
        numbers = [self.state() for _ in moves]
        leave = self.state()
        self.empty[entry].append(numbers[0])
        for state, number in enumerate(numbers):
            self.edges[number].extend((spans, numbers[target]) for spans, target in moves[state])
            if state in accepting:
                self.empty[number].append(leave)
        return leave

    def repeat(self, entry: int, minimum: int, maximum: int | None, attach: Callable[[int], int]) -> int:
        """`minimum` to `maximum` times what `attach` puts behind a state, whose exit it returns; returns the exit."""
        for _ in range(minimum - (maximum is None and minimum > 0)):
            entry = attach(entry)
        leave = self.state()
        if maximum is None:
            loop = self.state()
            self.empty[entry].append(loop)
            back = attach(loop)
            self.empty[back].append(loop)
            self.empty[back if minimum else loop].append(leave)
            return leave
        self.empty[entry].append(leave)
        for _ in range(maximum - minimum):
            entry = attach(entry)
            self.empty[entry].append(leave)
        return leave


START = "start"
END = "end"


def either(ways: Iterable[Iterable[Parts]]) -> Made:
    """The words of any of these ways: one of each part, one after another."""
    nfa = Nfa()
    entry, leave = nfa.state(), nfa.state()
    for way in ways:
        at = entry
        for part in way:
            at = nfa.embed(part, at)
        nfa.empty[at].append(leave)
    return determinise(nfa, entry, leave)


def repeated(part: Parts, minimum: int, maximum: int | None) -> Made:
    """`minimum` to `maximum` words of `part`, one after another; None: no upper limit."""
    if max(minimum, maximum or 0) * len(part[0]) > NFA_LIMIT:
        raise AutomatonTooLarge(f"more than {NFA_LIMIT} positions")
    nfa = Nfa()
    entry = nfa.state()
    return determinise(nfa, entry, nfa.repeat(entry, minimum, maximum, lambda at: nfa.embed(part, at)))


def determinise(nfa: Nfa, entry: int, leave: int, search: bool = False) -> Made:
    """Subset construction (Rabin and Scott 1959). `search`: a match may begin anywhere and what follows it is free."""
    sets = sorted({spans for edges in nfa.edges for spans, _ in edges})
    letters = _alphabet.partition(tuple(sets))
    inside = {spans: letters.classes_in(spans) for spans in sets}
    closures = _Closures(nfa, leave)
    moves = _Reached(nfa, closures, inside)
    first = closures.of(entry, True)
    again = closures.of(entry, False) if search else 0
    free = 1 << leave if search else 0

    def settled(mask: int) -> int | None:
        return free if mask & free else mask or None

    def step(mask: int) -> Iterable[int | None]:
        if free and mask == free:
            return [free] * letters.size
        row = [again] * letters.size
        closures.spend(mask.bit_count())
        for state in states_of(mask):
            for classes, closure in moves[state]:
                for index in classes:
                    row[index] |= closure
        return map(settled, row) if free else [mask or None for mask in row]

    ends = closures.ends()
    rows, accepting = explore(settled(first | closures.dead) or 0, step, lambda mask: bool(mask & ends))
    if any(nfa.guards):
        accepting[0] = closures.ends_at(entry, True)
    return letters, rows, accepting


class _Reached(dict[int, list[tuple[tuple[int, ...], int]]]):
    """By state, the classes of its moves and what each of them reaches."""

    def __init__(self, nfa: Nfa, closures: _Closures, inside: dict[Ranges, tuple[int, ...]]) -> None:
        self._edges, self._closures, self._inside = nfa.edges, closures, inside
        self[len(nfa.edges)] = []

    def __missing__(self, state: int) -> list[tuple[tuple[int, ...], int]]:
        self[state] = found = [
            (self._inside[spans], self._closures.of(target, False)) for spans, target in self._edges[state]
        ]
        return found


class _Closures:
    """What a state reaches without reading, as a bit set of the states that read, wait for the end, or are final."""

    def __init__(self, nfa: Nfa, leave: int) -> None:
        self.nfa = nfa
        self.leave = leave
        self.dead = 1 << len(nfa.empty)
        self.cache: dict[int, int] = {}
        self.work = 0

    def spend(self, steps: int) -> None:
        """Count work; state sets may be few and still large."""
        self.work += steps
        if self.work > WORK_LIMIT:
            raise AutomatonTooLarge(f"more than {WORK_LIMIT} steps")

    def of(self, state: int, at_start: bool) -> int:
        if at_start:
            return self._collect(state, True)
        found = self.cache.get(state)
        if found is None:
            found = self.cache[state] = self._collect(state, False)
        return found

    def _collect(self, state: int, at_start: bool) -> int:
        mask = 0
        seen = {state}
        stack = [state]
        while stack:
            here = stack.pop()
            guards = self.nfa.guards[here]
            if self.nfa.edges[here] or here == self.leave or any(guard == END for guard, _ in guards):
                mask |= 1 << here
            onward = self.nfa.empty[here]
            if at_start and guards:
                onward = onward + [target for guard, target in guards if guard == START]
            for target in onward:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        self.spend(len(seen))
        return mask

    def ends(self) -> int:
        """The states behind which the text may end, but for its very start."""
        found = 1 << self.leave
        for state, guards in enumerate(self.nfa.guards):
            if any(guard == END for guard, _ in guards) and self.ends_at(state, False):
                found |= 1 << state
        return found

    def ends_at(self, state: int, at_start: bool) -> bool:
        """Whether the exit is reached from here when the text ends here."""
        seen = {state}
        stack = [state]
        while stack:
            here = stack.pop()
            if here == self.leave:
                return True
            passable = [t for guard, t in self.nfa.guards[here] if guard == END or (at_start and guard == START)]
            for target in [*self.nfa.empty[here], *passable]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        return False
