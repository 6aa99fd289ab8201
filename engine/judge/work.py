"""A count of what judging has cost, with an end."""

from __future__ import annotations

from engine.errors import JudgingLimit

STEPS = 20_000_000
"""Of about half a microsecond each: beyond any time limit, so that it only ends what no time limit watches."""


class Work:
    """`spend` raises JudgingLimit once more than `steps` have been spent."""

    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise JudgingLimit(
                "judging the text takes too long: its grammar is too ambiguous for a text of this length"
            )
