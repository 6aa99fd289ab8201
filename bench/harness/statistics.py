"""Percentiles, and confidence intervals of ratios by resampling prompts. Knows numbers only.

Intervals are percentile bootstraps (Efron 1979). Prompts are the units that vary; the tokens of one document are not
independent and are never resampled singly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

RESAMPLES = 2000
"""Enough that the ends of an interval move by less than its third digit from seed to seed."""
TAIL_PERCENT = 2.5
"""Left out at either end: intervals are of 95 %."""


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def median(values: Sequence[float]) -> float:
    """0 for no values, so that a table can be printed; callers check counts."""
    return statistics.median(values) if values else 0.0


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p90, p99 (nearest rank) and the maximum, 3 decimals; zeros for no values."""
    ordered = sorted(values)
    shares = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    return {name: round(quantile(ordered, share) or 0.0, 3) for name, share in shares.items()}


def ratio(numerators: Sequence[float], denominators: Sequence[float], *, seed: int) -> list[float]:
    """sum(numerators) / sum(denominators), one entry a prompt, and the ends of its interval.

    The same seed and number of prompts resample the same prompts, so that intervals of variants are paired. Resamples
    whose denominator is 0 are left out. ValueError: nothing to divide, or lists of two lengths.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if len(top) != len(bottom) or not len(top):
        raise ValueError(f"{len(top)} numerators and {len(bottom)} denominators")
    if not bottom.sum():
        return [0.0, 0.0, 0.0]
    picks = np.random.default_rng(seed).integers(0, len(top), (RESAMPLES, len(top)))
    tops, bottoms = top[picks].sum(1), bottom[picks].sum(1)
    ratios = tops[bottoms != 0] / bottoms[bottoms != 0]
    low, high = np.percentile(ratios, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return [float(top.sum() / bottom.sum()), float(low), float(high)]


def mean(values: Sequence[float], *, seed: int) -> list[float]:
    """The mean of one value a prompt, and the ends of its interval."""
    return ratio(values, [1.0] * len(values), seed=seed)
