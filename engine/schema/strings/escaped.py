"""A grammar of JSON documents as one of the strings that hold them: every symbol is read through JSON's escapes.

Spelled as json.dumps(ensure_ascii=False) does. What rules ask they ask of the text in the string (`Within`). Names stay
contents, so that equal rules are the same rule at every depth. Knows rules and escapes; not what they derive.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from engine.schema.automata.alphabet import intersect
from engine.schema.automata.residuals import short_digest
from engine.schema.rules.grammar import EITHER, SET, WITHIN, Ref, Rule, Sequence, Symbol, Text, fused, one_of
from engine.schema.rules.guards import Within
from engine.schema.rules.layout import spelled
from engine.schema.strings.json_escapes import inline_escapes
from engine.schema.strings.string_rules import RAW


def escaped(rules: Iterable[Rule]) -> list[Rule]:
    """The rules under other names (`escaped_name`), and those of sets that are spelled in several ways. Linear."""
    sets: dict[str, Rule] = {}
    return [*[_rule(rule, sets) for rule in rules], *sets.values()]


def escaped_name(name: str) -> str:
    return name + WITHIN


def escaped_text(text: str) -> str:
    """A text as it stands in a string."""
    return spelled(text)[1:-1]


def _rule(rule: Rule, sets: dict[str, Rule]) -> Rule:
    guards = rule.guards or (None,) * len(rule.alternatives)
    ways = [(way, g) for parts, g in zip(rule.alternatives, guards, strict=True) for way in _sequences(parts, sets)]
    return Rule(
        escaped_name(rule.name),
        tuple([way for way, _ in ways]),
        guards=tuple([guard and Within(guard) for _, guard in ways]) if rule.guards else (),
        least=None if rule.least is None else _sequences(rule.least, sets)[0],
        skeleton=None if rule.skeleton is None else escaped_name(rule.skeleton),
    )


def _sequences(parts: Sequence, sets: dict[str, Rule]) -> list[Sequence]:
    """All that it becomes: a set is split into what stands as it is, and what is escaped."""
    kept = [part for part in parts if not (isinstance(part, Ref) and part.name == EITHER)]
    pieces = [_pieces(symbol) for symbol in kept]
    if sum(len(ways) > 1 for ways in pieces) > 1:  # which would multiply
        pieces = [[(_set(ways, sets),)] if len(ways) > 1 else ways for ways in pieces]
    return [fused([symbol for piece in choice for symbol in piece]) for choice in product(*pieces)]


def _pieces(symbol: Symbol) -> list[Sequence]:
    if isinstance(symbol, Ref):
        return [(Ref(escaped_name(symbol.name)),)]
    if isinstance(symbol, Text):
        return [(Text(escaped_text(symbol.text)),)]
    raw = intersect(symbol.ranges, RAW)
    return [*([(one_of(raw),)] if raw else []), *inline_escapes([(symbol.ranges, ())])]


def _set(ways: list[Sequence], sets: dict[str, Rule]) -> Ref:
    name = escaped_name(f"sc{short_digest(repr(ways))}{SET}")
    sets.setdefault(name, Rule(name, tuple(ways)))
    return Ref(name)
