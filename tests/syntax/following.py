"""How far a text of a language is followed."""

from __future__ import annotations

from engine.syntax import State, start

WHOLE, UNFINISHED = "whole", "unfinished"


def followed(state: State, text: str) -> tuple[State, int | None]:
    """The state behind the text, fed character by character, or behind the one that no continuation can make valid, and
    how many stand before that; None: there is none."""
    for index, character in enumerate(text):
        state = state.feed(character)
        if not state.alive:
            return state, index
    return state, None


def verdict(language: str, unit: str, text: str, *, partial: bool = False) -> str:
    """`whole`, `unfinished` or the text before the character that no continuation can make valid."""
    state, dead = followed(start(language, unit, partial=partial), text)
    if dead is not None:
        return text[:dead]
    assert not state.lost
    return WHOLE if state.whole else UNFINISHED


def dead_at(language: str, text: str, unit: str = "module", dialect: str | None = None) -> int | None:
    """Characters before the one that no continuation can make valid; None: alive to its end."""
    return followed(start(language, unit, dialect=dialect), text)[1]
