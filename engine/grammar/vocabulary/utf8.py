"""Sets of code points as automata over UTF-8 bytes. Knows encodings; does not know grammars or tokens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

Ranges = tuple[tuple[int, int], ...]
_SPANS = ((0x00, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
"""Code points by encoded length; surrogates have no encoding."""


class ByteNode:
    """A place inside a character. `moves[b]` is the next place, or None when byte b completes the character."""

    __slots__ = ("first", "inside", "moves")

    def __init__(self, moves: dict[int, ByteNode | None]) -> None:
        self.moves = moves
        self.first = sum(1 << byte for byte in moves)
        """Bit b is set when byte b is legal here."""
        self.inside = all(byte in _CONTINUATION for byte in moves)
        """Whether this is a place after the first byte of a character."""

    def completions(self) -> Iterator[bytes]:
        """Byte strings that complete the character, in byte order."""
        for byte, target in sorted(self.moves.items()):
            if target is None:
                yield bytes([byte])
            else:
                for rest in target.completions():
                    yield bytes([byte]) + rest


def can_occur(text: bytes) -> bool:
    """Whether these bytes can stand inside valid UTF-8, cut anywhere at both ends."""
    body = text.lstrip(_CONTINUATION)
    head = text[: len(text) - len(body)]
    if len(head) > 3:
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        tail = body[error.start :]
        return error.reason == "unexpected end of data" and any(
            _decodes(tail + rest) for rest in (b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x80" * 3, b"\xbf" * 3)
        )
    return True


def unfinished(text: bytes) -> bytes:
    """The bytes of a last character that is not whole; of a text that is UTF-8 up to there."""
    for size in range(1, min(4, len(text) + 1)):
        byte = text[-size]
        if byte >= 0xC0:
            return text[-size:] if size < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else b""
        if byte < 0x80:
            break
    return b""


def _decodes(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


_CONTINUATION = bytes(range(0x80, 0xC0))
_Paths = tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(maxsize=1024)
def byte_automaton(ranges: Ranges) -> ByteNode:
    """The automaton of one character out of inclusive, sorted, disjoint ranges. About 100 microseconds, then cached."""
    paths = [path for low, high in ranges for path in _byte_ranges(low, high)]
    return _node(tuple(paths))


@lru_cache(maxsize=8192)
def _node(paths: _Paths) -> ByteNode:
    rests: dict[int, list[tuple[tuple[int, int], ...]]] = {}
    for path in paths:
        low, high = path[0]
        for byte in range(low, high + 1):
            rests.setdefault(byte, []).append(path[1:])
    moves = {byte: None if () in found else _node(tuple(found)) for byte, found in rests.items()}
    return ByteNode(moves)


def _byte_ranges(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Split a code-point range into sequences of byte ranges that together encode exactly its code points."""
    for span_low, span_high in _SPANS:
        first, last = max(low, span_low), min(high, span_high)
        if first <= last:
            yield from _same_length(chr(first).encode(), chr(last).encode())


def _same_length(first: bytes, last: bytes) -> Iterator[tuple[tuple[int, int], ...]]:
    if len(first) == 1:
        yield ((first[0], last[0]),)
        return
    if first[0] == last[0]:
        for rest in _same_length(first[1:], last[1:]):
            yield ((first[0], first[0]), *rest)
        return
    lowest, highest = b"\x80" * (len(first) - 1), b"\xbf" * (len(first) - 1)
    middle_low, middle_high = first[0], last[0]
    if first[1:] != lowest:
        for rest in _same_length(first[1:], highest):
            yield ((first[0], first[0]), *rest)
        middle_low += 1
    if last[1:] != highest:
        middle_high -= 1
    if middle_low <= middle_high:
        yield ((middle_low, middle_high), *[(0x80, 0xBF)] * (len(first) - 1))
    if last[1:] != highest:
        for rest in _same_length(lowest, last[1:]):
            yield ((last[0], last[0]), *rest)
