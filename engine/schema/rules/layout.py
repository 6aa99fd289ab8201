"""How a document is laid out: separators, whitespace, and what can follow a value. Knows JSON punctuation only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from engine.schema.rules.grammar import EITHER, KEY_MARK, Chars, Ref, Rule, Sequence, Text, chars

Follow = Literal["end", "value", "line"]
"""What comes behind a value. `end`: perhaps nothing. `value`: a comma or a closing bracket. `line`: a line break."""

GAP = 40
"""Whitespace characters in a row that the flexible layout allows."""
BLANK = " \t\n\r"
_FOLLOW, _FLEXIBLE_FOLLOW = chars(",}]"), chars(",}]" + BLANK)
spelled = json.JSONEncoder(ensure_ascii=False).encode
"""A string as it is written, with its quotes."""


@dataclass(slots=True)
class Layout:
    """Adds its whitespace rules to `rules` when it is flexible."""

    rules: dict[str, Rule]
    flexible: bool
    _gap: Sequence | None = field(default=None)

    def follow(self, place: Follow) -> Chars | None:
        """The lookahead of a value in this place."""
        if place == "end":
            return None
        if place == "line":
            return chars("\n")
        return _FLEXIBLE_FOLLOW if self.flexible else _FOLLOW

    @property
    def after_key(self) -> Chars:
        """The lookahead of a key."""
        return chars(":" + KEY_MARK + (BLANK if self.flexible else ""))

    def gap(self) -> Sequence:
        """Whitespace between two symbols."""
        if not self.flexible:
            return ()
        if self._gap is None:
            self._gap = (self._chain(),)
        return self._gap

    def opened(self, bracket: str) -> Sequence:
        """An opening bracket and the whitespace behind it."""
        return (Text(bracket), *self.gap())

    def closed(self, bracket: str) -> Sequence:
        """A closing bracket and the whitespace before it."""
        return (*self.gap(), Text(bracket))

    def comma(self) -> Sequence:
        """A comma between members or items."""
        return (*self.gap(), Text(","), *self.gap())

    def colon(self) -> Sequence:
        """The colon between key and value."""
        return (*self.gap(), Text(":"), *self.gap())

    def key(self, name: str) -> Sequence:
        """A declared key, spelled as json.dumps(ensure_ascii=False) does, and its colon."""
        return (Text(spelled(name)), *self.behind_key())

    def behind_key(self) -> Sequence:
        """What follows the closing quote of a declared key."""
        return (Ref(EITHER), *self.colon())

    def _chain(self) -> Ref:
        for left in range(GAP + 1):
            name = f"w{left}"
            more: tuple[Sequence, ...] = ((chars(BLANK), Ref(f"w{left - 1}")),) if left else ()
            self.rules[name] = Rule(name, ((Text(""),), *more))
        return Ref(f"w{GAP}")
