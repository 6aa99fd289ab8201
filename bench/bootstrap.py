"""Confidence intervals of ratios by resampling prompts (percentile bootstrap, Efron 1979). Knows numbers only.

Prompts are the units that vary; the tokens of one document are not independent and are never resampled singly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio over all prompts and the middle 95 % of its resampled values."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        return [self.value, self.low, self.high]


def ratio(numerators: Sequence[float], denominators: Sequence[float], *, seed: int) -> Interval:
    """sum(numerators) / sum(denominators), one entry a prompt; resamples whose denominator is 0 are left out.

    The same seed and number of prompts resample the same prompts, so that intervals of variants are paired.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(top) != len(bottom) or not len(top):
        raise ValueError(f"{len(top)} numerators and {len(bottom)} denominators")
    if not bottom.sum():
        return Interval(0.0, 0.0, 0.0)
    picks = np.random.default_rng(seed).integers(0, len(top), (RESAMPLES, len(top)))
    tops, bottoms = top[picks].sum(1), bottom[picks].sum(1)
    ratios = tops[bottoms != 0] / bottoms[bottoms != 0]
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high))
