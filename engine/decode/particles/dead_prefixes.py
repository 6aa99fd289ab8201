"""What proposals have shown to be invalid: a trie of beginnings, each with the share of its probability that is left.

`alive` bounds from above how probable it is that a text which begins so becomes valid. It starts at 1, is the legal
tokens' share once the mask is known, and shrinks as beginnings below it turn out to be dead. Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping


class Prefix:
    """A beginning that a proposal came to."""

    __slots__ = ("_legal", "_mass", "alive", "below")

    def __init__(self) -> None:
        self.alive = 1.0
        self.below: dict[int, tuple[float, Prefix]] = {}
        """By token: its probability here, and the beginning with it."""
        self._mass: float | None = None
        self._legal = 0

    @property
    def known(self) -> bool:
        """Whether the mask behind it has been seen."""
        return self._mass is not None

    def learn(self, mass: float, legal: int) -> None:
        """So many tokens are legal here, and together have this probability."""
        self._mass, self._legal = (mass if legal else 0.0), legal
        self.weigh()

    def weigh(self) -> None:
        """Add up again what is alive below."""
        if self._mass is None:
            return
        tried = sum(probability for probability, _ in self.below.values())
        rest = max(0.0, self._mass - tried) if len(self.below) < self._legal else 0.0
        self.alive = min(1.0, rest + sum(probability * prefix.alive for probability, prefix in self.below.values()))

    def shares(self) -> Mapping[int, float]:
        """By token, what is alive below where that is not everything."""
        return {token: prefix.alive for token, (_, prefix) in self.below.items() if prefix.alive < 1.0}
