"""A text that a document may hold, as a model would write it: masks are made along it before they are needed.

Nothing but when a mask is made depends on how well it is guessed. Knows positions and JSON text; not tokens or masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.grammar.counting.key_names import as_written, opened
from engine.grammar.endings.position import Position, followed
from engine.grammar.endings.unused import depth_of
from engine.grammar.pushdown.levels import members
from engine.grammar.pushdown.pushdown import Pushdown
from engine.schema.automata.tables import states_of

_MOST_BYTES = 4_000
_PIECE = 24
"""Bytes, or stacks that are followed, at one go: half a millisecond, mostly."""
_MOST_STACKS = 24
_MOST_NAMES = 300
"""A place of more stacks, or more declared keys, takes too long for a guess."""
_ITEMS, _DIGITS, _DEEP = 2, 2, 6
"""Items of an array and digits of a number, and containers in each other, behind which nothing new is expected."""
_LIKELY = b'"{[1tfna0-A_ /'


class Likely:
    """Per grammar. Where there is a choice, a text takes what those before it have taken least."""

    def __init__(self, pushdown: Pushdown) -> None:
        self._pushdown = pushdown
        self._taken: Counter[tuple[int, int]] = Counter()

    def text(self, at: Position) -> Iterator[bytes]:
        """In pieces: bytes from here to the end of the document, or as far as is worth while. Raises LostWay."""
        written, work, left = bytearray(), 0, _MOST_BYTES
        while left > 0 and 0 < len(at.place.stacks) <= _MOST_STACKS and not self._ended(at):
            more = self._key(at) or self._byte(at)
            if more is None:
                break
            work += max(len(more[0]), len(at.place.stacks))
            text, at = more
            written += text
            if work >= _PIECE:
                left -= len(written)
                yield bytes(written)
                written, work = bytearray(), 0
        yield bytes(written)

    def _ended(self, at: Position) -> bool:
        return at.place.completed and at.cursor.frame is None and not at.cursor.in_string

    def _key(self, at: Position) -> tuple[bytes, Position] | None:
        """A declared key, where one may come."""
        if at.cursor.expects:
            for text in self._keys(at):
                behind = followed(self._pushdown, at, text)
                if behind.place.stacks:
                    return text, behind
        return None

    def _keys(self, at: Position) -> Iterator[bytes]:
        """The declared keys that may come, in their order."""
        regions = members(at.place, in_string=False)
        names = frozenset[str]().union(*(region.names for region in regions))
        if at.cursor.frame is None or at.cursor.frame.keys is None or len(names) > _MOST_NAMES:
            return
        orders = [region.order for region in regions if region.order is not None]
        legal = opened(regions, at.cursor, names)
        for name in sorted(legal, key=lambda name: (min((o.place(name) for o in orders), default=0), name)):
            yield b'"' + as_written(name)

    def _byte(self, at: Position) -> tuple[bytes, Position] | None:
        """The likeliest byte that may come."""
        number = at.place.number
        for byte in self._candidates(at):
            text = bytes((byte,))
            behind = followed(self._pushdown, at, text)
            if behind.place.stacks:
                self._taken[number, byte] += 1
                return text, behind
        return None

    def _candidates(self, at: Position) -> Iterator[int]:
        """All bytes that may come, but for guards, the likelier ones first."""
        first, cursor, ends = at.place.first_bytes(), at.cursor, self._ends(at)
        begun, enough = (cursor.chars, 1) if cursor.in_string else (cursor.digits, _DIGITS)
        is_enough = begun >= enough or not (begun or cursor.expects or cursor.in_string)
        closing = [byte for byte in ends if first >> byte & 1]
        if is_enough:
            yield from closing
        taken, number = self._taken, at.place.number
        yield from (byte for byte in _LIKELY if first >> byte & 1 and not (taken[number, byte] or byte in ends))
        others = [byte for byte in states_of(first) if byte not in closing]
        yield from sorted(others, key=lambda byte: taken[number, byte])
        yield from closing

    def _ends(self, at: Position) -> bytes:
        """What ends a string or a value here, the likelier one first."""
        frame = at.cursor.frame
        if at.cursor.in_string:
            return b'"'
        if frame is None or not at.place.first_bytes() >> ord(",") & 1:
            return b"]}"
        if frame.keys is None:
            goes_on = frame.count < _ITEMS
        else:
            goes_on = next(self._keys(followed(self._pushdown, at, b",")), None) is not None
        return b",]}" if goes_on and depth_of(frame) < _DEEP else b"]},"
