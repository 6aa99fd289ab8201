"""A mask that takes long, made in pieces: what a stranger's guards ask may have to be asked of every token."""

from __future__ import annotations

from collections.abc import Iterator

from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.pushdown import LostWay


class Unfinished(Exception):
    """The mask is not there yet; `Matcher.go_on` continues."""


def lost(narrowing: Iterator[None]) -> Pieces[bool]:
    """Whether it is hopelessly ambiguous: what is in the mask then is left to the judge."""
    try:
        yield from narrowing
    except LostWay:
        return True
    return False
