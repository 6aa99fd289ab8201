"""Strings of bounded length that hold documents: how much of that a document leaves which ends as soon as it can.

Their rules ask for the length at the last quote only, so whoever follows a document looks ahead.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.grammar.counting.cursor import Cursor
from engine.grammar.endings.unused import Rest, joined, straight
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.byte_grammar import Nonterminal
from engine.grammar.pushdown.pushdown import Stack
from engine.grammar.vocabulary.shortest_tokenization import NEVER


def room(stack: Stack, cursor: Cursor) -> int:
    """Characters that still fit into the open strings that hold documents; NEVER without bounds. A microsecond."""
    return min((high - _chars(cursor, rule) for _, rule, high in _holders(stack)), default=NEVER)


def roughly(stack: Stack, cursor: Cursor) -> int:
    """The same less what must come, as if nothing had been written of what is open."""
    rooms = (high - _chars(cursor, rule) - stack.size + end.size for end, rule, high in _holders(stack))
    return min(rooms, default=NEVER)


def spare(stack: Stack, cursor: Cursor) -> Pieces[int]:
    """In pieces: what is left of that behind a short end; less than 0 where none fits. 2-5 microseconds a symbol."""
    rest, left = joined(stack.symbols(), None), NEVER
    for _, rule, high in _holders(stack):

        def over(rest: Rest | None, _: Cursor, rule: Nonterminal = rule) -> bool:
            return rest is not None and rest[0] is rule

        found = yield from straight(rest, cursor, over)
        if found is None:
            return -1
        _, rest, cursor = found
        left = min(left, high - _chars(cursor, rule))
    return left


def _holders(stack: Stack) -> Iterator[tuple[Stack, Nonterminal, int]]:
    """The ends of the open strings that hold documents and have bounds, innermost first: a second one as deep is that
    of a later string."""
    depth, node = NEVER, stack
    while node is not None and node.holds:
        rule = node.symbol
        if isinstance(rule, Nonterminal) and rule.room is not None and rule.depth < depth:
            depth = rule.depth
            yield node, rule, rule.room
        node = node.rest  # type: ignore[assignment]  # ends above


def _chars(cursor: Cursor, rule: Nonterminal) -> int:
    for _ in range(rule.depth - 1):
        cursor = cursor.inner
    return cursor.chars
