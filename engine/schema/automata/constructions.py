"""Tables made from other tables or from words: products and tries, before they are trimmed and minimised.

Knows alphabets and tables, not what makes an automaton canonical. Raises AutomatonTooLarge over STATE_LIMIT states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from engine.schema.automata.alphabet import Alphabet, normalise_ranges, partition, refine
from engine.schema.automata.tables import DEAD, STATE_LIMIT, AutomatonTooLarge, Row, Table

Made = tuple[Alphabet, Table, list[bool]]


class Machine(Protocol):
    """What an automaton shows of itself here."""

    @property
    def alphabet(self) -> Alphabet: ...
    @property
    def table(self) -> Sequence[Row]: ...
    @property
    def accepting(self) -> Collection[int]: ...


class _Pairs(dict[tuple[int, int], int]):
    """The number of each pair of states that was asked for; DEAD for a pair that leads to nothing."""

    def __init__(self, keep: Callable[[bool, bool], bool]) -> None:
        self.queue = [(0, 0)]
        self._need_first, self._need_second = not keep(False, True), not keep(True, False)
        self[0, 0] = 0

    def __missing__(self, pair: tuple[int, int]) -> int:
        first, second = pair
        if (first == DEAD and (self._need_first or second == DEAD)) or (second == DEAD and self._need_second):
            number = DEAD
        else:
            number = len(self.queue)
            self.queue.append(pair)
        self[pair] = number
        return number


class _Widened(dict[int, Row]):
    """Rows of a table over finer classes, each made when it is asked for."""

    def __init__(self, table: Sequence[Row], to_own: tuple[int, ...]) -> None:
        self[DEAD] = [DEAD] * len(to_own)
        self._table = table
        self._to_own = to_own

    def __missing__(self, state: int) -> Row:
        row = self[state] = list(map(self._table[state].__getitem__, self._to_own))
        return row


def product(first: Machine, second: Machine, keep: Callable[[bool, bool], bool]) -> Made:
    """Words for which `keep(in first, in second)`; `keep(False, False)` must be False."""
    letters, to_first, to_second = refine(first.alphabet, second.alphabet)
    left, right = _Widened(first.table, to_first), _Widened(second.table, to_second)
    pairs = _Pairs(keep)
    number_of = pairs.__getitem__
    rows: Table = []
    for p, q in pairs.queue:
        rows.append(list(map(number_of, zip(left[p], right[q], strict=True))))
        if len(pairs.queue) > STATE_LIMIT:
            raise AutomatonTooLarge(f"more than {STATE_LIMIT} states")
    return letters, rows, [keep(p in first.accepting, q in second.accepting) for p, q in pairs.queue]


_Finished = tuple[bool, tuple[tuple[str, int], ...]]
"""Whether a word ends here, and the moves."""


def words(sorted_words: Sequence[str]) -> Made:
    """Sorted unique words, at least one, as a minimal table: ends that words share are one state. Linear."""
    root: dict[str, Any] = {}
    trie, ends = [root], set[int]()
    for word in sorted_words:
        here = root
        for character in word:
            if character not in here:
                here[character] = {}
                trie.append(here[character])
            here = here[character]
        ends.add(id(here))
        if len(trie) > STATE_LIMIT:
            raise AutomatonTooLarge(f"more than {STATE_LIMIT} states")
    states: dict[_Finished, int] = {}
    numbers: dict[int, int] = {}
    for node in reversed(trie):  # what comes behind a node was entered after it
        moves = tuple([(character, numbers[id(target)]) for character, target in node.items()])
        numbers[id(node)] = states.setdefault((id(node) in ends, moves), len(states))
    return _dense(list(states), numbers[id(root)])


def _dense(states: list[_Finished], start: int) -> Made:
    """A table of all classes, characters that no state tells apart in one class; `start` becomes state 0."""
    columns: dict[str, list[tuple[int, int]]] = {}
    for number, (_, moves) in enumerate(states):
        for character, target in moves:
            columns.setdefault(character, []).append((number, target))
    groups: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for character in sorted(columns):
        groups.setdefault(tuple(columns[character]), []).append(character)
    spans = [normalise_ranges((ord(c), ord(c)) for c in characters) for characters in groups.values()]
    letters = partition(tuple(spans))
    rows = [[DEAD] * letters.size for _ in states]
    for column, characters in groups.items():
        index = letters.class_of(ord(characters[0]))
        for number, target in column:
            rows[number][index] = target
    order = [start, *(number for number in range(len(states)) if number != start)]
    place = {number: rank for rank, number in enumerate(order)} | {DEAD: DEAD}
    return letters, [[place[t] for t in rows[number]] for number in order], [states[number][0] for number in order]


def has_surrogate(word: str) -> bool:
    """Whether a word holds a code point that is no scalar value."""
    return any("\ud800" <= character <= "\udfff" for character in word)
