"""How much of this machine others use while a bench runs: a timing taken beside them says nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

QUIET_CORES = 0.5
"""Above this, others take the processor from what is measured."""
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


class Neighbours:
    """Counts from when it is made. Cores' worth of processor time: 2.0 is two cores, all of the time."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float | None:
        """What everybody but this process and its ended children has used since; None where no /proc/stat tells it."""
        begun, now = self._start, self._now()
        if begun is None or now is None or now[0] == begun[0]:
            return None
        seconds, machine, own = (after - before for before, after in zip(begun, now, strict=True))
        return max(0.0, (machine - own) / seconds)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        except (OSError, ValueError):
            return None
        busy = sum(ticks[: _STEAL + 1]) - ticks[_IDLE] - ticks[_IOWAIT]
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])


def before(seconds: float = 1.0) -> float | None:
    """The neighbours' cores over the next second, said on stdout."""
    seen = Neighbours()
    time.sleep(seconds)
    cores = seen.cores()
    print(f"before: {'unknown' if cores is None else f'{cores:.2f}'} cores used by others")
    return cores


def verdict(cores: float | None) -> str:
    """Empty on a quiet machine, else a sentence."""
    if cores is not None and cores <= QUIET_CORES:
        return ""
    told = "nobody knows how many" if cores is None else f"{cores:.2f}"
    return f"NOT QUIET: {told} cores used by others ({QUIET_CORES:g} may be); these timings show nothing"
