"""Quantises a folder in a fresh process, twice, and prints, as JSON, how much anonymous memory each took at most (MB):
with 4 MB waiting to be written, and (the control) with everything waiting.

A process of its own, since other work leaves memory behind; anonymous memory, since mapped source files do not count.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import torch

from engine.model.quantize import quantize_checkpoint


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def peak_growth_mb(source: Path, out: Path, file_bytes: int) -> float:
    before = peak = anonymous_mb()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_mb())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    quantize_checkpoint(source, out, "nf4", file_bytes=file_bytes)
    done.set()
    watcher.join()
    return round(peak - before, 1)


def main(small: Path, source: Path, out: Path) -> None:
    torch.set_num_threads(1)
    quantize_checkpoint(small, out / "small", "nf4")  # imports and lazy parts settle
    bounded = peak_growth_mb(source, out / "bounded", 1 << 22)
    control = peak_growth_mb(source, out / "control", 1 << 40)
    print(json.dumps({"bounded": bounded, "control": control}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
