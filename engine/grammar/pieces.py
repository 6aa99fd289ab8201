"""Work that may take long, in pieces of about a millisecond: a generator stops after each, and returns what was found.

The decode thread does a few of them between two steps; whoever need not think of others does all at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")
Pieces = Generator[None, None, T]
PIECE_S = 0.0015
"""Of this thread's processor time: what a piece should take, about."""


class Work(Generic[T]):
    """`result` is there once `done`, after so many pieces (`run`)."""

    result: T

    def __init__(self, pieces: Pieces[T]) -> None:
        self._pieces = pieces
        self.pieces = 0
        self.done = False

    def run(self, most: int | None, *, timed: bool = False) -> bool:
        """Go on for at most so many pieces, `timed` no longer than they should take; whether it is done.

        Where the result depends on whether it is done, a clock would make another one of it on a busy day.
        """
        until = math.inf if most is None or not timed else time.thread_time() + most * PIECE_S
        stop = math.inf if most is None else self.pieces + most
        try:
            while not self.done and self.pieces < stop and (until == math.inf or time.thread_time() < until):
                self.pieces += 1
                next(self._pieces)
        except StopIteration as done:
            self.result, self.done = done.value, True
        return self.done


def at_once(pieces: Pieces[T]) -> T:
    """The whole work."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            found: T = done.value
            return found
