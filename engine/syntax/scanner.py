"""Finds tokens: an automaton over all terminals of a mode, made deterministic as far as texts need it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.syntax.pattern import Automaton, Pattern, parse_pattern

MOST_CHARACTERS = 512
"""Kept by each state; others go by their signature."""


@dataclass(slots=True, eq=False)
class ScanState:
    """A place within a token."""

    scanner: Scanner = field(repr=False)
    places: frozenset[int]
    accepts: tuple[int, ...]
    """Terminals that the token is if it ends here. More than one: each is tried."""
    reaches: frozenset[int]
    """Terminals that it still can be, now or after more characters."""
    candidates: tuple[int, ...]
    """`reaches`, the likely ones first."""
    bits: int = field(repr=False)
    """`reaches`, as bits."""
    after: dict[str, ScanState | None] = field(default_factory=dict, repr=False)
    by_signature: dict[int, ScanState | None] = field(default_factory=dict, repr=False)

    def ending(self, terminal: int) -> str | None:
        """The shortest text with which the token becomes one of this terminal."""
        return self.scanner.ending(self.places, terminal)

    def step(self, character: str) -> ScanState | None:
        """The place after one more character. None: the token has ended before it."""
        signature = self.scanner.signature(character)
        if signature in self.by_signature:
            found = self.by_signature[signature]
        else:
            found = self.by_signature[signature] = self.scanner.successor(self.places, signature)
        if len(self.after) < MOST_CHARACTERS:
            self.after[character] = found
        return found


class Scanner:
    """Of a set of terminals. Of equally long tokens a literal wins, unless it is soft; then the one told first."""

    def __init__(
        self, patterns: dict[int, list[str]], literals: dict[int, str], soft: frozenset[int], *, ignorecase: bool
    ) -> None:
        self._literals = literals.keys()
        self._soft = soft
        self._order = {terminal: place for place, terminal in enumerate([*patterns, *literals])}
        self._automaton = automaton = Automaton(ignorecase)
        self._ends: dict[int, int] = {}
        self._signatures: dict[str, int] = {}
        self._states: dict[frozenset[int], ScanState] = {}
        begins = []
        for terminal, texts in patterns.items():
            begins += [self._add(terminal, parse_pattern(text)) for text in texts]
        for terminal, text in literals.items():
            begins.append(self._add(terminal, ("seq", tuple(map(re.escape, text)))))
        self._reach = self._reachable()
        self.start = self._state(automaton.closure(begins))

    def _add(self, terminal: int, pattern: Pattern) -> int:
        begin, end = self._automaton.add(pattern)
        self._ends[end] = terminal
        return begin

    def _reachable(self) -> list[frozenset[int]]:
        """By place of the automaton, the terminals that can end after it."""
        automaton = self._automaton
        before: list[list[int]] = [[] for _ in automaton.empty]
        for place, targets in enumerate(automaton.empty):
            for target in targets:
                before[target].append(place)
        for place, edges in enumerate(automaton.edges):
            for _, target in edges:
                before[target].append(place)
        found: list[set[int]] = [set() for _ in automaton.empty]
        for end, terminal in self._ends.items():
            work = [end]
            while work:
                place = work.pop()
                if terminal not in found[place]:
                    found[place].add(terminal)
                    work += before[place]
        return [frozenset(terminals) for terminals in found]

    def ending(self, places: Iterable[int], terminal: int) -> str | None:
        texts = dict.fromkeys(sorted(places, key=lambda one: self._ends.get(one) != terminal), "")
        for place in (work := list(texts)):
            if self._ends.get(place) == terminal:
                return texts[place]
            for atom, target in self._automaton.edges[place]:
                character = self._automaton.example(atom)
                for one in self._automaton.closure([target]) if character and terminal in self._reach[target] else ():
                    if one not in texts:
                        texts[one] = texts[place] + character
                        work.append(one)
        return None

    def signature(self, character: str) -> int:
        found = self._signatures.get(character)
        if found is None:
            found = self._automaton.signature(character)
            if len(self._signatures) < MOST_CHARACTERS * 16:
                self._signatures[character] = found
        return found

    def successor(self, places: frozenset[int], signature: int) -> ScanState | None:
        edges = self._automaton.edges
        targets = [target for place in places for atom, target in edges[place] if signature >> atom & 1]
        return self._state(self._automaton.closure(targets)) if targets else None

    def _state(self, places: frozenset[int]) -> ScanState:
        found = self._states.get(places)
        if found is None:
            ending = {self._ends[place] for place in places if place in self._ends}
            reaches = frozenset[int]().union(*(self._reach[place] for place in places))
            first = sorted(reaches, key=lambda one: (one in self._literals, one not in ending, self._order[one]))
            bits = sum(1 << terminal for terminal in reaches)
            state = ScanState(self, places, self._winners(ending), reaches, tuple(first), bits)
            found = self._states.setdefault(places, state)
        return found

    def _winners(self, ending: set[int]) -> tuple[int, ...]:
        literals = [terminal for terminal in ending if terminal in self._literals]
        hard = [terminal for terminal in literals if terminal not in self._soft]
        others = sorted(
            (terminal for terminal in ending if terminal not in self._literals), key=self._order.__getitem__
        )
        return tuple(hard or [*literals, *others[:1]])
