"""Work that may take long, in pieces of about a millisecond: a generator stops after each, and returns what was found.

The decode thread does a few of them between two steps; whoever need not think of others does all at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")
Pieces = Generator[None, None, T]


class Work(Generic[T]):
    """`result` is there when `run` has said that it is done."""

    result: T

    def __init__(self, pieces: Pieces[T]) -> None:
        self._pieces = pieces

    def run(self, most: int) -> bool:
        """Go on for at most so many pieces; whether it is done."""
        try:
            for _ in range(most):
                next(self._pieces)
        except StopIteration as done:
            self.result = done.value
            return True
        return False


def at_once(pieces: Pieces[T]) -> T:
    """The whole work."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            found: T = done.value
            return found
