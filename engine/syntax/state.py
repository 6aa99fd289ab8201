"""Follows a text of a language while it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.syntax.language import Language, Start
from engine.syntax.languages import language_of
from engine.syntax.reading import Reading, begin, dead, is_whole, read
from engine.syntax.stacks import TooAmbiguous

PIECE = 1024
"""Characters read at once: what is left of them is copied after each token."""


@dataclass(slots=True, eq=False)
class State:
    """Where a text stands. Immutable; one for each token costs little, since they share what they have in common."""

    language: Language
    partial: bool
    readings: tuple[Reading, ...] = field(repr=False)
    lost: bool = False
    """The text has more readings than are followed: nothing is refused any more, and a parser must tell at the end."""

    def feed(self, text: str) -> State:
        """The state after more of the text; its cost grows with that alone."""
        if self.lost or not self.readings:
            return self
        try:
            readings = self.readings
            for at in range(0, len(text), PIECE):
                readings = tuple(read(self.language, readings, text[at : at + PIECE]))
        except TooAmbiguous:
            return State(self.language, self.partial, (), lost=True)
        return State(self.language, self.partial, readings)

    @property
    def alive(self) -> bool:
        """Whether some continuation makes the text valid."""
        return self.lost or bool(self.readings)

    @property
    def whole(self) -> bool:
        """Whether the text is valid as it is, as far as the grammar tells."""
        try:
            return self.lost or is_whole(self.language, self.readings, partial=self.partial)
        except TooAmbiguous:
            return True

    def dead(self, characters: Iterable[str]) -> set[str]:
        """Those of the characters that make it dead."""
        try:
            return set() if self.lost else dead(self.language, self.readings, characters)
        except TooAmbiguous:
            return set()

    @property
    def size(self) -> int:
        """Parser states, modes and characters held, those too that other states share."""
        seen = set[int]()
        for reading in self.readings:
            work = [*reading.stacks, *reading.taken, reading.modes, reading.layout.blocks]
            while work:
                item = work.pop()
                if item is not None and id(item) not in seen:
                    seen.add(id(item))
                    work += [item[1], *(item[3] if len(item) > 2 else ())]
        return len(seen) + sum(len(reading.pending) + len(reading.layout.text) for reading in self.readings)


def start(language: str, unit: str, *, partial: bool = False, dialect: str | None = None) -> State:
    """Before any text. KeyError: a language or unit that is not in LANGUAGES; ValueError: a dialect that is not."""
    grammar = language_of(language, dialect)
    first: Start = grammar.units[unit]
    return State(grammar, partial, (begin(first),))
