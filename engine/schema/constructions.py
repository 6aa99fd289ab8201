"""Tables made from other tables or from words: products and tries, before they are trimmed and minimised.

Knows alphabets and tables, not what makes an automaton canonical. Raises AutomatonTooLarge over STATE_LIMIT states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from engine.schema.alphabet import Alphabet, partition, refine
from engine.schema.states import DEAD, STATE_LIMIT, AutomatonTooLarge, Row, Table

Made = tuple[Alphabet, Table, list[bool]]


class Machine(Protocol):
    """What an automaton shows of itself here."""

    @property
    def alphabet(self) -> Alphabet: ...
    @property
    def table(self) -> Sequence[Row]: ...
    @property
    def accepting(self) -> Collection[int]: ...


def product(first: Machine, second: Machine, keep: Callable[[bool, bool], bool]) -> Made:
    """Words for which `keep(in first, in second)`; `keep(False, False)` must be False."""
    letters, to_first, to_second = refine(first.alphabet, second.alphabet)
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
    return letters, rows, [keep(p in first.accepting, q in second.accepting) for p, q in queue]


def trie(words: Sequence[str]) -> Made:
    """Sorted unique words to a table: one work state per distinct prefix."""
    used = sorted({character for word in words for character in word})
    letters = partition(tuple(((ord(c), ord(c)),) for c in used))
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
    return letters, [*rows], accepting


def _shared_prefix(first: str, second: str) -> int:
    shared = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def has_surrogate(word: str) -> bool:
    """Whether a word holds a code point that is no scalar value."""
    return any("\ud800" <= character <= "\udfff" for character in word)
