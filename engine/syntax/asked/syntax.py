"""What a string must be: a unit of a programming language. Checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.errors import RequestError, UnknownOption
from engine.fields import check_fields
from engine.syntax.languages import LANGUAGES, grammar_text
from engine.syntax.state import State, start

_SHOWN = 40
"""Characters of what is refused."""
UNITS = ("module", "statements", "statement", "expression", "type", "signature", "body")


@dataclass(frozen=True, slots=True)
class Syntax:
    """`partial`: the header of a block is enough. `dialect` is for languages that have some (SQL, regular expressions).

    RequestError names what is not followed, and what there is.
    """

    language: str
    unit: str = "module"
    partial: bool = False
    dialect: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.language not in LANGUAGES:
            raise _unfollowed("language", self.language, LANGUAGES)
        units = [unit for unit in UNITS if unit in LANGUAGES[self.language]]
        if self.unit not in units:
            raise _unfollowed("unit", self.unit, units, f" of {self.language}")
        if self.dialect is not None:
            try:
                grammar_text(self.language, self.dialect[:_SHOWN])  # what nobody knows is told
            except ValueError as error:
                raise RequestError(f"dialect: {error}", param="dialect") from None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Syntax:
        """Of a plain object."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                shown = str(name)[:_SHOWN]
                raise UnknownOption(f"a syntax has no {shown!r}; it has {', '.join(known)}", param=shown)
        if "language" not in given:
            raise RequestError("a syntax needs a language", param="language")
        return cls(**given)

    def start(self) -> State:
        """Before any text."""
        return start(self.language, self.unit, partial=self.partial, dialect=self.dialect)


def _unfollowed(field: str, value: str, there: Mapping[str, Any] | list[str], of: str = "") -> RequestError:
    return RequestError(f"{field} {value[:_SHOWN]!r}{of} is not followed; there is: {', '.join(there)}", param=field)
