"""Which container each symbol of a stack belongs to, and what the guards on it look at. Knows symbols and brackets.

A guard speaks of the container that is innermost when its turn comes. How many are closed by then follows from the
symbols above it: every rule opens and closes as many brackets in each of its texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from engine.grammar.pushdown.byte_grammar import Character, Literal, Nonterminal, Symbol
from engine.grammar.pushdown.pushdown import Place, Stack
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.schema.automata.components import components
from engine.schema.rules.guards import Bounds, Length, Matching, Members, Region, regions

_Ahead = tuple[Stack, int, bool]
Bound = tuple[int, Region]
"""A region, and how many containers further out it lies; strings count with the container they stand in."""


def bounds(place: Place, *, in_string: bool, deepest: int = NEVER) -> tuple[Bound, ...]:
    """Every region that guards of this place may look at before more than `deepest` containers are closed."""
    found: dict[Bound, None] = {}
    seen: set[_Ahead] = set()
    for stack in place.stacks:
        for level, symbol in levels(stack, in_string=in_string, seen=seen):
            if level > deepest:
                break
            if level >= 0 and symbol.asks:
                for region in ahead_of(symbol):
                    found[level, region] = None
    return tuple(found)


def members(place: Place, *, in_string: bool) -> list[Members]:
    """The bounds of the innermost open object, if a key of it may come or is open; as far as guards look at them."""
    found: dict[Members, None] = {}
    seen: set[_Ahead] = set()
    for stack in place.stacks:
        for level, symbol in levels(stack, in_string=in_string, seen=seen):
            if level:
                break
            if symbol.asks:
                found.update(dict.fromkeys(_members(symbol)))
    return list(found)


def _members(symbol: Nonterminal) -> tuple[Members, ...]:
    if symbol.members is None:
        rules = [rule for rule in (symbol, *_beside(symbol)) if rule.spells_keys]
        seen = (region for rule in rules for guard in rule.guards if guard is not None for region in regions(guard))
        found = {id(region): region for region in seen if isinstance(region, Members)}  # long ones are slow to hash
        symbol.members = tuple(dict.fromkeys(found.values()))
    return symbol.members


def levels(stack: Stack, *, in_string: bool, seen: set[_Ahead] | None = None) -> Iterator[tuple[int, Nonterminal]]:
    """The rules on a stack, with the number of containers closed before their turn (negative: one opens first).

    Of stacks that share what is `seen`, each part once: those of a place have mostly the same end.
    """
    closed, inside = 0, in_string
    node: Stack | None = stack
    while node is not None and node.symbol is not None:
        symbol = node.symbol
        if seen is not None:
            ahead = node, closed, inside
            if ahead in seen:
                return
            seen.add(ahead)
        if isinstance(symbol, Nonterminal):
            yield closed, symbol
        opened, inside = effect(symbol)[inside]
        closed -= opened
        node = node.rest


def ahead_of(symbol: Nonterminal) -> tuple[Region, ...]:
    """Regions that guards look at in its alternatives, in rules that these begin a member with, and in all that it can
    become in the same string or container. Linear in what that is, for all of it."""
    if symbol.regions is None:
        onward: dict[Nonterminal, list[Nonterminal]] = {}
        queue = [symbol]
        for rule in queue:
            if rule not in onward:
                onward[rule] = list(_onward(rule))
                queue += [further for further in onward[rule] if further.regions is None]
        unsettled = {rule: [further for further in each if further in onward] for rule, each in onward.items()}
        for component in components(unsettled):
            found = {id(region): region for rule in component for region in _asked(rule)}
            for further in chain.from_iterable(onward[rule] for rule in component):
                found.update((id(region), region) for region in further.regions or ())
            settled = tuple(dict.fromkeys(found.values()))
            for rule in component:
                rule.regions = settled
    return symbol.regions or ()


def _asked(rule: Nonterminal) -> Iterator[Bounds]:
    return (
        region
        for part in (rule, *_beside(rule))
        for guard in part.guards
        if guard is not None
        for region in regions(guard)
    )


def _onward(rule: Nonterminal) -> Iterator[Nonterminal]:
    """What stands last in its alternatives and is still in the same string or container."""
    for alternative in rule.alternatives:
        last = alternative[-1] if alternative else None
        if isinstance(last, Nonterminal) and last.asks:
            before = alternative[:-1]
            if _joined(before, False) == (0, False) or _joined(before, True) == (0, True):
                yield last


def _beside(symbol: Nonterminal) -> Iterator[Nonterminal]:
    for alternative in symbol.alternatives:
        for part in alternative[:-1]:
            if isinstance(part, Nonterminal) and part.guards and not _is_string(part):
                yield part


def _is_string(rule: Nonterminal) -> bool:
    return any(isinstance(region, Length | Matching) for guard in rule.guards if guard for region in regions(guard))


_Effect = tuple[tuple[int, bool], tuple[int, bool]]
"""Brackets opened less those closed, and whether a string is open afterwards: from outside, and from inside one."""
_NOTHING: _Effect = ((0, False), (0, True))


def effect(symbol: Symbol) -> _Effect:
    """Brackets opened less those closed, and whether a string is open afterwards: by whether one is open before."""
    if isinstance(symbol, Character):
        return _NOTHING  # brackets and quotes of JSON are literals; this is part of a string or a number
    if symbol.effect is None:
        if isinstance(symbol, Literal):
            symbol.effect = _scan(symbol.text, False), _scan(symbol.text, True)
        else:
            _settle(symbol)
    return symbol.effect or _NOTHING


def _settle(rule: Nonterminal) -> None:
    """The effect of a rule and of all that its shortest text is made of, without recursion."""
    pending = [rule]
    while pending:
        top = pending[-1]
        parts = top.best or ()
        missing = [part for part in parts if isinstance(part, Nonterminal) and part.effect is None]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        top.effect = (_joined(parts, False), _joined(parts, True))


def _joined(parts: tuple[Symbol, ...], inside: bool) -> tuple[int, bool]:
    opened = 0
    for part in parts:
        more, inside = effect(part)[inside]
        opened += more
    return opened, inside


def _scan(text: bytes, inside: bool) -> tuple[int, bool]:
    opened, escaped = 0, False
    for byte in text:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"{[":
            opened += 1
        elif byte in b"}]":
            opened -= 1
    return opened, inside
