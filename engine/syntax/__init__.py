"""Texts of programming languages, followed while they are written: whether one can still become valid.

`start` gives the state before the first character. Importing this is cheap: tables are read where a language is used.
"""

from __future__ import annotations

from typing import Protocol, Self

from engine.errors import RequestError
from engine.syntax.languages import LANGUAGES
from engine.syntax.syntax import Syntax

__all__ = ["LANGUAGES", "State", "Syntax", "start"]


class State(Protocol):
    """Where a text stands. Never changed: one may be kept for every token."""

    def feed(self, text: str) -> Self:
        """Behind some more characters."""

    @property
    def alive(self) -> bool:
        """False: no continuation can be valid."""

    @property
    def whole(self) -> bool:
        """The text is valid as it stands."""


def start(language: str, unit: str, *, partial: bool = False, dialect: str | None = None) -> State:
    """The state of an empty text. RequestError for what is not followed."""
    Syntax(language, unit, partial=partial, dialect=dialect)
    raise RequestError(f"language {language!r} is not followed", param="language")
