"""Items of arrays that hold no value twice: whether an open one can still become a new one, and a short text that does.

An item that is told from all before by its beginning needs no look. Else texts are tried, those first that leave fewest
doubts; as many as there are used values that begin in the same way. Knows symbols, guards and cursors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from heapq import heappop, heappush
from itertools import chain, count, islice
from typing import Any, NamedTuple

from engine.grammar.counting.cursor import Cursor, Frame, spelled
from engine.grammar.counting.used import Used, used_before
from engine.grammar.endings.ways import MAX_TEXT, alternative, alternatives, repeated
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.byte_grammar import Character, Literal, Nonterminal, Symbol
from engine.grammar.pushdown.levels import bounds
from engine.grammar.pushdown.pushdown import Place, spell
from engine.schema.rules.guards import Items
from engine.schema.sets.distinct import Choices, canonical

_TRIED, _TRIED_AHEAD = 60_000, 8_000
"""Steps of a search for an ending, and of one that tells whether there is any; 10-20 microseconds each."""
_PIECE = 50
"""Steps at one go."""
_CHARACTERS = 16
"""Characters of a set that are tried, and as many as there are values."""
_DIGITS, _PLACES = 64, 64
"""Characters of which keys that must differ are made, and how many of each key."""
_LONGER = 64

Rest = tuple[Symbol, Any]
"""A symbol, and what follows it (the same again, or None)."""


class Doubt(NamedTuple):
    """An open array without equal items."""

    frame: Frame
    few: bool
    """Some of its places have few values."""
    needed: tuple[str, ...]
    """The values that may be needed for another place."""

    def values(self, cursor: Cursor) -> Iterator[str]:
        """Those that its open item may become although they are used, or needed for other places."""
        return chain(rivals(cursor, self.frame), self.needed)

    def holds(self, cursor: Cursor) -> bool:
        """Whether there are any."""
        return next(self.values(cursor), None) is not None


def doubts(place: Place, cursor: Cursor) -> list[Doubt]:
    """The open arrays without equal items, innermost first."""
    if place.distinct is None:
        found = bounds(place, in_string=cursor.in_string)
        place.distinct = tuple(
            (level, any(region.choices), _needed(region.choices))
            for level, region in found
            if isinstance(region, Items) and region.choices is not None
        )
    frames = [(cursor.out(level).frame, few, needed) for level, few, needed in place.distinct]
    return [Doubt(frame, few, needed) for frame, few, needed in frames if frame is not None]


def _needed(choices: Choices) -> tuple[str, ...]:
    """The values that may be needed for another place: where places differ, each that one of few can have."""
    return tuple(sorted(frozenset().union(*filter(None, choices)))) if len(set(choices)) > 1 else ()


def living(place: Place, cursor: Cursor) -> Pieces[bool]:
    """In pieces: whether all open items can still become new values. Microseconds where none looks like one from
    before."""
    found = doubts(place, cursor)
    if not any(doubt.holds(cursor) for doubt in found):
        return True
    frame = min((doubt.frame for doubt in found), key=depth_of)
    depth, size = depth_of(frame), len(frame.values)
    rests = [joined(stack.symbols(), None) for stack in place.stacks]

    def over(_: Rest | None, cursor: Cursor) -> bool:
        return _is_over(cursor, depth, size)

    for rest in rests:
        if (yield from straight(rest, cursor, over)) is not None:
            return True
    for rest in rests:
        if (yield from search(rest, cursor, frame, _TRIED_AHEAD // len(rests))) is not None:
            return True
    return False


def slack(place: Place, cursor: Cursor) -> int:
    """Bytes by which the open items may have to be longer than the shortest ones."""
    return sum(_LONGER + max(map(len, doubt.frame.values), default=0) for doubt in doubts(place, cursor))


def joined(symbols: Iterable[Symbol], rest: Rest | None) -> Rest | None:
    """These symbols, topmost first, before the rest."""
    for symbol in reversed(tuple(symbols)):
        rest = (symbol, rest)
    return rest


def rivals(cursor: Cursor, frame: Frame) -> Iterator[str]:
    """The values of an open array that its open item may still become, and perhaps others."""
    if not frame.values or cursor.text is None:
        return iter(())
    text = cursor.text[frame.start :].lstrip()
    if not text:
        return iter(frame.values)
    child = cursor.frame
    while child is not None and child is not frame and child.outside is not frame:
        child = child.outside
    if child is not None and child is not frame:
        return _beginning_as(cursor.text[frame.start : child.start], frame)
    known = used_before(frame.values)
    if cursor.in_string:
        return known.strings(spelled(text[1 : len(text) - len(cursor.escape)]))
    return _like(text.decode(), frame, known)


def _like(text: str, frame: Frame, known: Used) -> Iterator[str]:
    """Those which a number or word can become, or what a whole value is."""
    if text[0] in "-0123456789":
        begun = text.rstrip("0").rstrip(".") if "." in text else text
        every = "e" in text or "E" in text or begun in ("-", "-0")
        return known.numbers("" if every else begun)
    whole = canonical(text.encode())
    if whole is not None:
        return iter((whole,) if whole in frame.values else ())
    return known.others(text)


def _beginning_as(text: bytes, frame: Frame) -> Iterator[str]:
    """Those that have the finished members of an open object, or the finished items of an open array."""
    text = text.strip()
    known = _read((text.removesuffix(b",") + (b"}" if text[:1] == b"{" else b"]")).decode())
    for value in frame.values:
        other = _read(value)
        if isinstance(other, dict) and isinstance(known, dict):
            alike = all(key in other and _same(part, other[key]) for key, part in known.items())
        else:
            alike = isinstance(other, list) and isinstance(known, list) and _same(known, other[: len(known)])
        if alike:
            yield value


def _same(first: Any, second: Any) -> bool:
    """Whether two values are one to JSON Schema, which takes 1 and 1.0 for one, and not 1 and true."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(part, second[key]) for key, part in first.items())
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


