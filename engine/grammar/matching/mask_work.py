"""A mask that takes long, made in pieces: what a stranger's guards ask may have to be asked of every token.

Knows rows and how to go on; not guards or matchers.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.grammar.masks.bitmask import Row
from engine.grammar.pushdown.pushdown import LostWay


class Unfinished(Exception):
    """The mask is not there yet; `Matcher.go_on` continues."""


class MaskWork:
    """`bits` is the mask once `done`, after so many `pieces`. `lost`: hopelessly ambiguous; what is in it then is left
    to the judge."""

    def __init__(self, bits: Row, pieces: Iterator[None]) -> None:
        self.bits = bits
        self.pieces = 0
        self.done = False
        self.lost = False
        self._pieces = pieces

    def run(self, most: int | None) -> bool:
        """Go on for at most so many pieces, of about a millisecond; whether it is done."""
        try:
            while not self.done and (most is None or most > 0):
                most = None if most is None else most - 1
                self.pieces += 1
                self.done = next(self._pieces, self) is self
        except LostWay:
            self.done = self.lost = True
        return self.done
