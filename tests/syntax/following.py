"""How far a text of a language is followed."""

from __future__ import annotations

from engine.syntax import start

WHOLE, UNFINISHED = "whole", "unfinished"


def verdict(language: str, unit: str, text: str, *, partial: bool = False) -> str:
    """`whole`, `unfinished` or the text before the character that no continuation can make valid."""
    state = start(language, unit, partial=partial)
    for index, character in enumerate(text):
        state = state.feed(character)
        if not state.alive:
            return text[:index]
    assert not state.lost
    return WHOLE if state.whole else UNFINISHED
