"""What makes one doubt that particles have found the texts that matter; told as warnings. Knows numbers only."""

from __future__ import annotations

import math

_LOW = 0.1
"""Of the particles: a smaller effective sample size is warned of."""


class Watch:
    """Sees the particles after each token."""

    def __init__(self, particles: int) -> None:
        self._particles = particles
        self._tokens = 0
        self._lowest, self._lowest_at = float(particles), 0
        self._log_evidence = 0.0
        self._fall, self._fall_at = 0.0, 0
        self.chose = False
        """Some particle had more than one legal token."""
        self._had_chosen = False

    def see(self, effective: float, log_evidence: float) -> None:
        """The effective sample size, and the log of the mean weight since the beginning."""
        self._tokens += 1
        if effective < self._lowest:
            self._lowest, self._lowest_at = effective, self._tokens
        fall = log_evidence - self._log_evidence
        if self._had_chosen and fall < self._fall:
            self._fall, self._fall_at = fall, self._tokens
        self._log_evidence, self._had_chosen = log_evidence, self.chose

    def warnings(self, samples: int) -> tuple[str, ...]:
        """For this many samples that are drawn from the particles."""
        size, told = self._particles, []
        if self._lowest < _LOW * size:
            told.append(
                f"the effective sample size was {self._lowest:.1f} of {size} particles at token {self._lowest_at}: "
                "what is drawn depends on few of them"
            )
        if self._fall < -math.log(max(size, 1 / _LOW)):
            told.append(
                f"at token {self._fall_at} the legal tokens had {math.exp(self._fall):.1e} of the model's probability: "
                f"a beginning of probability below 1/{size}, which no particle may have tried, could hold more than "
                "all that were tried"
            )
        if samples > 1:
            told.append(f"the {samples} samples are drawn from one system of {size} particles: not independent")
        return tuple(told)
