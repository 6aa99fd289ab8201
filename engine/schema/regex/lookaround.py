"""Determinisation of expressions with lookahead and lookbehind: what a set of positions cannot express alone.

Knows syntax trees. A lookbehind is an automaton that runs along from the start of the text; a lookahead becomes an
obligation, an automaton that the rest of the text has to satisfy and that runs along from there. Both are regular, so
their combination is. A lookbehind that looks forward again is not followed: PatternUnsupported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.schema.automata.alphabet import Alphabet, Ranges, partition
from engine.schema.automata.automaton import Automaton, build
from engine.schema.automata.nfa import END, START, Nfa
from engine.schema.automata.tables import DEAD, explore
from engine.schema.regex.tree import Edge, Look, Node, PatternUnsupported, Sequence, Set, walk

WORK_LIMIT = 4_000

Vector = tuple[int, ...]  # the state of each lookbehind automaton
Obligations = frozenset[tuple[int, int]]  # (automaton, its state)
Position = tuple[int, Obligations]
_State = tuple[Vector, frozenset[Position]]
Compile = Callable[[Node, bool], Automaton]
Assemble = Callable[[Nfa, Node, int], int]


@dataclass(frozen=True)
class _Tracker:
    """An automaton with its classes looked up by the classes of the whole expression."""

    automaton: Automaton
    columns: tuple[int, ...]

    def step(self, state: int, index: int) -> int:
        return DEAD if state == DEAD else self.automaton.table[state][self.columns[index]]

    def accepts(self, state: int) -> bool:
        return state in self.automaton.accepting

    def is_free(self, state: int) -> bool:
        """Nothing can go wrong any more."""
        return state in self.automaton.accepting and set(self.automaton.table[state]) == {state}


class Lookaround:
    """Turns one expression into an automaton. `compiled` and `assemble` are how `pattern` does it."""

    def __init__(self, node: Node, compiled: Compile, assemble: Assemble) -> None:
        self.node = node
        self.assemble = assemble
        sets: set[Ranges] = {part.ranges for part in walk(self.node) if isinstance(part, Set)}
        self.letters: Alphabet = partition(tuple(sorted(sets)))
        self.behind: dict[Node, int] = {}
        self.trackers: list[_Tracker] = []
        self.start = self.track(Automaton.literal(""))
        for part in walk(self.node):
            if isinstance(part, Look) and not part.ahead and part.part not in self.behind:
                _refuse_forward(part.part)
                self.behind[part.part] = self.track(compiled(Sequence((part.part, Edge(True))), True))
        self.watched = len(self.trackers)
        self.end = self.track(Automaton.literal(""))
        self.aheads: dict[tuple[Look, Vector], int] = {}

    def track(self, automaton: Automaton) -> int:
        representatives = [spans[0][0] for spans in self.letters.ranges]
        columns = tuple(automaton.alphabet.class_of(code_point) for code_point in representatives)
        self.trackers.append(_Tracker(automaton, columns))
        return len(self.trackers) - 1

    def automaton(self, search: bool) -> Automaton:
        """The whole expression; `search`: a match may begin anywhere and what follows it is free."""
        return _Run(self, self.node, search, search).automaton((0,) * self.watched)

    def obligation(self, look: Look, vector: Vector) -> int:
        """The number of the automaton that the rest of the text must satisfy when `look` stands here."""
        depends = any(isinstance(part, Look | Edge) for part in walk(look.part))
        key = (look, vector if depends else ())
        if key not in self.aheads:
            inside = _Run(self, look.part, False, True).automaton(vector)
            self.aheads[key] = self.track(~inside if look.negative else inside)
        return self.aheads[key]


def _refuse_forward(node: Node) -> None:
    for part in walk(node):
        if (isinstance(part, Look) and part.ahead) or (isinstance(part, Edge) and part.at_end):
            raise PatternUnsupported("a lookbehind that looks ahead")


class _Run:
    """Subset construction over positions with obligations, beside the lookbehind automata."""

    def __init__(self, owner: Lookaround, node: Node, search: bool, free: bool) -> None:
        self.owner = owner
        self.search = search
        self.free = free
        self.nfa = Nfa()
        self.entry = self.nfa.state()
        self.leave = owner.assemble(self.nfa, node, self.entry)
        letters = owner.letters
        self.moves: list[dict[int, list[int]]] = [{} for _ in self.nfa.edges]
        for state, edges in enumerate(self.nfa.edges):
            for ranges, target in edges:
                for index in letters.classes_in(ranges):
                    self.moves[state].setdefault(index, []).append(target)

    def automaton(self, vector: Vector) -> Automaton:
        start = (vector, self.settle(self.closure([(self.entry, frozenset())], vector)))
        return build(self.owner.letters, *explore(start, self.step, self.accepts, WORK_LIMIT))

    def step(self, state: _State) -> list[_State | None]:
        vector, positions = state
        if (self.leave, frozenset()) in positions and self.free:
            return [state] * self.owner.letters.size
        return [self.advance(vector, positions, index) for index in range(self.owner.letters.size)]

    def advance(self, vector: Vector, positions: frozenset[Position], index: int) -> _State | None:
        trackers = self.owner.trackers
        onward = tuple(trackers[number].step(state, index) for number, state in enumerate(vector))
        reached: list[Position] = [(self.entry, frozenset())] if self.search else []
        for state, obligations in positions:
            targets = self.moves[state].get(index, [])
            if state == self.leave and self.free:
                targets = [*targets, state]
            kept = self.pursue(obligations, index) if targets else None
            if kept is not None:
                reached.extend((target, kept) for target in targets)
        settled = self.settle(self.closure(reached, onward))
        return (onward, settled) if settled or self.search else None

    def pursue(self, obligations: Obligations, index: int) -> Obligations | None:
        """The obligations one character on; None when one of them is broken."""
        kept = []
        for number, state in obligations:
            tracker = self.owner.trackers[number]
            target = tracker.step(state, index)
            if target == DEAD:
                return None
            if not tracker.is_free(target):
                kept.append((number, target))
        return frozenset(kept)

    def closure(self, reached: list[Position], vector: Vector) -> set[Position]:
        found = set(reached)
        stack = list(found)
        while stack:
            state, obligations = stack.pop()
            onward = [(target, obligations) for target in self.nfa.empty[state]]
            for guard, target in self.nfa.guards[state]:
                passed = self.passes(guard, vector)
                if passed is not None:
                    onward.append((target, obligations | passed))
            for position in onward:
                if position not in found:
                    found.add(position)
                    stack.append(position)
        return found

    def passes(self, guard: object, vector: Vector) -> Obligations | None:
        """New obligations for going on past `guard` here; None when it stands in the way."""
        owner = self.owner
        if guard == START:
            return frozenset() if owner.trackers[owner.start].accepts(vector[owner.start]) else None
        if guard == END:
            return frozenset({(owner.end, 0)})
        if not isinstance(guard, Look):
            raise TypeError(f"unknown guard {guard!r}")
        if not guard.ahead:
            number = owner.behind[guard.part]
            return frozenset() if owner.trackers[number].accepts(vector[number]) != guard.negative else None
        number = owner.obligation(guard, vector)
        tracker = owner.trackers[number]
        if tracker.automaton.is_empty:
            return None
        return frozenset() if tracker.is_free(0) else frozenset({(number, 0)})

    def settle(self, positions: set[Position]) -> frozenset[Position]:
        """Only positions that can read or are final, and of one state's obligations only the least."""
        by_state: dict[int, list[Obligations]] = {}
        for state, obligations in positions:
            if self.moves[state] or state == self.leave:
                by_state.setdefault(state, []).append(obligations)
        if self.free and frozenset() in by_state.get(self.leave, []):
            return frozenset({(self.leave, frozenset())})
        return frozenset((state, least) for state, every in by_state.items() for least in _minimal(every))

    def accepts(self, state: _State) -> bool:
        return any(
            position == self.leave and all(self.owner.trackers[number].accepts(at) for number, at in obligations)
            for position, obligations in state[1]
        )


def _minimal(sets: list[Obligations]) -> list[Obligations]:
    if len(sets) == 1:
        return sets
    return [part for part in sets if not any(other < part for other in sets)]
