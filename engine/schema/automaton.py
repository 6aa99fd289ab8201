"""Regular languages over Unicode scalar values as minimal deterministic automata: the currency of all scalar keywords.

Knows strings as sequences of code points (surrogates excluded). Knows nothing of JSON, regex syntax or grammars.
Equal languages are equal objects (`==`, `hash`, `digest`), so results can be cached and rules shared by key.
Every construction may raise AutomatonTooLarge (over STATE_LIMIT work states), never runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b

from engine.schema import alphabet as _alphabet
from engine.schema.alphabet import SCALARS, Alphabet, Ranges
from engine.schema.nfa import NFA_LIMIT, Nfa, determinise
from engine.schema.states import (
    DEAD,
    STATE_LIMIT,
    AutomatonTooLarge,
    Table,
    minimise,
    number_breadth_first,
    topological,
    trim,
)

__all__ = ["STATE_LIMIT", "Automaton", "AutomatonTooLarge", "build"]


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
        """Exactly these strings, as a minimised trie. A lone surrogate in a word makes that word impossible."""
        unique = sorted({word for word in words if not _has_surrogate(word)})
        return _trie(unique) if unique else _NOTHING

    @staticmethod
    def length(minimum: int = 0, maximum: int | None = None) -> Automaton:
        """Strings of `minimum` to `maximum` code points; None: no upper limit."""
        if maximum is not None and maximum < minimum:
            return _NOTHING
        return Automaton.characters(SCALARS).repeat(max(minimum, 0), maximum)

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
        return _product(self, other, bool.__and__)

    def __or__(self, other: Automaton) -> Automaton:
        return _product(self, other, bool.__or__)

    def __sub__(self, other: Automaton) -> Automaton:
        return _product(self, other, lambda a, b: a and not b)

    def __invert__(self) -> Automaton:
        return _ANYTHING - self

    def __add__(self, other: Automaton) -> Automaton:
        nfa = Nfa()
        entry = nfa.state()
        return build(*determinise(nfa, entry, other.embed(nfa, self.embed(nfa, entry))))

    def star(self) -> Automaton:
        """Any number of words of this language, one after another."""
        return self.repeat(0, None)

    def repeat(self, minimum: int, maximum: int | None) -> Automaton:
        """`minimum` to `maximum` words of this language, one after another; None: no upper limit."""
        return _repeat(self, minimum, maximum)

    def embed(self, nfa: Nfa, entry: int) -> int:
        """Attach a copy behind `entry`; returns its exit."""
        return nfa.embed([self.moves(state) for state in range(self.states)], self.accepting, entry)

    @cached_property
    def states(self) -> int:
        """Number of live states (1 for the empty language)."""
        return len(self.table)

    @property
    def is_empty(self) -> bool:
        """No string at all is accepted."""
        return not self.accepting

    @cached_property
    def is_finite(self) -> bool:
        """Only finitely many strings are accepted."""
        return topological([*self.table]) is not None

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

    def shortest(self) -> str | None:
        """A shortest word, of plain characters where there is a choice; None for the empty language."""
        back: dict[int, tuple[int, int]] = {}
        queue = [0]
        for state in queue:
            if state in self.accepting:
                return self._spell(state, back)
            for index, target in enumerate(self.table[state]):
                if target not in (DEAD, 0) and target not in back:
                    back[target] = (state, index)
                    queue.append(target)
        return None

    def _spell(self, state: int, back: dict[int, tuple[int, int]]) -> str:
        letters: list[str] = []
        while state != 0:
            state, index = back[state]
            letters.append(chr(_plainest(self.alphabet.ranges[index])))
        return "".join(reversed(letters))

    def strings(self, limit: int) -> list[str] | None:
        """All words in code-point order when there are at most `limit`, else None."""
        count = self.count()
        if count is None or count > limit:
            return None
        words: list[str] = []
        stack = [(0, "")]
        while stack:
            state, text = stack.pop()
            if state in self.accepting:
                words.append(text)
            for index, target in enumerate(self.table[state]):
                if target != DEAD:
                    spans = self.alphabet.ranges[index]
                    stack.extend((target, text + chr(c)) for low, high in spans for c in range(low, high + 1))
        return sorted(words)

    def count(self) -> int | None:
        """Number of words, None when infinite."""
        order = topological([*self.table])
        if order is None:
            return None
        sizes = [sum(high - low + 1 for low, high in spans) for spans in self.alphabet.ranges]
        counts = [0] * self.states
        for state in order:
            steps = zip(sizes, self.table[state], strict=True)
            counts[state] = (state in self.accepting) + sum(size * counts[t] for size, t in steps if t != DEAD)
        return counts[0]

    def disjoint(self, other: Automaton) -> bool:
        """No string is in both languages."""
        return (self & other).is_empty

    def includes(self, other: Automaton) -> bool:
        """Every word of `other` is a word of this language."""
        return (other - self).is_empty

    def moves(self, state: int) -> list[tuple[Ranges, int]]:
        """Where `state` leads: sorted ranges and target, one entry per target, in order of the first code point."""
        return self._moves[state]

    @cached_property
    def _moves(self) -> list[list[tuple[Ranges, int]]]:
        return [self._moves_of(state) for state in range(self.states)]

    def _moves_of(self, state: int) -> list[tuple[Ranges, int]]:
        spans: dict[int, list[tuple[int, int]]] = {}
        for index, target in enumerate(self.table[state]):
            if target != DEAD:
                spans.setdefault(target, []).extend(self.alphabet.ranges[index])
        return [(_alphabet.scalars(part), target) for target, part in spans.items()]

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the language; equal for equal languages in every process."""
        text = repr((self.alphabet.starts, self.alphabet.classes, self.table, sorted(self.accepting)))
        return blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def _hash(self) -> int:
        return int(self.digest, 16)

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


