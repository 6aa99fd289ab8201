"""Regular languages over Unicode scalar values as minimal deterministic automata: the currency of all scalar keywords.

Equal languages are equal objects (`==`, `hash`, `digest`), so results are cached and rules shared by key. Every
construction may raise AutomatonTooLarge (over STATE_LIMIT work states), never runs on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b

from engine.schema.automata import alphabet as _alphabet
from engine.schema.automata import constructions
from engine.schema.automata.alphabet import Alphabet
from engine.schema.automata.constructions import has_surrogate, product
from engine.schema.automata.nfa import Moves, Parts, either, repeated
from engine.schema.automata.tables import (
    DEAD,
    STATE_LIMIT,
    AutomatonTooLarge,
    Table,
    leaves_first,
    minimise,
    number_breadth_first,
    trim,
)

__all__ = ["STATE_LIMIT", "Automaton", "AutomatonTooLarge", "build"]

FEW = 32


@dataclass(frozen=True)
class Automaton:
    """A minimal, trimmed DFA: `table[state][class]` is the next state or DEAD; state 0 starts. Made by `build`."""

    alphabet: Alphabet
    table: tuple[tuple[int, ...], ...]
    accepting: frozenset[int]

    @staticmethod
    def nothing() -> Automaton:
        """The empty language."""
        return _NOTHING

    @staticmethod
    def anything() -> Automaton:
        """Every string."""
        return _ANYTHING

    @staticmethod
    def literal(text: str) -> Automaton:
        """Exactly this string."""
        return Automaton.of([text])

    @staticmethod
    def of(words: Iterable[str]) -> Automaton:
        """Exactly these strings. A lone surrogate in a word makes that word impossible."""
        unique = sorted({word for word in words if not has_surrogate(word)})
        if not unique:
            return _NOTHING
        letters, rows, accepting = constructions.words(unique)
        return Automaton(letters, *number_breadth_first(rows, accepting))

    @staticmethod
    def either(ways: Iterable[Iterable[Automaton]]) -> Automaton:
        """For each way a word of each of its automata, one after another. One pass, where `|` and `+` take one each."""
        return build(*either([part.parts for part in way] for way in ways))

    @staticmethod
    def length(minimum: int = 0, maximum: int | None = None) -> Automaton:
        """Strings of `minimum` to `maximum` code points; None: no upper limit."""
        last = minimum if maximum is None else maximum
        if last < minimum:
            return _NOTHING
        if last >= STATE_LIMIT:
            raise AutomatonTooLarge(f"more than {STATE_LIMIT} states")
        rows: Table = [*([state + 1] for state in range(last)), [last if maximum is None else DEAD]]
        return build(_alphabet.partition(()), rows, [state >= minimum for state in range(last + 1)])

    @staticmethod
    def characters(ranges: Iterable[tuple[int, int]]) -> Automaton:
        """Strings of exactly one code point out of inclusive `ranges`."""
        spans = _alphabet.scalars(ranges)
        if not spans:
            return _NOTHING
        letters = _alphabet.partition((spans,))
        inside = set(letters.classes_in(spans))
        row = [1 if index in inside else DEAD for index in range(letters.size)]
        return build(letters, [row, [DEAD] * letters.size], [False, True])

    def __and__(self, other: Automaton) -> Automaton:
        if self.is_universal or other.is_universal:
            return other if self.is_universal else self
        return self if self == other else _both(self, other)

    def __or__(self, other: Automaton) -> Automaton:
        if self.is_universal or other.is_universal:
            return _ANYTHING
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return self if self == other else build(*product(self, other, bool.__or__))

    def __sub__(self, other: Automaton) -> Automaton:
        return _difference(self, other)

    def __invert__(self) -> Automaton:
        return _ANYTHING - self

    def __add__(self, other: Automaton) -> Automaton:
        return Automaton.either([(self, other)])

    def star(self) -> Automaton:
        """Any number of words of this language, one after another."""
        return self.repeat(0, None)

    def repeat(self, minimum: int, maximum: int | None) -> Automaton:
        """`minimum` to `maximum` words of this language, one after another; None: no upper limit."""
        return _repeat(self, minimum, maximum)

    @cached_property
    def states(self) -> int:
        """Number of live states (1 for the empty language)."""
        return len(self.table)

    @property
    def is_empty(self) -> bool:
        """No string at all is accepted."""
        return not self.accepting

    @cached_property
    def is_universal(self) -> bool:
        """Every string is accepted."""
        return self == _ANYTHING

    def accepts(self, text: str) -> bool:
        """Whether `text` is in the language. Linear in the text."""
        state = self.run(text)
        return state is not None and state in self.accepting

    def run(self, text: str, state: int = 0) -> int | None:
        """The state after `text`, None when no word begins so."""
        table, class_of = self.table, self.alphabet.class_of
        for character in text:
            index = class_of(ord(character))
            state = DEAD if index == _alphabet.NO_CLASS else table[state][index]
            if state == DEAD:
                return None
        return state

    def strings(self, limit: int) -> list[str] | None:
        """All words in code-point order when there are at most `limit`, else None. Linear in table and words."""
        total = self.count()
        if total is None or total > limit:
            return None
        words: list[str] = []
        stack = [(0, "")]
        while stack:
            state, text = stack.pop()
            if state in self.accepting:
                words.append(text)
            for spans, target in self.moves(state):
                stack.extend((target, text + chr(c)) for low, high in spans for c in range(low, high + 1))
        return sorted(words)

    def count(self) -> int | None:
        """Number of words, None when infinite. Linear in the table."""
        order = leaves_first(self.table)
        if len(order) < self.states:
            return None
        counts = [0] * self.states
        for state in order:
            steps = zip(self.alphabet.sizes, self.table[state], strict=True)
            counts[state] = (state in self.accepting) + sum(size * counts[t] for size, t in steps if t != DEAD)
        return counts[0]

    @cached_property
    def few(self) -> list[str] | None:
        """All words in code-point order when there are at most FEW, else None: enough to work on them one by one."""
        return self.strings(FEW)

    @property
    def successors(self) -> dict[int, list[int]]:
        """The states that each state leads to."""
        return {state: [t for t in dict.fromkeys(row) if t != DEAD] for state, row in enumerate(self.table)}

    def moves(self, state: int) -> Moves:
        """Where `state` leads: sorted ranges and target, one entry per target, in order of the first code point."""
        return self._moves[state]

    @cached_property
    def _moves(self) -> tuple[Moves, ...]:
        return tuple([self._moves_of(row) for row in self.table])

    @property
    def parts(self) -> Parts:
        """Moves of each state and the accepting states, as `nfa` takes them."""
        return self._moves, self.accepting

    def _moves_of(self, row: tuple[int, ...]) -> Moves:
        classes: dict[int, list[int]] = {}
        for index, target in enumerate(row):
            if target != DEAD:
                classes.setdefault(target, []).append(index)
        return tuple([(self.alphabet.union(tuple(part)), target) for target, part in classes.items()])

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the language; equal for equal languages in every process."""
        text = repr((self.alphabet.starts, self.alphabet.classes, self.table, sorted(self.accepting)))
        return blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def _hash(self) -> int:
        return hash((self.alphabet.starts, self.alphabet.classes, self.table, self.accepting))

    def __hash__(self) -> int:
        return self._hash


