"""Walks one document through a matcher token by token and times every mask.

A token counts only if its bit is set in the filled mask and the matcher accepts it, to the stop token. Times are
microseconds of wall clock. The first walk of a schema's first document is cold; the walk is repeated, each time from a
matcher that has kept no masks, and of each step the smallest time counts, since a maximum would otherwise be the
scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from bench.peers import Matcher


@dataclass(slots=True)
class Walk:
    """`tokens` were taken before the end; `cause` says why it stopped short ('mask', 'accept' or ''). `accepted` is
    None for a walk that never ran."""

    accepted: bool | None = None
    tokens: int = 0
    cause: str = ""
    fill_us: list[float] = field(default_factory=list)
    accept_us: list[float] = field(default_factory=list)
    first_us: list[float] = field(default_factory=list)
    """The fills of the first walk."""


def walk(make: Callable[[], Matcher], ids: Sequence[int], stop_ids: Sequence[int], mask: Any, repeats: int) -> Walk:
    """Feed `ids`, then the first stop id that is legal, `repeats` times. `mask` is int32 [W]. ValueError below 1."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    best = _once(make(), ids, stop_ids, mask)
    best.first_us = best.fill_us
    for _ in range(repeats - 1):
        again = _once(make(), ids, stop_ids, mask)
        best.fill_us = [min(pair) for pair in zip(best.fill_us, again.fill_us, strict=True)]
        best.accept_us = [min(pair) for pair in zip(best.accept_us, again.accept_us, strict=True)]
    return best


def _once(matcher: Matcher, ids: Sequence[int], stop_ids: Sequence[int], mask: Any) -> Walk:
    done = Walk(accepted=True)
    for wanted in (*ids, None):  # None asks for a stop id
        start = perf_counter_ns()
        matcher.fill(mask)
        done.fill_us.append((perf_counter_ns() - start) / 1e3)
        token = next((stop for stop in stop_ids if _bit(mask, stop)), None) if wanted is None else wanted
        if token is None or not _bit(mask, token):
            done.accepted, done.cause = False, "mask"
            break
        start = perf_counter_ns()
        taken = matcher.accept(token)
        done.accept_us.append((perf_counter_ns() - start) / 1e3)
        if not taken:
            done.accepted, done.cause = False, "accept"
            break
        done.tokens += 1
    return done


def _bit(mask: Any, token: int) -> bool:
    return bool((int(mask[token >> 5]) >> (token & 31)) & 1)
