"""Figures over the steps of a trace: percentiles of mask work, what was hidden, and what the constraint did.

Shares are of wall time per step, where rows of one step count once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from engine.interfaces import StepRecord
from engine.trace.format import Step

STEP_TIMES = ("forward_us", "sample_us")
"""What the rows of a step share."""
TIMES = ("fill_us", "accept_us", "copy_us", "apply_us", "hidden_us", "exposed_us")


def summary(steps: Sequence[Step]) -> dict[str, Any]:
    """Plain JSON types. `distribution` is None without Z and entropies; percentiles are nearest-rank."""
    records = [step.record for step in steps]
    forced = sum(record.forced for record in records)
    return {
        "tokens": len(records),
        "steps": len({record.step for record in records}),
        "rows_max": max((record.rows for record in records), default=0),
        "forced_tokens": forced,
        "forced_share": _share(forced, len(records)),
        "step_us": percentiles(per_step(records, step_time)),
        **{name: percentiles(per_step(records, attrgetter(name))) for name in STEP_TIMES},
        **{name: percentiles(map(attrgetter(name), records)) for name in TIMES},
        "exposed_share": exposed_share(records),
        "legal_tokens": percentiles(record.legal_tokens for record in records),
        "events": [{"position": r.position, "event": r.event} for r in records if r.event is not None],
        "distribution": _distribution(records),
    }


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p90, p99 and max; zeros for no values."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    last = len(ordered) - 1
    ranks = {name: min(last, int(share * len(ordered))) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return {**{name: round(ordered[rank], 2) for name, rank in ranks.items()}, "max": round(ordered[last], 2)}


def step_time(record: StepRecord) -> float:
    """Microseconds of the step that this row was part of: forward, exposed mask, sampling, accepting."""
    return record.forward_us + record.exposed_us + record.sample_us + record.accept_us


def per_step(records: Iterable[StepRecord], time: Callable[[StepRecord], float]) -> list[float]:
    """One time per step; where rows differ the longest counts."""
    longest: dict[int, float] = {}
    for record in records:
        longest[record.step] = max(longest.get(record.step, 0.0), time(record))
    return list(longest.values())


def exposed_share(records: Sequence[StepRecord]) -> float:
    """Exposed mask time as a share of all step time, in [0, 1]."""
    return _share(sum(per_step(records, attrgetter("exposed_us"))), sum(per_step(records, step_time)))


def _distribution(records: Sequence[StepRecord]) -> dict[str, Any] | None:
    """What the constraint did to the model's distribution, over the steps that measured it."""
    masses = [record.mass for record in records if record.mass is not None]
    if not masses:
        return None
    free = [record.entropy_free for record in records if record.entropy_free is not None]
    bound = [record.entropy for record in records if record.entropy is not None]
    flips = [record.argmax_illegal for record in records if record.argmax_illegal is not None]
    return {
        "steps": len(masses),
        "mass_mean": round(sum(masses) / len(masses), 6),
        "mass_min": float(f"{min(masses):.6g}"),
        "log_mass_sum": round(sum(math.log(max(mass, 1e-300)) for mass in masses), 6),
        "entropy_free_mean": _mean(free),
        "entropy_mean": _mean(bound),
        "argmax_illegal": sum(flips),
        "argmax_illegal_share": _share(sum(flips), len(flips)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
