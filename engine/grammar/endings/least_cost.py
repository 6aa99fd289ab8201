"""How many tokens may end a document from where it stands, when what has been counted matters: an upper bound, cheap.

`Stack.tokens` takes every open container as if nothing were in it yet. Knows symbols and guards; writes no text.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.grammar.counting.cursor import Cursor, Frame
from engine.grammar.pushdown.byte_grammar import Nonterminal, Symbol
from engine.grammar.pushdown.levels import effect
from engine.grammar.pushdown.pushdown import Stack
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.schema.rules.guards import Another, DependentMembers, Enough, Items, Length, Matching, Member, Members

_CHARACTER = 6
"""Most tokens of one character: an escape."""


def least_cost(stack: Stack, cursor: Cursor, costs: Mapping[Length, int]) -> int:
    """Tokens, the stop token excluded. A microsecond a symbol of the stack, and a tenth for each missing key.

    `costs`: see `Pushdown.costs`.
    """
    total, inside, frame, facts = 0, cursor.in_string, cursor.frame, cursor
    unknown_key = cursor.is_key
    for symbol in stack.symbols():
        if isinstance(symbol, Nonterminal) and symbol.guards:
            total += min(symbol.tokens + symbol.spread, _counted(symbol, facts, costs, unknown_key))
            unknown_key = unknown_key or symbol.spells_keys
        else:
            total += symbol.tokens
        opened, inside = effect(symbol)[inside]
        for _ in range(-opened):
            frame = _outside(frame)
        if opened:
            facts, unknown_key = Cursor(frame), False
        if opened > 0:
            return min(stack.tokens, NEVER)
    return min(total, NEVER)


def _outside(frame: Frame | None) -> Frame | None:
    return None if frame is None else frame.outside


def _counted(rule: Nonterminal, facts: Cursor, costs: Mapping[Length, int], unknown_key: bool) -> int:
    """What a rule costs that ends the open string or container; NEVER where that is not to be told, as it is where a
    key that is not finished may imply others (`unknown_key`)."""
    for alternative, guard in zip(rule.alternatives, rule.guards, strict=True):
        if isinstance(guard, Enough):
            end = _tokens(alternative)
            match guard.region:
                case Length(low=low) as region:
                    more = max(0, low - facts.chars) + costs.get(region, 0) + 1
                    return min(_CHARACTER * more + end, NEVER)
                case Matching() as region:
                    state = facts.reached(region.automaton)
                    more = NEVER if state is None else region.left(state, facts.chars) + 1
                    return min(_CHARACTER * more + end, NEVER)
                case Items(low=low):
                    return min(max(0, low - facts.count) * _item(rule) + end, NEVER)
                case DependentMembers() if unknown_key:
                    return NEVER
                case Members(required=required, low=low) as region:
                    missing = region.needed(facts.keys) - facts.keys
                    return _absent(rule, missing) + end if low <= len(required) else NEVER
    return NEVER


def _item(rule: Nonterminal) -> int:
    return min((_tokens(a[:-1]) for a in rule.alternatives if a and a[-1] is rule), default=NEVER)


def _absent(rule: Nonterminal, names: frozenset[str]) -> int:
    """The members of these names, where the rule goes on with itself behind each."""
    if not names:
        return 0
    prices = rule.prices
    if prices is None:
        prices = rule.prices = _prices(rule)
    return min(sum(prices.get(name, NEVER) for name in names), NEVER)


def _prices(rule: Nonterminal) -> dict[str, int]:
    found: dict[str, int] = {}
    for alternative in rule.alternatives:
        if len(alternative) > 1 and alternative[-1] is rule:
            pending = [(alternative[:-1], 0)]
            while pending:
                symbols, before = pending.pop()
                part, before = symbols[-1], before + _tokens(symbols[:-1])
                if not (isinstance(part, Nonterminal) and part.spells_keys):
                    continue
                for way, guard in zip(part.alternatives, part.guards, strict=True):
                    if isinstance(guard, Member) and guard.name is not None:
                        found[guard.name] = min(found.get(guard.name, NEVER), before + _tokens(way))
                    elif isinstance(guard, Another) and way:
                        pending.append((way, before))
    return found


def _tokens(symbols: tuple[Symbol, ...]) -> int:
    return min(sum(symbol.tokens for symbol in symbols), NEVER)
