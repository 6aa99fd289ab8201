"""Values that never end: a string, a number or an array beyond its guard, after which the document is closed.

Knows JSON's brackets and quotes and the texts of tokens; no grammars, no budgets. Nearly free for what is short: the
text is only read once it is long enough to hold something over a guard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.config import Limits

_NUMERIC = b"+-.0123456789eE"


@dataclass(frozen=True, slots=True)
class Container:
    """An open object (`items` 0) or array (its members so far, the present one included)."""

    parent: Container | None
    items: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the text stands: `chars` of the open string (-1 outside) and `digits` of the open number."""

    container: Container | None = None
    chars: int = -1
    digits: int = 0
    escaped: bool = False


class Runaway:
    """One document's guards, token by token, so that tokens can be taken back."""

    __slots__ = ("_limits", "_readings", "_sizes", "_tails", "_texts")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._texts: list[bytes | None] = []
        self._sizes = [0]
        self._tails = [0]  # per token, how many numeric bytes the text ends with
        self._readings = [Reading()]  # of as many tokens as have been read

    def push(self, text: bytes | None) -> None:
        """One token more; None for one after which the text stands outside of any document. 0.3 microseconds."""
        if text is None:
            self._texts.append(None)
            self._sizes.append(self._sizes[-1])
            self._tails.append(0)
            return
        tail = len(text) - len(text.rstrip(_NUMERIC))
        self._texts.append(text)
        self._sizes.append(self._sizes[-1] + len(text))
        self._tails.append(tail + self._tails[-1] if tail == len(text) else tail)

    def pop(self, count: int) -> None:
        """The last tokens are taken back."""
        kept = len(self._texts) - count
        for entries in (self._sizes, self._tails, self._readings):
            del entries[kept + 1 :]
        del self._texts[kept:]

    def fork(self) -> Runaway:
        copy = object.__new__(Runaway)
        copy._limits, copy._texts, copy._sizes = self._limits, list(self._texts), list(self._sizes)
        copy._tails, copy._readings = list(self._tails), list(self._readings)
        return copy

    @property
    def over(self) -> bool:
        """Whether the open string, number or array is beyond its guard."""
        limits = self._limits
        long = self._sizes[-1] > min(limits.string_chars, 2 * limits.array_items)
        if not long and self._tails[-1] <= limits.number_chars:
            return False
        for text in self._texts[len(self._readings) - 1 :]:
            self._readings.append(_read(self._readings[-1], text))
        reading = self._readings[-1]
        items = 0 if reading.container is None else reading.container.items
        return reading.chars > limits.string_chars or reading.digits > limits.number_chars or items > limits.array_items


def _read(reading: Reading, text: bytes | None) -> Reading:
    if text is None:
        return Reading()
    for byte in text:
        reading = _inside(reading, byte) if reading.chars >= 0 else _outside(reading, byte)
    return reading


def _inside(reading: Reading, byte: int) -> Reading:
    """In a string: one character more, unless the byte ends the string or goes on with a character."""
    if byte == ord('"') and not reading.escaped:
        return replace(reading, chars=-1)
    escaped = byte == ord("\\") and not reading.escaped
    return replace(reading, chars=reading.chars + (byte & 0xC0 != 0x80), escaped=escaped)


def _outside(reading: Reading, byte: int) -> Reading:
    container = reading.container
    if byte in _NUMERIC:
        return replace(reading, digits=reading.digits + 1)
    if byte == ord('"'):
        return replace(reading, chars=0, digits=0)
    if byte in b"[{":
        return Reading(Container(container, byte == ord("[")))
    if byte in b"]}":
        return Reading(container and container.parent)
    if byte == ord(",") and container is not None and container.items:
        return Reading(Container(container.parent, container.items + 1))
    return replace(reading, digits=0)
