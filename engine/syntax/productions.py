"""Rules as plain productions, none of them empty."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product

from engine.syntax.expression import Expr

Sequence = tuple[str, ...]
Productions = dict[str, list[Sequence]]
MOST_ALTERNATIVES = 256


class _Expander:
    """Groups and repeats become rules of their own, equal ones the same."""

    def __init__(self) -> None:
        self.productions: Productions = {}
        self._named: dict[Expr, str] = {}

    def alternatives(self, expr: Expr) -> list[Sequence]:
        if isinstance(expr, str):
            return [(expr,)]
        kind, parts = expr
        if kind == "or":
            return [sequence for part in parts for sequence in self.alternatives(part)]
        if kind == "?":
            return [(), *self.alternatives(parts[0])]
        if kind == "seq":
            choices = [self._in_sequence(part) for part in parts]
            return [tuple(symbol for piece in choice for symbol in piece) for choice in product(*choices)]
        return [(self._repeat(expr),)]

    def _in_sequence(self, part: Expr) -> list[Sequence]:
        if isinstance(part, tuple) and part[0] == "or":
            return [(self._group(part),)]
        return self.alternatives(part)

    def _group(self, expr: Expr) -> str:
        if expr not in self._named:
            name = self._named[expr] = f"group {len(self._named)}"
            self.productions[name] = self.alternatives(expr)
        return self._named[expr]

    def _repeat(self, expr: Expr) -> str:
        assert not isinstance(expr, str)
        if expr not in self._named:
            name = self._named[expr] = f"repeat {len(self._named)}"
            parts = expr[1]
            items = self.alternatives(parts[0])
            between: Iterable[Sequence] = self.alternatives(parts[1]) if len(parts) == 2 else [()]
            more = [(name, *separator, *item) for separator in between for item in items]
            self.productions[name] = [*items, *more]
        return self._named[expr]


def plain_productions(rules: dict[str, Expr]) -> tuple[Productions, frozenset[str]]:
    """Productions without empty ones, and the symbols that also derive the empty text."""
    expander = _Expander()
    productions = {name: expander.alternatives(expr) for name, expr in rules.items()}
    productions |= expander.productions
    empty = _nullable(productions)
    full = {
        name: list(
            dict.fromkeys(shorter for sequence in sequences for shorter in _without_empty(name, sequence, empty))
        )
        for name, sequences in productions.items()
    }
    return full, empty


def _nullable(productions: Productions) -> frozenset[str]:
    found = set[str]()
    while True:
        more = {
            name
            for name, sequences in productions.items()
            if name not in found and any(found.issuperset(sequence) for sequence in sequences)
        }
        if not more:
            return frozenset(found)
        found |= more


def _without_empty(name: str, sequence: Sequence, empty: frozenset[str]) -> Iterable[Sequence]:
    places = [place for place, symbol in enumerate(sequence) if symbol in empty]
    if 2 ** len(places) > MOST_ALTERNATIVES:
        raise ValueError(f"grammar: rule {name} has too many parts that may be empty; split it")
    for count in range(len(places) + 1):
        for left_out in combinations(places, count):
            shorter = tuple(symbol for place, symbol in enumerate(sequence) if place not in left_out)
            if shorter and shorter != (name,):
                yield shorter


def unproductive(productions: Productions) -> set[str]:
    """Symbols of which no text can come. With one of them an error could be found too late."""
    missing = set(productions)
    while True:
        found = {name for name in missing if any(missing.isdisjoint(sequence) for sequence in productions[name])}
        if not found:
            return missing
        missing -= found
