"""A short text that ends a document from where it stands, when what has been counted matters. Knows symbols and guards.

Where nothing is asked a rule's cheapest derivation is taken. Where guards ask, the alternative that ends the region as
soon as it may end, until then one that brings that nearer: a missing key, another item, another character.
"""

from __future__ import annotations

from engine.grammar.cursor import Cursor
from engine.grammar.pushdown import DOCUMENT_END, Stack, spell
from engine.grammar.segment import NEVER
from engine.grammar.symbols import Nonterminal, Symbol
from engine.schema.guards import Another, AnyOf, Enough, Guard, Length, Member, Room, Unrepeated

_MAX_TEXT = 1 << 20

_Rank = tuple[int, int, int, int]


def least_text(stack: Stack, cursor: Cursor) -> bytes | None:
    """None where none is found, or it is over a megabyte. 2-5 microseconds a symbol."""
    pending: list[Symbol] = []
    node: Stack | None = stack
    while node is not None and node.symbol is not None:
        pending.append(node.symbol)
        node = node.rest
    pending.reverse()
    pieces: list[bytes] = []
    size = 0
    while pending:
        symbol = pending.pop()
        if isinstance(symbol, Nonterminal) and symbol.asks:
            chosen = _alternative(symbol, cursor)
            if chosen is None:
                return None
            if _is_document(chosen):
                cursor = Cursor()  # what stands before it is not counted
            pending.extend(reversed(_repeated(symbol, chosen, cursor)))
            continue
        own: list[bytes] = []
        if isinstance(symbol, Nonterminal) and symbol.best is None:
            return None
        spell(symbol, own)
        text = b"".join(own)
        size += len(text)
        if size > _MAX_TEXT:
            return None
        pieces.append(text)
        cursor = cursor.read(text)
    return b"".join(pieces)


def _is_document(sequence: tuple[Symbol, ...]) -> bool:
    """Whether it is a whole JSON document."""
    last = sequence[-1] if sequence else None
    return isinstance(last, Nonterminal) and last.name == DOCUMENT_END


def _alternative(rule: Nonterminal, cursor: Cursor) -> tuple[Symbol, ...] | None:
    if not rule.guards:
        return rule.best
    found: tuple[_Rank, tuple[Symbol, ...]] | None = None
    for index, (alternative, guard) in enumerate(zip(rule.alternatives, rule.guards, strict=True)):
        if guard is not None and not guard.holds(cursor):
            continue
        tokens = sum(part.tokens for part in alternative)
        if tokens < NEVER:
            rank = (*_nearness(guard, cursor), tokens, index)
            if found is None or rank < found[0]:
                found = rank, alternative
    return None if found is None else found[1]


def _nearness(guard: Guard | None, cursor: Cursor) -> tuple[int, int]:
    """How soon the region ends this way; less is sooner."""
    match guard:
        case Enough() | Unrepeated(rest=("",)):
            return 0, 0
        case Member(region, name) if name in region.required:
            return 1, 0
        case Another(region, names, _) if names & region.required - cursor.keys:
            return 1, 0
        case Room(region=region, cost=cost):
            return (1, 0) if cursor.chars + cost <= region.low else (2, cost)
        case AnyOf(guards):
            return min(_nearness(part, cursor) for part in guards if part.holds(cursor))
    return 3, 0


def _repeated(rule: Nonterminal, chosen: tuple[Symbol, ...], cursor: Cursor) -> tuple[Symbol, ...]:
    """As often as the least length asks at once, where the rule goes on with itself."""
    if len(chosen) != 2 or chosen[1] is not rule or isinstance(chosen[0], Nonterminal):
        return chosen
    lows = [guard.region.low for guard in rule.guards if isinstance(guard, Enough) and isinstance(guard.region, Length)]
    more = min(max(lows, default=0) - cursor.chars, _MAX_TEXT)
    return (*[chosen[0]] * max(1, more), rule)
