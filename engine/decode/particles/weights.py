"""Arithmetic of particle weights, all in logarithms: mean, effective sample size, resampling. Pure Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

DEAD = -math.inf
"""The log of a weight of 0."""


def log_mean(logs: Sequence[float]) -> float:
    """log of the mean weight."""
    top = max(logs)
    return DEAD if top == DEAD else top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))


def normalised(logs: Sequence[float]) -> list[float]:
    """The weights, so that they sum to 1. Not all of them may be 0."""
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def effective(logs: Sequence[float]) -> float:
    """How many equally weighted particles these are worth (Kish); 0 where all weights are 0."""
    if max(logs) == DEAD:
        return 0.0
    return 1.0 / math.fsum(weight * weight for weight in normalised(logs))


def ancestors(logs: Sequence[float], uniform: float) -> list[int]:
    """Of each place, the particle that is copied there: each as often as `len(logs)` times its weight, rounded up or
    down (systematic resampling). Who survives keeps its place."""
    counts = Counter(_at(logs, len(logs), uniform))
    spare = [index for index, count in counts.items() for _ in range(count - 1)]
    return [place if place in counts else spare.pop() for place in range(len(logs))]


def chosen(logs: Sequence[float], count: int, uniform: float) -> list[int]:
    """So many particles, each place's by the weights alone; together they are as far apart as in `ancestors`."""
    turns, offset = divmod(uniform * count, 1.0)
    found = _at(logs, count, offset)
    return [found[(int(turns) + place) % count] for place in range(count)]


def _at(logs: Sequence[float], count: int, offset: float) -> list[int]:
    """The particles whose shares of the weights lie at the points (offset + i) / count."""
    ends = list(accumulate(normalised(logs)))
    last = max(index for index, log in enumerate(logs) if log > DEAD)
    found, at = [], 0
    for place in range(count):
        while at < last and ends[at] <= (offset + place) / count * ends[-1]:
            at += 1
        found.append(at)
    return found
