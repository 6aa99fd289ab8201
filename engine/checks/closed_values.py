"""The values of a JSON text in the order in which they close, at the places that somebody watches.

Knows JSON text, which may be cut anywhere, and pointers; knows no checks. Reads on from where it was; a text that was
taken back is read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from engine.pointer import json_pointer

_LEXEME = re.compile(rb'\s*("[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]+)', re.DOTALL)
_PUNCTUATION = frozenset(b'{}[]:,"')
STRUCTURE = frozenset(b'"{}[]:,')
"""Bytes without which a token opens and closes nothing that is told here."""

Steps = Sequence[str]


@dataclass(frozen=True, slots=True)
class Closed:
    """A value that closed, from `start` to `end`. `watch` is the number of the place, `key` the same for the same value
    behind the same text, `closers` end what was open by then."""

    watch: int
    pointer: str
    start: int
    end: int
    closers: bytes
    key: bytes


@dataclass(slots=True)
class _Reading:
    """Where a text has been read to."""

    text: bytes = b""
    path: list[str | int] = field(default_factory=list)
    """One entry for each open container: the key or index of its current member."""
    opened: list[tuple[int, bytes, bool]] = field(default_factory=list)
    """Where each began, what closes it, and whether somebody watches it."""
    key_next: bool = False
    value_next: bool = True
    closed: list[Closed] = field(default_factory=list)
    hashed: int = 0
    hash: blake2b = field(default_factory=lambda: blake2b(digest_size=16))
    """Of so many bytes."""


class ClosedValues:
    """Follows one text. `places`: steps of pointers, `*` for any key or index."""

    def __init__(self, places: Sequence[Steps]) -> None:
        self._places = [tuple(steps) for steps in places]
        self._at = _Reading()

    def read(self, text: bytes, *, ended: bool = False) -> list[Closed]:
        """All watched values that have closed, innermost first. Numbers close with the byte behind them, or where the
        text has `ended`. Linear in what is new."""
        if not text.startswith(self._at.text):
            self._at = _Reading()
        position = len(self._at.text)
        while match := _LEXEME.match(text, position):
            lexeme, end = match[1], match.end()
            if end == len(text) and lexeme[0] not in _PUNCTUATION and not ended:
                break  # it may go on
            self._take(lexeme, match.start(1), text, end)
            position = end
        self._at.text = text[:position]
        return self._at.closed

    @property
    def watching(self) -> bool:
        """Whether a watched value is open, or what comes next is one."""
        at = self._at
        return any(watched for _, _, watched in at.opened) or (at.value_next and bool(self._watches()))

    def _take(self, lexeme: bytes, start: int, text: bytes, end: int) -> None:
        at = self._at
        if lexeme in (b"}", b"]"):
            at.path.pop()
            self._close(at.opened.pop()[0], text, end)
        elif lexeme == b",":
            at.key_next = isinstance(at.path[-1], str)
            at.value_next = not at.key_next
            if isinstance(at.path[-1], int):
                at.path[-1] += 1
        elif lexeme == b":":
            at.value_next = True
        elif at.key_next:
            at.path[-1], at.key_next = str(json.loads(lexeme)), False
        elif lexeme in (b"{", b"["):
            at.opened.append((start, b"}" if lexeme == b"{" else b"]", bool(self._watches())))
            at.path.append("" if lexeme == b"{" else 0)
            at.key_next, at.value_next = lexeme == b"{", lexeme == b"["
        else:
            self._close(start, text, end)

    def _close(self, start: int, text: bytes, end: int) -> None:
        at = self._at
        at.key_next = at.value_next = False
        if watches := self._watches():
            closers = b"".join(closer for _, closer, _ in reversed(at.opened))
            at.hash.update(text[at.hashed : end])
            at.hashed, pointer, said = end, json_pointer(at.path), at.hash.digest()
            at.closed += [Closed(watch, pointer, start, end, closers, said + b"%d" % watch) for watch in watches]

    def _watches(self) -> list[int]:
        """Numbers of the places that the current path is at."""
        return [number for number, steps in enumerate(self._places) if is_at(steps, self._at.path)]


def is_at(place: Steps, path: Sequence[str | int]) -> bool:
    """Whether the steps of a pointer, `*` for any, lead along this path."""
    return len(place) == len(path) and all(s in ("*", str(p)) for s, p in zip(place, path, strict=True))