def build(letters: Alphabet, rows: Table, accepting: list[bool]) -> Automaton:
    """The canonical automaton of a table over `letters` (state 0 starts): trimmed, minimal, classes merged."""
    table, final = minimise(*trim(rows, accepting))
    columns: dict[tuple[int, ...], int] = {}
    labels = [columns.setdefault(column, len(columns)) for column in zip(*table, strict=True)]
    if len(columns) < letters.size:
        letters, chosen = _alphabet.coarsen(letters, labels)
        table = [[row[old] for old in chosen] for row in table]
    return Automaton(letters, *number_breadth_first(table, final))


@lru_cache(maxsize=512)
def _repeat(part: Automaton, minimum: int, maximum: int | None) -> Automaton:
    return build(*repeated(part.parts, minimum, maximum))


@lru_cache(maxsize=4096)
def _both(first: Automaton, second: Automaton) -> Automaton:
    for finite, other in ((first, second), (second, first)):
        if finite.few is not None:
            return _those(finite, [word for word in finite.few if other.accepts(word)])
    return build(*product(first, second, bool.__and__))


@lru_cache(maxsize=1024)
def _difference(first: Automaton, second: Automaton) -> Automaton:
    if second.is_empty:
        return first
    if first.is_universal:
        return _outside(second)
    if first.few is not None:
        return _those(first, [word for word in first.few if not second.accepts(word)])
    return build(*product(first, second, lambda a, b: a and not b))


def _outside(automaton: Automaton) -> Automaton:
    """Every other word. The complement of a minimal automaton is minimal."""
    fell = automaton.states
    rows = [[fell if target == DEAD else target for target in row] for row in automaton.table]
    accepting = [state not in automaton.accepting for state in range(fell + 1)]
    return Automaton(
        automaton.alphabet, *number_breadth_first(*trim([*rows, [fell] * automaton.alphabet.size], accepting))
    )


def _those(automaton: Automaton, words: list[str]) -> Automaton:
    """The automaton of these words, which are all or some of its few."""
    return automaton if automaton.few == words else Automaton.of(words)


_NOTHING = build(_alphabet.partition(()), [[DEAD]], [False])
_ANYTHING = build(_alphabet.partition(()), [[0]], [True])
