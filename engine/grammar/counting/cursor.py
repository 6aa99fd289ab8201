"""What has been written of one JSON document, counted byte by byte. Knows JSON text; not grammars or tokens.

The text is taken for legal: whoever follows it otherwise has refused what is not. A cursor is never changed: one per
token is kept, and taking tokens back is dropping cursors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import NamedTuple

from engine.config import Limits
from engine.grammar.counting.many_keys import with_key
from engine.schema.regex.counting_automaton import CountingAutomaton, State
from engine.schema.sets.distinct import canonical

_QUOTE = 0x22
_TO_QUOTE = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)
_ESCAPE = re.compile(
    rb"""\\(?:
        ( u [dD][89abAB][0-9a-fA-F]{2} (?: \\ (?: u (?: [dD] (?: [c-fC-F] [0-9a-fA-F]? )? )? )? )? \Z
        | (?: u [0-9a-fA-F]{0,3} )? \Z )
    | u [dD][89abAB][0-9a-fA-F]{2} \\ u [dD][c-fC-F][0-9a-fA-F]{2}
    | u [0-9a-fA-F]{4}
    | . )""",
    re.DOTALL | re.VERBOSE,
)
"""One character written as an escape, a pair of surrogates together; group 1 where the text ends within it."""
_CONTINUATION = bytes(range(0x80, 0xC0))
_NO_KEYS: frozenset[str] = frozenset()
_made = tuple.__new__  # half the time of the class's own call


class Letters:
    """What is written of an open string, a piece a time, and where patterns stand behind it. Pieces are shared."""

    __slots__ = ("_before", "_inner", "_piece", "_reached")

    def __init__(self, before: Letters | None = None, piece: bytes = b"") -> None:
        self._before = before
        self._piece = piece
        self._reached: dict[str, tuple[State | None, bytes]] = {}
        self._inner: tuple[Cursor, bytes] | None = None

    def reached(self, automaton: CountingAutomaton) -> State | None:
        """Where a pattern stands behind the finished characters. Each piece is read once a pattern."""
        pending, node, pattern = list[Letters](), self, automaton.pattern
        while pattern not in node._reached and node._before is not None:
            pending.append(node)
            node = node._before
        state, cut = node._reached.get(pattern, (automaton.start, b""))
        for node in reversed(pending):
            whole, cut = finished(cut + node._piece)
            state = automaton.run(state, whole)
            node._reached[pattern] = state, cut
        return state

    def inner(self) -> Cursor:
        """Where the document stands that the finished characters begin. Each piece is read once."""
        pending, node = list[Letters](), self
        while node._inner is None and node._before is not None:
            pending.append(node)
            node = node._before
        cursor, cut = node._inner or (Cursor(letters=NO_LETTERS), b"")
        for node in reversed(pending):
            whole, cut = finished(cut + node._piece)
            cursor = cursor.read(whole.encode("utf-8", "surrogatepass")) if whole else cursor
            node._inner = cursor, cut
        return cursor


NO_LETTERS = Letters()
"""At the start of every string."""


class Frame(NamedTuple):
    """An open container and what it stands in."""

    keys: Set[str] | None
    """The keys that an object has, decoded; None: an array."""
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    """Members whose key is written, or items that have begun."""
    outside: Frame | None
    values: frozenset[str] = frozenset()
    """The finished items of an array, as `canonical` writes them, where the text is kept."""
    start: int = 0
    """Where the open member or item begins in the text."""
    last: str | None = None
    """The key of an object that was written last."""

    def with_key(self, key: str) -> Frame:
        """The object with one more key."""
        return _made(Frame, (with_key(self.keys or _NO_KEYS, key), self.count + 1, *self[2:5], key))

    def next(self, text: bytes, start: int) -> Frame:
        """Behind the comma that ends a member or item, at index `start` of the text."""
        value = None if self.keys is not None else canonical(text[self.start : start - 1])
        values = self.values if value is None else self.values | {value}
        return _made(Frame, (*self[:3], values, start, self.last))


class Cursor(NamedTuple):
    """Where the text stands; without arguments, at the start of a document. The facts that guards look at, and more."""

    frame: Frame | None = None
    """The innermost open container."""
    expects: bool = False
    """A key, or an item, may come next: behind a bracket that opens or a comma."""
    in_string: bool = False
    is_key: bool = False
    """Within a key."""
    chars: int = 0
    """Code points of the open string, keys too. An escape counts from its backslash, a pair of surrogates once."""
    digits: int = 0
    """Bytes of the open number."""
    raw: bytes = b""
    """The open key as it is written."""
    escape: bytes = b""
    """The bytes of an escape, or pair, that is not finished."""
    text: bytes | None = None
    """All that was read, from a cursor on that had an empty text; None: it is not kept."""
    letters: Letters | None = None
    """What is written of the open string; None: it is not kept."""

    @property
    def in_escape(self) -> bool:
        """Within an escape, or behind the first half of a pair."""
        return self.escape != b""

    @property
    def key(self) -> str:
        """The finished characters of the open key, decoded; empty elsewhere."""
        return spelled(self.raw[: len(self.raw) - len(self.escape)])

    def reached(self, automaton: CountingAutomaton) -> State | None:
        """Where a pattern stands behind the finished characters of the open string; at its start outside of all."""
        return (self.letters or NO_LETTERS).reached(automaton)

    @property
    def inner(self) -> Cursor:
        """Where the document stands that the open string holds, by its finished characters."""
        return (self.letters or NO_LETTERS).inner()

    @property
    def keys(self) -> Set[str]:
        """The keys of the open object; empty elsewhere."""
        return self.frame.keys or frozenset() if self.frame else frozenset()

    @property
    def last(self) -> str | None:
        """The key of the open object that was written last."""
        return self.frame.last if self.frame else None

    @property
    def count(self) -> int:  # type: ignore[override]  # a tuple has a method of that name
        """Members whose key is written, or items that have begun, of the open container."""
        return self.frame.count if self.frame else 0

    @property
    def values(self) -> frozenset[str]:
        """The finished items of the open array, as `canonical` writes them; empty where the text is not kept."""
        return self.frame.values if self.frame else frozenset()

    @property
    def item(self) -> str | None:
        """The same of the item that stands last and is not among them, where it is whole."""
        return canonical(self.text[self.frame.start :]) if self.frame and self.text else None

    def fresh(self) -> Cursor:
        """At the start of a document, keeping as much."""
        return Cursor(text=None if self.text is None else b"", letters=self.letters and NO_LETTERS)

    def out(self, levels: int) -> Cursor:
        """The facts as they are seen `levels` containers further out, between its members."""
        frame = self.frame
        for _ in range(levels):
            frame = frame and frame.outside
        return Cursor(frame, text=self.text, letters=self.letters and NO_LETTERS)

    def over(self, limits: Limits) -> bool:
        """Whether the open string, number or array is beyond its guard; an array is where it must get an item more."""
        if self.chars > limits.string_chars or self.digits > limits.number_chars:
            return True
        frame = self.frame
        return frame is not None and frame.keys is None and frame.count + self.expects > limits.array_items

    def read(self, text: bytes) -> Cursor:
        """The cursor after more bytes, cut anywhere. About a microsecond for a token within a string, 2 for others."""
        frame, expects, in_string, is_key, chars, digits, raw, escape, whole, letters = self
        whole = whole if whole is None else whole + text
        if in_string and not escape and b'"' not in text and b"\\" not in text:
            letters, raw = letters and Letters(letters, text), raw + text * is_key
            return _made(Cursor, (frame, False, True, is_key, chars + beginning(text), 0, raw, b"", whole, letters))
        at, end = 0, len(text)
        while at < end:
            if in_string:
                close = closing_quote(text, at, escape)
                raw += text[at:close] * is_key
                letters = letters and (Letters(letters, text[at:close]) if close == end else NO_LETTERS)
                if close == end:
                    chars, escape = _more(chars, escape, text[at:])
                    break
                if is_key and frame is not None:
                    frame = frame.with_key(spelled(raw))
                in_string, is_key, chars, raw, escape, at = False, False, 0, b"", b"", close + 1
                continue
            byte, at = text[at], at + 1
            if byte in b" \t\n\r:":
                digits = 0
            elif byte == 0x2C:
                expects, digits = frame is not None, 0
                frame = frame if whole is None or frame is None else frame.next(whole, _at(whole, end - at))
            elif byte in b"}]":
                frame, expects, digits = frame and frame.outside, False, 0
            else:
                if expects and frame is not None and frame.keys is None:
                    frame, expects = _made(Frame, (None, frame.count + 1, *frame[2:])), False
                if byte == _QUOTE:
                    in_string, is_key, expects, digits = True, expects, False, 0
                elif byte in b"{[":
                    frame = Frame(_NO_KEYS if byte == 0x7B else None, 0, frame, start=_at(whole, end - at))
                    expects = True
                elif digits or byte in b"-0123456789":
                    digits += 1
        return _made(Cursor, (frame, expects, in_string, is_key, chars, digits, raw, escape, whole, letters))


def _more(chars: int, escape: bytes, piece: bytes) -> tuple[int, bytes]:
    """The characters so far, and the escape that is open, behind one more piece of a string."""
    count, unfinished = characters(escape + piece)
    return chars - (escape != b"") + count, unfinished


def finished(piece: bytes) -> tuple[str, bytes]:
    """The characters that end in a piece of a string, decoded, and the bytes of one that does not."""
    try:
        text, end = piece.decode(), len(piece)
    except UnicodeDecodeError as error:
        end = error.start
        text = piece[:end].decode()
    if "\\" in text:
        end -= len(characters(piece)[1]) if end == len(piece) else 0
        text = spelled(piece[:end])
    return text, piece[end:]


def _at(text: bytes | None, left: int) -> int:
    """Where a text that is kept stands, `left` bytes before its end."""
    return 0 if text is None else len(text) - left


def closing_quote(text: bytes, at: int = 0, escape: bytes = b"") -> int:
    """Index of the quote that ends the string, or the length where it goes on; `escape` is open at `at`."""
    close = text.find(b'"', at)
    if escape[-1:] != b"\\" and text.find(b"\\", at, None if close < 0 else close) < 0:
        return len(text) if close < 0 else close
    start = at + (escape[-1:] == b"\\")
    match = _TO_QUOTE.match(text, start)
    return match.end() - 1 if match else len(text)


def spelled(key: bytes) -> str:
    """The key that this text between quotes spells, whatever its escapes; broken ones stay as they are."""
    text = key.decode("utf-8", "ignore")
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def beginning(text: bytes) -> int:
    """How many characters begin in it, taken as it stands."""
    return len(text) if text.isascii() else len(text.translate(None, _CONTINUATION))


def characters(piece: bytes) -> tuple[int, bytes]:
    """How many characters begin in a part of a string, and the escape that is open at its end."""
    single = piece.replace(b"\\\\", b"x")
    if b"\\u" not in single and single[-1:] != b"\\":
        return beginning(single) - single.count(b"\\"), b""
    count, unfinished = beginning(piece), b""
    for match in _ESCAPE.finditer(piece):
        count -= match.end() - match.start() - 1
        if match[1] is not None:
            unfinished = match[0]
    return count, unfinished
