"""Quantises a folder twice, each time in a fork of this process, and prints, as JSON, how much anonymous memory it took
each time at most (MB): with 4 MB waiting to be written, and (the control) with everything waiting.

Processes of their own, since other work leaves memory behind; anonymous memory, since mapped source files do not count.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from engine.model.quantize import quantize_checkpoint


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def peak_growth_mb(source: Path, out: Path, file_bytes: int) -> float:
    before = peak = anonymous_mb()
    done = threading.Event()

    def look(*_: object) -> None:
        nonlocal peak
        peak = max(peak, anonymous_mb())

    def watch() -> None:
        while not done.is_set():
            look()
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    quantize_checkpoint(source, out, "nf4", file_bytes=file_bytes, progress=look)  # a busy machine starves the watcher
    done.set()
    watcher.join()
    return round(peak - before, 1)


def main(small: Path, source: Path, out: Path) -> None:
    torch.set_num_threads(1)
    quantize_checkpoint(small, out / "small", "nf4")  # imports and lazy parts settle
    with get_context("fork").Pool(1, maxtasksperchild=1) as forks:
        bounded = forks.apply(peak_growth_mb, (source, out / "bounded", 1 << 22))
        control = forks.apply(peak_growth_mb, (source, out / "control", 1 << 40))
    print(json.dumps({"bounded": bounded, "control": control}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
