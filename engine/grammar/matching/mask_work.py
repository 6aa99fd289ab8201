"""A mask that takes long, made in pieces: what a stranger's guards ask may have to be asked of every token.

Knows rows and how to go on; not guards or matchers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from engine.grammar.masks.bitmask import Row
from engine.grammar.pieces import PIECE_S
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
        """Go on for so many pieces, or as many milliseconds, about, as they should take; whether it is done."""
        until, left = (math.inf, -1) if most is None else (time.thread_time() + most * PIECE_S, most)
        try:
            while not self.done and left and time.thread_time() < until:
                left -= 1
                self.pieces += 1
                self.done = next(self._pieces, self) is self
        except LostWay:
            self.done = self.lost = True
        return self.done
