"""Words of an automaton from shortest on, and a shortest one of some length. Knows automata only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from engine.schema.automata.alphabet import plainest
from engine.schema.automata.automaton import Automaton
from engine.schema.automata.tables import DEAD
from engine.schema.sets.lengths import measures

TRIED = 256
"""Beginnings of words that are looked at together."""
PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_- "


def ascending(automaton: Automaton) -> Iterator[str]:
    """Words, shorter ones first, of plain characters where there is a choice; not all of them."""
    if automaton.is_empty:
        return
    first = shortest_word(automaton, 0, 0)
    yield first
    fewest = measures(automaton).fewest
    characters = [_characters(automaton, index) for index in range(automaton.alphabet.size)]
    layer = [(0, "")]
    while layer:
        yield from (word for state, word in layer if state in automaton.accepting and word != first)
        onward = [
            (target, word + character)
            for state, word in layer
            for index, target in enumerate(automaton.table[state])
            if target != DEAD
            for character in characters[index]
        ]
        layer = sorted(onward, key=lambda reached: fewest[reached[0]])[:TRIED]


def _characters(automaton: Automaton, index: int) -> str:
    spans = automaton.alphabet.ranges[index]
    plain = "".join(c for c in PLAIN if any(low <= ord(c) <= high for low, high in spans))
    return plain or chr(spans[0][0])


def shortest_word(automaton: Automaton, state: int, low: int) -> str:
    """A shortest word from `state` on of at least `low` code points, of plain characters where there is a choice.

    Where a state on the shortest way leads to itself, the word is that way with the loop in it; else all lengths up to
    `low` are tried. ValueError where there is no such word.
    """
    fewest, targets = measures(automaton).fewest, _targets(automaton)
    way = [state]
    while fewest[way[-1]]:
        way.append(next(target for target in targets[way[-1]] if fewest[target] < fewest[way[-1]]))
    letters = [targets[at][onward] for at, onward in pairwise(way)]
    if len(letters) >= low:
        return "".join(letters)
    for place, at in enumerate(way):
        if at in targets[at]:
            loop = targets[at][at] * (low - len(letters))
            return "".join([*letters[:place], loop, *letters[place:]])
    return _search(automaton, state, low)


def _search(automaton: Automaton, state: int, low: int) -> str:
    """By sets of states from which a word of just so many code points is possible."""
    most = measures(automaton).most[state]
    if most is not None and most < low:
        raise ValueError(f"no word of {low} code points")
    left = low
    while state not in _able(automaton, left):
        left += 1
    letters, passed, known = list[str](), list[tuple[int, int]](), _ends(automaton)
    (able, _), targets = _lengths(automaton), _targets(automaton)
    while left and (state, left) not in known:
        passed.append((state, left))
        left -= 1
        state, letter = next((target, letter) for target, letter in targets[state].items() if target in able[left])
        letters.append(letter)
    rest, start = known.get((state, left), ("", 0))
    word = "".join(letters) + rest[start:]
    known.update((at, (word, place)) for place, at in enumerate(passed))
    return word


def _able(automaton: Automaton, size: int) -> frozenset[int]:
    """The states from which a word of `size` code points is possible."""
    known, sources = _lengths(automaton)
    for longer in range(len(known), size + 1):
        known[longer] = frozenset().union(*(sources.get(state, ()) for state in known[longer - 1]))
    return known[size]


@lru_cache(maxsize=4)
def _lengths(automaton: Automaton) -> tuple[dict[int, frozenset[int]], dict[int, set[int]]]:
    """What `_able` has found, by size, and where each state can be come to from."""
    sources: dict[int, set[int]] = {}
    for state, row in enumerate(automaton.table):
        for target in set(row) - {DEAD}:
            sources.setdefault(target, set()).add(state)
    return {0: frozenset(automaton.accepting)}, sources


@lru_cache(maxsize=4)
def _ends(automaton: Automaton) -> dict[tuple[int, int], tuple[str, int]]:  # noqa: ARG001 - one of each
    """By state and number of code points the word that `_search` found from there: a longer one, and where it begins in
    that. From most states it is soon the way from another one."""
    return {}


@lru_cache(maxsize=64)
def _targets(automaton: Automaton) -> list[dict[int, str]]:
    """Where each state leads, and a plain character that leads there."""
    moves = (automaton.moves(state) for state in range(automaton.states))
    return [{target: chr(plainest(spans)) for spans, target in part} for part in moves]
