"""Readers of a checkpoint's files, timed in turn: `dd`, and the loader with and without hashes.

Knows files and the page cache. Figures are seconds, bytes, and medians of them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness.tables import print_table

BLOCK = "16M"
"""Large enough that another doubling reads no faster."""


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


def measure(
    folder: Path, paths: Sequence[Path], device: str, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Every reader in turn, `repeats` times, after one round that is not counted; medians, and what hashes add."""
    readers: dict[str, Callable[[], None]] = {
        "dd": lambda: dd(paths),
        "loader": lambda: load(folder, device, verify=False),
        "loader with hashes": lambda: load(folder, device, verify=True),
    }
    nbytes = sum(path.stat().st_size for path in paths)
    runs, hashes_add = [], {}
    for cache in ("cold", "cached"):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for repeat in range(repeats + 1):
            for name in list(readers)[:: 1 if repeat % 2 else -1]:
                if cache == "cold":
                    forget(paths)
                started, cpu = time.perf_counter(), time.process_time()
                readers[name]()
                times[name].append((time.perf_counter() - started, time.process_time() - cpu))
        seconds = {name: [wall for wall, _ in found[1:]] for name, found in times.items()}
        pairs = zip(seconds["loader with hashes"], seconds["loader"], strict=True)
        hashes_add[cache] = median(hashed / plain for hashed, plain in pairs) - 1
        best = median(seconds["dd"])
        for name, found in seconds.items():
            wall, cpu = median(found), median(cpu for _, cpu in times[name][1:])
            runs.append({
                "cache": cache, "reader": name, "seconds": wall, "cpu_s": cpu, "gb_s": nbytes / wall / 1e9,
                "share_of_dd": best / wall,
            })  # fmt: skip
    return runs, hashes_add


def show(runs: Sequence[dict[str, Any]], hashes_add: dict[str, float]) -> None:
    """The table for people."""
    keys = {"seconds": 3, "cpu_s": 2, "gb_s": 2, "share_of_dd": 2}
    rows = [[run["cache"], run["reader"], *(f"{run[key]:.{digits}f}" for key, digits in keys.items())] for run in runs]
    print_table(["cache", "reader", "seconds", "CPU s", "GB/s", "of dd"], rows)
    print("hashes add " + ", ".join(f"{100 * share:+.1f} % {cache}" for cache, share in hashes_add.items()))
