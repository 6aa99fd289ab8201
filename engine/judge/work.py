"""A count of what judging has cost, with an end."""

from __future__ import annotations

from engine.errors import JudgingLimit

STEPS = 2_000_000
"""About a microsecond each: the 2 s of `limits.judge_s`. A text of 20,000 characters takes 100,000-250,000 where its
grammar is not ambiguous."""


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
