"""How many readings of a text one byte may begin, by the rules alone: the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from engine.grammar.pushdown.byte_grammar import Literal, Nonterminal, Symbol

MOST_BEGUN = 512
"""Readings that one byte may begin. XGrammar takes a microsecond for each at every byte, and a hundred to begin one
that is a JSON schema (`%json`)."""
_Counts = NDArray[np.int64]
"""By byte."""


def most_begun(rules: Iterable[Nonterminal]) -> int:
    """The most alternatives of one rule that can begin with the same byte, and those of the rules they begin with.

    Alternatives that are a text alone do not count: however many, XGrammar follows them as one. A rule that begins with
    itself counts once.
    """
    counts: dict[Symbol, _Counts] = {}
    for rule in _inner_first(rules):
        counts[rule] = sum((_of_way(way, counts) for way in rule.alternatives), np.zeros(256, np.int64))
    return max((int(each.max()) for each in counts.values()), default=0)


def _of_way(way: tuple[Symbol, ...], counts: dict[Symbol, _Counts]) -> _Counts:
    total = np.zeros(256, np.int64)
    if not (len(way) == 1 and isinstance(way[0], Literal)):
        for symbol in _beginnings(way):
            bits = np.frombuffer(symbol.first.to_bytes(32, "little"), np.uint8)
            alone = np.unpackbits(bits, bitorder="little").astype(np.int64)
            total += np.maximum(counts[symbol], alone) if symbol in counts else alone
    return total


def _beginnings(way: tuple[Symbol, ...]) -> Iterator[Symbol]:
    """The symbols that a text of this alternative may begin with."""
    for symbol in way:
        yield symbol
        if not symbol.nullable:
            return


def _inner_first(rules: Iterable[Nonterminal]) -> list[Nonterminal]:
    """Every rule behind those that it begins with, but for circles."""
    found: dict[Nonterminal, None] = {}
    seen = set[Nonterminal]()
    for rule in rules:
        pending = [rule]
        while pending:
            top = pending[-1]
            inner = [part for way in top.alternatives for part in _beginnings(way) if isinstance(part, Nonterminal)]
            ahead = [] if top in seen else [part for part in inner if part not in seen]
            seen.add(top)
            if not ahead:
                found[pending.pop()] = None
            pending += ahead
    return list(found)
