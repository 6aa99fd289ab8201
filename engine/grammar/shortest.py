"""The fewest tokens to the end of a document, proved by search where that is affordable.

Adding up the tokens of a grammar's parts misses tokens that span two of them. A breadth-first search over tokens finds
those, as long as few places can be reached; it gives up after a fixed number of steps. Knows places and token texts.
"""

from __future__ import annotations

from engine.grammar.pushdown import Place, Pushdown
from engine.grammar.segment import Segmenter


class OutOfSteps(Exception):
    """The search was given up."""


class Shortest:
    """One search over the tokens of a vocabulary."""

    def __init__(self, pushdown: Pushdown, segmenter: Segmenter, most_steps: int) -> None:
        """`most_steps` bytes are tried before giving up, fewer where a place holds many stacks; 1,000 take 2-20 ms."""
        self._pushdown = pushdown
        self._segmenter = segmenter
        self._ids = segmenter.ids
        self._steps = most_steps

    def below(self, start: Place, limit: int) -> tuple[int, ...] | None:
        """Fewer than `limit` tokens from `start` to a complete document; None when there are none, or nobody knows."""
        reached: dict[Place, tuple[int, ...]] = {start: ()}
        frontier = [start]
        try:
            for _ in range(limit - 1):
                following: list[Place] = []
                for place in frontier:
                    for target, token in self._tokens_from(place).items():
                        if target not in reached:
                            reached[target] = (*reached[place], token)
                            following.append(target)
                            if target.completed:
                                return reached[target]
                frontier = following
        except OutOfSteps:
            return None
        return None

    def _tokens_from(self, start: Place) -> dict[Place, int]:
        """Every place that one token leads to, with such a token."""
        found: dict[Place, int] = {}
        pending: list[tuple[Place, bytes]] = [(start, b"")]
        while pending:
            place, prefix = pending.pop()
            legal = place.first_bytes() & self._segmenter.continuations(prefix)
            while legal:
                byte = (legal & -legal).bit_length() - 1
                legal &= legal - 1
                text = prefix + bytes((byte,))
                self._spend(1 + len(place.stacks) // 2)
                target = self._pushdown.step(place, byte)
                self._spend(len(target.stacks) // 4)
                if target.stacks:
                    pending.append((target, text))
                    if text in self._ids:
                        found.setdefault(target, self._ids[text])
        return found

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise OutOfSteps
