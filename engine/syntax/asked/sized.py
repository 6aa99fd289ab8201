"""A text of a language, of so many characters: one branch of a schema may ask for a length that another does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from engine.syntax.asked.syntax import Syntax
from engine.syntax.state import State


@dataclass(frozen=True, slots=True)
class Sized:
    """What a string must be."""

    syntax: Syntax
    least: int = 0
    most: float = inf

    def start(self) -> SizedState:
        return SizedState(self.syntax.start(), self.least, self.most)


@dataclass(frozen=True, slots=True, eq=False)
class SizedState:
    """As `State`, with the characters that must still come at least, and may at most."""

    state: State
    least: int
    most: float

    def feed(self, text: str) -> SizedState:
        return SizedState(self.state.feed(text), self.least - len(text), self.most - len(text))

    @property
    def alive(self) -> bool:
        return self.most >= 0 and self.state.alive

    @property
    def whole(self) -> bool:
        return self.least <= 0 <= self.most and self.state.whole

    def dead(self, characters: Iterable[str]) -> set[str]:
        return set(characters) if self.most < 1 else self.state.dead(characters)
