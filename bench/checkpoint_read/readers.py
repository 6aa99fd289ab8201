"""Readers of a checkpoint's files, timed in turn: `dd`, the loader with and without hashes, the loader of other tools'
formats.

Knows files and the page cache. Figures are seconds, bytes, and medians of them.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

from bench.harness.tables import print_table

BLOCK = "16M"
"""Large enough that another doubling reads no faster."""
HASHED = "loader with hashes"
Readers = dict[str, Callable[[], None]]


def forget(paths: Sequence[Path]) -> None:
    """Ask the kernel to drop the files' cached pages."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def dd(paths: Sequence[Path]) -> None:
    for path in paths:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", f"bs={BLOCK}", "status=none"], check=True)


def load(folder: Path, device: str, *, verify: bool) -> None:
    """The product's loader, to the last byte on the device."""
    import torch  # seconds of imports that a mistake in a bench's options is told without

    from engine.model.checkpoint.checkpoint import load_checkpoint

    load_checkpoint(folder, device, verify=verify)
    if device.startswith("cuda"):
        torch.cuda.synchronize()


class Resident:
    """The most memory of this process that is no page of a file, in GiB, looked at twenty times a second."""

    def __init__(self) -> None:
        self.most, self._done = 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> Resident:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            held = sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem"))
            self.most = max(self.most, held / 2**20)
            if self._done.wait(0.05):
                return


def measure(
    paths: Sequence[Path], readers: Readers, repeats: int, *, caches: Sequence[str] = ("cold", "cached"), warm: int = 1
) -> list[dict[str, Any]]:
    """Every reader in turn, `repeats` times, after `warm` rounds that are not counted; medians. The first is what the
    others are compared with."""
    nbytes = sum(path.stat().st_size for path in paths)
    runs: list[dict[str, Any]] = []
    for cache in caches:
        times: dict[str, list[tuple[float, ...]]] = {name: [] for name in readers}
        most = dict.fromkeys(readers, 0.0)
        for repeat in range(repeats + warm):
            for name in list(readers)[:: 1 if repeat % 2 else -1]:
                if cache == "cold":
                    forget(paths)
                with Resident() as resident:
                    before = _clocks()
                    readers[name]()
                    times[name].append(tuple(now - then for now, then in zip(_clocks(), before, strict=True)))
                most[name] = max(most[name], resident.most)
                print(f"{cache}, {name}: {times[name][-1][0]:.2f} s", flush=True)
        best = median(found[0] for found in next(iter(times.values()))[warm:])
        for name, found in times.items():
            walls = [wall for wall, *_ in found[warm:]]
            wall, cpu, main, disk = (median(own) for own in zip(*found[warm:], strict=True))
            runs.append({
                "cache": cache, "reader": name, "seconds": wall, "cpu_s": cpu, "main_s": main, "disk_gb": disk,
                "gb_s": nbytes / wall / 1e9, "share_of_dd": best / wall, "resident_gib": most[name], "walls": walls,
            })  # fmt: skip
    return runs


def _clocks() -> tuple[float, ...]:
    """Seconds of the clock, of this process' processors, of this thread's; GB that the kernel took from disks for this
    process and the children that have ended."""
    disk = sum(getrusage(who).ru_inblock for who in (RUSAGE_SELF, RUSAGE_CHILDREN)) * 512 / 1e9
    return time.perf_counter(), time.process_time(), time.thread_time(), disk


def hashes_add(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What hashing adds to reading, by cache: the median of the repeats' own ratios less one."""
    found = {}
    for cache in dict.fromkeys(run["cache"] for run in runs):
        walls = {run["reader"]: run["walls"] for run in runs if run["cache"] == cache}
        pairs = zip(walls[HASHED], walls["loader"], strict=True)
        found[cache] = median(hashed / plain for hashed, plain in pairs) - 1
    return found


def show(runs: Sequence[dict[str, Any]]) -> None:
    """The table for people."""
    keys = {"seconds": 3, "cpu_s": 2, "main_s": 2, "disk_gb": 2, "gb_s": 2, "share_of_dd": 2, "resident_gib": 2}
    rows = [[run["cache"], run["reader"], *(f"{run[key]:.{digits}f}" for key, digits in keys.items())] for run in runs]
    print_table(
        ["cache", "reader", "seconds", "CPU s", "main thread", "GB of disks", "GB/s", "of dd", "resident GiB"], rows
    )
