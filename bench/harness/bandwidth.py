"""The copy bandwidth of a device: the ceiling of whatever waits for memory."""

from __future__ import annotations

import statistics
import time

import torch


def copy_bytes_per_s(device: str) -> float:
    """Bytes read and written by a copy that no cache holds, the median of nine runs of four."""
    on_gpu = device != "cpu"
    size = 1 << (30 if on_gpu else 26)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    times = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(4):
            target.copy_(source)
        if on_gpu:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / 4)
    return 2 * size / statistics.median(times)
