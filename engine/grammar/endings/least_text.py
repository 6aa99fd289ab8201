"""A short text that ends a document from where it stands, when what has been counted matters. Knows symbols and guards.

Where nothing is asked a rule's cheapest derivation is taken, where guards ask, what `ways` chooses; items that must
differ are searched for.
"""

from __future__ import annotations

from engine.grammar.counting.cursor import Cursor
from engine.grammar.endings.unused import Rest, depth_of, joined, search, together
from engine.grammar.endings.ways import MAX_TEXT, alternative, effort, repeated
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.byte_grammar import Nonterminal, Symbol, is_distinct
from engine.grammar.pushdown.levels import levels
from engine.grammar.pushdown.pushdown import Stack
from engine.grammar.sources.documents import DOCUMENT_END

_PIECE = 300
"""Symbols, and what their guards ask, that are written at one go."""
_SPELLED = 8
"""Bytes of a symbol's text that take as long as a symbol."""


def least_text(stack: Stack, cursor: Cursor) -> Pieces[bytes | None]:
    """None where none is found, or it is over a megabyte. 2-5 microseconds a symbol, and for each of its ways."""
    begun = yield from _open_arrays(stack, cursor)
    if begun is None:
        return None
    written, rest, cursor = begun
    pieces, size, work = [written], len(written), 0
    while rest is not None:
        symbol, after = rest
        work += 1 + (effort(symbol) if isinstance(symbol, Nonterminal) and symbol.asks else 0)
        if work > _PIECE:
            work = 0
            yield
        if isinstance(symbol, Nonterminal) and is_distinct(symbol):
            found = yield from _differing(rest, cursor, depth_of(cursor.frame))
            if found is None:
                return None
            text, rest, cursor = found
        elif isinstance(symbol, Nonterminal) and symbol.asks:
            chosen = alternative(symbol, cursor)
            if chosen is None:
                return None
            if _is_document(chosen):
                cursor = cursor.fresh()  # what stands before it is not counted
            rest = joined(repeated(symbol, chosen, cursor), after)
            continue
        elif isinstance(symbol, Nonterminal) and symbol.best is None:
            return None
        else:
            text, rest = together(symbol, after, cursor)
            cursor = cursor.read(text)
        size += len(text)
        work += len(text) // _SPELLED
        if size > MAX_TEXT:
            return None
        pieces.append(text)
    return b"".join(pieces)


def _open_arrays(stack: Stack, cursor: Cursor) -> Pieces[tuple[bytes, Rest | None, Cursor] | None]:
    """The end of those open arrays whose items differ, where there are any."""
    rest = joined(stack.symbols(), None)
    rules = levels(stack, in_string=cursor.in_string)
    open_levels = [level for level, rule in rules if level >= 0 and is_distinct(rule)]
    if not open_levels:
        return b"", rest, cursor
    return (yield from _differing(rest, cursor, depth_of(cursor.out(max(open_levels)).frame)))


def _differing(rest: Rest | None, cursor: Cursor, depth: int) -> Pieces[tuple[bytes, Rest | None, Cursor] | None]:
    """The end of an array so many containers deep whose items differ: item by item, each a new value."""
    written = b""
    while depth_of(cursor.frame) >= depth:
        frame = cursor.out(depth_of(cursor.frame) - depth).frame
        found = None if frame is None else (yield from search(rest, cursor, frame))
        if found is None:
            return None
        text, rest, cursor = found
        written += text
    return written, rest, cursor


def _is_document(sequence: tuple[Symbol, ...]) -> bool:
    """Whether it is a whole JSON document."""
    last = sequence[-1] if sequence else None
    return isinstance(last, Nonterminal) and last.name == DOCUMENT_END