@lru_cache(maxsize=4096)
def _read(value: str) -> Any:
    return json.loads(value)


def strings(values: Iterable[str]) -> Iterator[str]:
    """Every string in these values, keys too."""
    pending = [_read(value) for value in values]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            pending.extend(value)
            pending.extend(value.values() if isinstance(value, dict) else ())


def open_string(cursor: Cursor) -> str:
    """The finished characters of the open string, key or not, decoded."""
    text = cursor.text or b""
    at = text.rfind(b'"')
    while at > 0 and (at - len(text[:at].rstrip(b"\\"))) % 2:
        at = text.rfind(b'"', 0, at)
    return spelled(text[at + 1 : len(text) - len(cursor.escape)])


Reached = tuple[bytes, Rest | None, Cursor]


def search(start: Rest | None, cursor: Cursor, frame: Frame, most: int = _TRIED) -> Pieces[Reached | None]:
    """A short text up to behind the comma or bracket that follows the open item of `frame`, which makes it a new value;
    what is left to be derived then, and the cursor there. The texts come first that differ least from the shortest one
    (limited discrepancy search: Harvey and Ginsberg 1995)."""
    depth, size = depth_of(frame), len(frame.values)
    serial = count(0, -1)  # of equal ones the last first: into the depth
    heap: list[_State] = [(_is_doubtful(cursor, depth), 0, next(serial), b"", start, cursor)]
    left, work = most, 0

    def over(_: Rest | None, cursor: Cursor) -> bool:
        return _is_over(cursor, depth, size)

    while heap and left > 0:
        doubtful, apart, _, text, rest, cursor = heappop(heap)
        work += 1
        if _is_over(cursor, depth, size):
            return text, rest, cursor
        if rest is None:
            continue
        if not doubtful:
            found = yield from straight(rest, cursor, over)
            if found is not None:
                return text + found[0], found[1], found[2]
        for more, (piece, onward, reached) in enumerate(_steps(rest, cursor, size)):
            unsure = doubtful and (not piece or _is_doubtful(reached, depth))
            heappush(heap, (unsure, apart + more, next(serial), text + piece, onward, reached))
            within = doubtful and depth_of(reached.frame) > depth  # each value is compared member by member
            left -= 1 + (size // 8 if within else 0)
            work += 1 + (size // 8 if within else 0)
            if work >= _PIECE:
                work = 0
                yield
    return None


_State = tuple[bool, int, int, bytes, Rest | None, Cursor]


def _is_over(cursor: Cursor, depth: int, size: int) -> bool:
    """Whether the item that was open has ended, and a comma or bracket stands behind it."""
    now = depth_of(cursor.frame)
    return now < depth or (now == depth and cursor.frame is not None and len(cursor.frame.values) > size)


def straight(rest: Rest | None, cursor: Cursor, over: Callable[[Rest | None, Cursor], bool]) -> Pieces[Reached | None]:
    """In pieces: a shortest way until it is `over`, where any is as good as another."""
    written, length = list[bytes](), 0
    for step in count(1):
        if over(rest, cursor):
            break
        if rest is None or length > MAX_TEXT:
            return None
        symbol, rest = rest
        if isinstance(symbol, Nonterminal):
            chosen = alternative(symbol, cursor) if symbol.asks else symbol.best
            if chosen is None:
                return None
            rest = joined(repeated(symbol, chosen, cursor), rest)
        else:
            text, rest = together(symbol, rest, cursor)
            written.append(text)
            length += len(text)
            cursor = cursor.read(text)
        if step % _PIECE == 0:
            yield
    return b"".join(written), rest, cursor


def together(symbol: Symbol, rest: Rest | None, cursor: Cursor) -> tuple[bytes, Rest | None]:
    """What this symbol writes at the least, with all characters of a string that follow, which may be thousands; and
    what follows these. Of a key, a character that keys before will hardly have there: a digit of their number."""
    if isinstance(symbol, Nonterminal):
        own: list[bytes] = []
        spell(symbol, own)
        return b"".join(own), rest
    if isinstance(symbol, Literal):
        return symbol.text, rest
    if cursor.is_key and cursor.keys:
        digits = list(dict.fromkeys((symbol.text, *islice(symbol.node.completions(), _DIGITS))))
        return digits[len(cursor.keys) // len(digits) ** min(cursor.chars, _PLACES) % len(digits)], rest
    texts = [symbol.text]
    while rest is not None and isinstance(rest[0], Character):
        texts.append(rest[0].text)
        rest = rest[1]
    return b"".join(texts), rest


def _steps(rest: Rest, cursor: Cursor, size: int) -> Iterator[tuple[bytes, Rest | None, Cursor]]:
    """Every way on by one symbol, the best first: what it writes, what is left then, and the cursor there."""
    symbol, after = rest
    if isinstance(symbol, Nonterminal):
        yield from ((b"", joined(way, after), cursor) for way in alternatives(symbol, cursor))
    elif cursor.in_string or symbol.text.strip():  # whitespace is nowhere needed
        yield from ((piece, after, cursor.read(piece)) for piece in _pieces(symbol, size))


def _pieces(symbol: Symbol, size: int) -> Iterable[bytes]:
    if isinstance(symbol, Literal):
        return (symbol.text,)
    assert not isinstance(symbol, Nonterminal)
    more = islice(symbol.node.completions(), max(_CHARACTERS, size + 2))
    return dict.fromkeys((symbol.text, *more))


def _is_doubtful(cursor: Cursor, depth: int) -> bool:
    frame = cursor.frame
    while frame is not None and depth_of(frame) > depth:
        frame = frame.outside
    return frame is not None and next(rivals(cursor, frame), None) is not None


def depth_of(frame: Frame | None) -> int:
    """How many containers are open."""
    found = 0
    while frame is not None:
        found, frame = found + 1, frame.outside
    return found
