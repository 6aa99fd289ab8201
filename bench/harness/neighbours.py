"""How much of this machine others use while a bench runs: a timing taken beside them says nothing."""

from __future__ import annotations

import os
import time

import psutil

QUIET_CORES = 0.5
"""Above this, others take the processor from what is measured."""


class Neighbours:
    """Counts from when it is made. Cores' worth of processor time: 2.0 is two cores, all of the time."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        """What everybody but this process and its ended children has used since."""
        seconds, machine, own = (after - before for before, after in zip(self._start, self._now(), strict=True))
        return max(0.0, (machine - own) / seconds)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted under `user` too
        return time.monotonic(), sum(times) - idle - guests, sum(os.times()[:4])


def before(seconds: float = 1.0) -> float:
    """The neighbours' cores over the next second, said on stdout."""
    seen = Neighbours()
    time.sleep(seconds)
    cores = seen.cores()
    print(f"before: {cores:.2f} cores used by others")
    return cores


def verdict(cores: float) -> str:
    """Empty on a quiet machine, else a sentence."""
    if cores <= QUIET_CORES:
        return ""
    return f"NOT QUIET: {cores:.2f} cores used by others ({QUIET_CORES:g} may be); these timings show nothing"
