"""Where a document stands: its place in the grammar, and what has been counted. Never changed: one a token is kept."""

from __future__ import annotations

from typing import NamedTuple

from engine.grammar.counting.cursor import NO_LETTERS, Cursor
from engine.grammar.endings.room import roughly, spare
from engine.grammar.endings.unused import living
from engine.grammar.pieces import Pieces, at_once
from engine.grammar.pushdown.pushdown import MAX_FORCED, Gate, Place, Pushdown, Stack, whole_characters
from engine.schema.automata.tables import states_of


class Position(NamedTuple):
    """`place` holds what the guards allow, `wide` what there were without any: the matcher's compiler knows that one.

    They are the same place as long as no guard has cut anything off, or what it cut off cannot be told apart any more.
    """

    place: Place
    wide: Place
    cursor: Cursor
    marks: tuple[int, ...] = ()
    """Offsets in the text that led here behind which the compiler's matcher reads the mark of an undeclared key."""


_FRESH = Cursor()
_FEW_WAYS = 32
"""Every byte that may come is tried for all ways to go on: below a millisecond for so many."""
_A_TRY = 16
"""What that costs for each byte and each way, where a step on a known way is one."""


def fresh(pushdown: Pushdown) -> Cursor:
    """A cursor for the start of a document, which keeps what is asked for."""
    spelled = pushdown.matching or pushdown.holds_documents
    if not (pushdown.distinct or spelled):
        return _FRESH
    return Cursor(text=b"" if pushdown.distinct else None, letters=NO_LETTERS if spelled else None)


def follow(pushdown: Pushdown, at: Position, text: bytes) -> Position:
    """The position after these bytes, without stacks where no document begins so. Raises LostWay.

    0.1 microseconds a byte, 1 a gate, 1-3 the cursor; more where items must differ and one is like another so far.

    Only what belongs to a JSON document is counted, and outside of every one the cursor is fresh.
    """
    found = followed(pushdown, at, text)
    return at_once(_looking_ahead(pushdown, found)) if pushdown.looks_ahead else found


def looked(pushdown: Pushdown, at: Position, text: bytes) -> Pieces[Position]:
    """The same in pieces: where items must differ it looks ahead, which may take a tenth of a second, and where strings
    of bounded length hold documents."""
    found = followed(pushdown, at, text)
    return (yield from _looking_ahead(pushdown, found)) if pushdown.looks_ahead else found


def _looking_ahead(pushdown: Pushdown, at: Position) -> Pieces[Position]:
    if at.place.holds:
        fitting = list[Stack]()
        for stack in at.place.stacks:
            if (yield from _fits(pushdown, stack, at.cursor)):
                fitting.append(stack)
        at = at._replace(place=pushdown.place(fitting))
    alive = not (pushdown.distinct and at.place.stacks) or (yield from living(at.place, at.cursor))
    return at if alive else at._replace(place=pushdown.place(()))


def _fits(pushdown: Pushdown, stack: Stack, cursor: Cursor) -> Pieces[bool]:
    """Whether documents in strings can end within the lengths of these."""
    far = not stack.holds or roughly(stack, cursor) >= pushdown.longest_within
    return far or (yield from spare(stack, cursor)) >= 0


def followed(pushdown: Pushdown, at: Position, text: bytes, *, counting: bool = True) -> Position:
    """The same without a look ahead: it is known that the document can go on, or does not matter. Without `counting`
    the cursor stays as it is where no rule of the grammar asks anything."""
    place, wide, cursor, _ = at
    if not (counting or pushdown.guarded):
        place = pushdown.run(place, text)
        return Position(place, place, cursor)
    read = 0
    marks: tuple[int, ...] = ()
    if place is wide and _within_string(cursor, text) and cursor.chars + len(text) <= pushdown.roomy(place):
        place = pushdown.run(place, text)
        return Position(place, place, cursor.read(text))
    for index, byte in enumerate(text):
        move = place.moves.get(byte) or pushdown.step(place, byte)
        if isinstance(move, Gate):
            if index > read:
                cursor, read = cursor.read(text[read:index]), index
            onward = move.pass_with(cursor)
            wide = move.open if wide is place else open_move(pushdown, wide, byte)
            place = onward
        else:
            wide = move if wide is place else open_move(pushdown, wide, byte)
            place = move
        if wide.marks:
            if place.marks:
                marks = (*marks, index + 1)
            else:
                wide = pushdown.unmarked(wide)
        if not place.in_document:
            cursor, read = fresh(pushdown), index + 1
    return Position(place, wide, cursor.read(text[read:]) if read < len(text) else cursor, marks)


def forced(pushdown: Pushdown, at: Position) -> bytes:
    """Text without choice from here, whole characters, by the guards too. A microsecond, and one for each gate."""
    written = pushdown.forced(at.place)
    if not pushdown.guarded:
        return written
    more, looked = written, 0
    while looked < MAX_FORCED:
        looked += len(at.place.stacks) * (1 + len(more))
        at = followed(pushdown, at, more)
        more = pushdown.forced(at.place)
        if not more and not at.place.completed and len(at.place.stacks) <= _FEW_WAYS:
            first = at.place.first_bytes()
            looked += len(at.place.stacks) * first.bit_count() * _A_TRY
            more = _only_byte(pushdown, at, first)
        if not more:
            break
        written += more
    return whole_characters(written)


def _only_byte(pushdown: Pushdown, at: Position, first: int) -> bytes:
    """The one of the `first` bytes that must come, by the guards; none where there is a choice."""
    found = b""
    for byte in states_of(first):
        move = at.place.moves.get(byte) or pushdown.step(at.place, byte)
        if (move.pass_with(at.cursor) if isinstance(move, Gate) else move).stacks:
            if found:
                return b""
            found = bytes((byte,))
    return found


def _within_string(cursor: Cursor, text: bytes) -> bool:
    """Whether it is in a string that is no key, and stays there whatever stands in front."""
    return cursor.in_string and not (cursor.is_key or cursor.escape or b'"' in text or b"\\" in text)


def open_move(pushdown: Pushdown, place: Place, byte: int) -> Place:
    """The place behind a byte, all gates open."""
    move = place.moves.get(byte) or pushdown.step(place, byte)
    return move.open if isinstance(move, Gate) else move
