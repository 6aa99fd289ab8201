"""What is kept of one judgement on its way: a count of what it has cost, with an end, and what was read."""

from __future__ import annotations

from typing import Any

from engine.errors import JudgingLimit

STEPS = 2_000_000
"""About a microsecond each: the 2 s of `limits.judge_s`. A text of 20,000 characters takes 100,000-250,000 where its
grammar is not ambiguous."""


class Work:
    """`spend` raises JudgingLimit once more than `steps` have been spent."""

    __slots__ = ("arguments", "found", "left")

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps
        self.arguments: dict[int, tuple[int, dict[str, Any]]] = {}
        """Where parameters of a call begin, where they end and what they mean."""
        self.found: dict[tuple[frozenset[str], int], tuple[str | None, int | None]] = {}
        """Which of some strings is complete first from a place on, and where it ends."""

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise JudgingLimit(
                "judging the text takes too long: its grammar is too ambiguous for a text of this length"
            )