def _product(first: Automaton, second: Automaton, keep: Callable[[bool, bool], bool]) -> Automaton:
    """Words for which `keep(in first, in second)`; `keep(False, False)` must be False."""
    letters, to_first, to_second = _alphabet.refine(first.alphabet, second.alphabet)
    left = [[row[index] for index in to_first] for row in first.table]
    right = [[row[index] for index in to_second] for row in second.table]
    nowhere = [DEAD] * letters.size
    need_first, need_second = not keep(False, True), not keep(True, False)
    numbers: dict[tuple[int, int], int] = {(0, 0): 0}
    queue = [(0, 0)]
    rows: Table = []
    for p, q in queue:
        row = []
        for pair in zip(left[p] if p != DEAD else nowhere, right[q] if q != DEAD else nowhere, strict=True):
            dead = (pair[0] == DEAD and (need_first or pair[1] == DEAD)) or (pair[1] == DEAD and need_second)
            number = DEAD if dead else numbers.setdefault(pair, len(numbers))
            if number == len(queue):
                queue.append(pair)
            row.append(number)
        rows.append(row)
        if len(queue) > STATE_LIMIT:
            raise AutomatonTooLarge(f"more than {STATE_LIMIT} states")
    return build(letters, rows, [keep(p in first.accepting, q in second.accepting) for p, q in queue])


@lru_cache(maxsize=512)
def _repeat(part: Automaton, minimum: int, maximum: int | None) -> Automaton:
    if max(minimum, maximum or 0) * part.states > NFA_LIMIT:
        raise AutomatonTooLarge(f"more than {NFA_LIMIT} positions")
    nfa = Nfa()
    entry = here = nfa.state()
    for _ in range(minimum):
        here = part.embed(nfa, here)
    leave = nfa.state()
    nfa.empty[here].append(leave)
    if maximum is None:
        back = part.embed(nfa, here)
        nfa.empty[back].append(here)
    for _ in range((maximum or 0) - minimum):
        here = part.embed(nfa, here)
        nfa.empty[here].append(leave)
    return build(*determinise(nfa, entry, leave))


def _trie(words: Sequence[str]) -> Automaton:
    """Sorted unique words to a table: one work state per distinct prefix."""
    used = sorted({character for word in words for character in word})
    letters = _alphabet.partition(tuple(((ord(c), ord(c)),) for c in used))
    index_of = {character: letters.class_of(ord(character)) for character in used}
    rows: list[list[int]] = [[DEAD] * letters.size]
    accepting = [False]
    path = [0]
    previous = ""
    for word in words:
        shared = _shared_prefix(previous, word)
        del path[shared + 1 :]
        for character in word[shared:]:
            rows[path[-1]][index_of[character]] = len(rows)
            path.append(len(rows))
            rows.append([DEAD] * letters.size)
            accepting.append(False)
        accepting[path[-1]] = True
        previous = word
        if len(rows) > STATE_LIMIT:
            raise AutomatonTooLarge(f"more than {STATE_LIMIT} states")
    return build(letters, [*rows], accepting)


def _shared_prefix(first: str, second: str) -> int:
    shared = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def _has_surrogate(word: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in word)


def _plainest(spans: Ranges) -> int:
    for low, high in ((0x61, 0x7A), (0x30, 0x39), (0x41, 0x5A), (0x23, 0x5B), (0x5D, 0x7E)):
        for first, last in spans:
            if first <= high and last >= low:
                return max(first, low)
    return spans[0][0]


_NOTHING = build(_alphabet.partition(()), [[DEAD]], [False])
_ANYTHING = build(_alphabet.partition(()), [[0]], [True])
