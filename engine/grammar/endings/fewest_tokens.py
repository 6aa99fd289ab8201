"""The fewest tokens to the end of a document, proved by search where that is affordable.

Adding up the tokens of a grammar's parts misses tokens that span two of them. A breadth-first search over tokens finds
those, as long as few places can be reached; it gives up after a fixed number of steps. Knows places and token texts.
"""

from __future__ import annotations

from engine.grammar.endings.position import Position, followed
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.pushdown import Pushdown
from engine.grammar.vocabulary.shortest_tokenization import Segmenter

_PIECE = 80
"""Steps at one go."""


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
        self._pause = most_steps - _PIECE

    def below(self, start: Position, limit: int) -> Pieces[tuple[int, ...] | None]:
        """In pieces: fewer than `limit` tokens from `start` to a complete document; None when there are none, or nobody
        knows."""
        reached: dict[Position, tuple[int, ...]] = {start: ()}
        frontier = [start]
        try:
            for _ in range(limit - 1):
                following: list[Position] = []
                for position in frontier:
                    for target, token in (yield from self._tokens_from(position)).items():
                        if target not in reached:
                            reached[target] = (*reached[position], token)
                            following.append(target)
                            if target.place.completed:
                                return reached[target]
                frontier = following
        except OutOfSteps:
            return None
        return None

    def _tokens_from(self, start: Position) -> Pieces[dict[Position, int]]:
        """Every position that one token leads to, with such a token."""
        found: dict[Position, int] = {}
        pending: list[tuple[Position, bytes]] = [(start, b"")]
        while pending:
            position, prefix = pending.pop()
            if self._steps <= self._pause:
                self._pause = self._steps - _PIECE
                yield
            legal = position.place.first_bytes() & self._segmenter.continuations(prefix)
            while legal:
                byte = (legal & -legal).bit_length() - 1
                legal &= legal - 1
                text = prefix + bytes((byte,))
                self._spend(1 + len(position.place.stacks) // 2)
                target = followed(self._pushdown, position, text[-1:], counting=False)
                self._spend(len(target.place.stacks) // 4)
                if target.place.stacks:
                    pending.append((target, text))
                    if text in self._ids:
                        found.setdefault(target, self._ids[text])
        return found

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise OutOfSteps
