"""How a process of ours gets on: its CPU time and whether it has been stopped. Linux; elsewhere time alone counts."""

from __future__ import annotations

import time


def cpu_s(pid: int) -> float | None:
    """Seconds of CPU that the process has used, all threads together; None when it is gone, or nobody can say."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's clock id of another process's CPU time
    except (OSError, OverflowError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped it, which no process notices of itself."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - /proc is not a path of ours
            return stat.read().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False
