"""And, or, but not, of automata, kept: the same patterns and values meet in many branches. Knows automata only."""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automata.automaton import Automaton


def meet(first: Automaton, second: Automaton) -> Automaton:
    """Intersection with the common cases taken for free."""
    if first.is_universal or second.is_universal:
        return second if first.is_universal else first
    return first if first == second else _product(first, second)


def join(first: Automaton, second: Automaton) -> Automaton:
    """Union with the common cases taken for free."""
    if first.is_universal or second.is_universal:
        return first if first.is_universal else second
    return first if first == second else first | second


def less(first: Automaton, second: Automaton) -> Automaton:
    """The first without the second, for free where they have nothing in common."""
    return first if meet(first, second).is_empty else _difference(first, second)


def _those(automaton: Automaton, words: list[str]) -> Automaton:
    """The automaton of these words, which are all or some of its few."""
    return automaton if automaton.few == words else Automaton.of(words)


@lru_cache(maxsize=1024)
def _difference(first: Automaton, second: Automaton) -> Automaton:
    if first.few is not None:
        return _those(first, [word for word in first.few if not second.accepts(word)])
    return first - second


@lru_cache(maxsize=4096)
def _product(first: Automaton, second: Automaton) -> Automaton:
    for finite, other in ((first, second), (second, first)):
        if finite.few is not None:
            return _those(finite, [word for word in finite.few if other.accepts(word)])
    return first & second
