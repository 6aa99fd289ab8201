"""How fast weights leave the disk: the checkpoint loader against `dd` on the same files, interleaved, cold and cached.

    python -m bench.checkpoint_read [--quick] [--mib N] [--device cpu] [--folder DIR] [--repeats 5] [--out DIR] [--busy]

`dd` reads each file once in blocks of 16 MiB to /dev/null: what the disk (or the page cache) gives one reader, and the
ceiling of the table. The loader puts every byte into memory and, with hashes, checks it. Cold means that the kernel was
told to forget the files' pages. Refuses to begin where others use more than half a core, unless --busy says so, and
tells at the end what they used. Figures: `runs[].{cache, reader, seconds, cpu_s, gb_s, share_of_dd}`, medians, and
`hashes_add.{cold, cached}`: what hashing adds to reading, the median of the repeats' own ratios less one;
`others_cores`. Readers take turns at being first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import neighbours
from bench.record import emit, record
from engine.model.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from engine.model.checkpoint.manifest import Manifest

BLOCK = "16M"
QUICK_MIB = 48


def make_checkpoint(folder: Path, mib: int) -> list[Path]:
    """Four files of random bytes; what they hold does not matter to a reader."""
    rows = mib * (1 << 20) // 4 // 4096
    weights = {
        f"model.embed_tokens_{i}.weight": torch.randint(-99, 99, (rows, 4096), dtype=torch.int8).view(torch.bfloat16)
        for i in range(4)
    }
    manifest = save_checkpoint(folder, weights, Manifest(model="bench"), file_bytes=1)
    return [folder / file.name for file in manifest.files]


def forget(paths: Sequence[Path]) -> None:
    """Ask the kernel to drop the files' cached pages."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def dd(paths: Sequence[Path]) -> None:
    for path in paths:
        command = ["dd", f"if={path}", "of=/dev/null", f"bs={BLOCK}", "status=none"]
        subprocess.run(command, check=True)


def loader(folder: Path, device: str, *, verify: bool) -> Callable[[], None]:
    def read() -> None:
        load_checkpoint(folder, device, verify=verify)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return read


def measure(
    folder: Path, paths: Sequence[Path], device: str, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Every reader in turn, `repeats` times, after one round that is not counted; medians, and what hashes add."""
    readers: dict[str, Callable[[], None]] = {
        "dd": lambda: dd(paths),
        "loader": loader(folder, device, verify=False),
        "loader with hashes": loader(folder, device, verify=True),
    }
    nbytes = sum(path.stat().st_size for path in paths)
    runs = []
    hashes_add = {}
    for cache in ("cold", "cached"):
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        cpu_s: dict[str, list[float]] = {name: [] for name in readers}
        for repeat in range(repeats + 1):
            for name, read in list(readers.items())[:: 1 if repeat % 2 else -1]:
                if cache == "cold":
                    forget(paths)
                started, cpu = time.perf_counter(), time.process_time()
                read()
                if repeat:
                    seconds[name].append(time.perf_counter() - started)
                    cpu_s[name].append(time.process_time() - cpu)
        pairs = zip(seconds["loader with hashes"], seconds["loader"], strict=True)
        hashes_add[cache] = statistics.median(hashed / plain for hashed, plain in pairs) - 1
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        runs += [
            {
                "cache": cache,
                "reader": name,
                "seconds": median,
                "cpu_s": statistics.median(cpu_s[name]),
                "gb_s": nbytes / median / 1e9,
                "share_of_dd": medians["dd"] / median,
            }
            for name, median in medians.items()
        ]
    return runs, hashes_add


def show(runs: Sequence[dict[str, Any]], hashes_add: dict[str, float]) -> None:
    """The table for people."""
    print(f"{'cache':<8}{'reader':<20}{'seconds':>9}{'CPU s':>8}{'GB/s':>8}{'of dd':>8}")
    for run in runs:
        print(
            f"{run['cache']:<8}{run['reader']:<20}{run['seconds']:>9.3f}{run['cpu_s']:>8.2f}"
            f"{run['gb_s']:>8.2f}{run['share_of_dd']:>8.2f}"
        )
    print("hashes add " + ", ".join(f"{100 * share:+.1f} % {cache}" for cache, share in hashes_add.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MIB} MiB, one repeat")
    parser.add_argument("--mib", type=int, default=1024, help="size of the checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--folder", type=Path, help="where to put it (the disk to measure); a temporary folder otherwise"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--busy", action="store_true", help="measure beside neighbours too, and say so")
    options = parser.parse_args(arguments)
    mib, repeats = (QUICK_MIB, 1) if options.quick else (options.mib, options.repeats)
    if (refusal := neighbours.verdict(neighbours.before())) and not (options.quick or options.busy):
        raise SystemExit(f"{refusal}; --busy measures all the same")
    others = neighbours.Neighbours()
    with tempfile.TemporaryDirectory(prefix="checkpoint-read-", dir=options.folder) as work:
        folder = Path(work) / "checkpoint"
        paths = make_checkpoint(folder, mib)
        runs, hashes_add = measure(folder, paths, options.device, repeats)
    ceiling = {run["cache"]: run["gb_s"] for run in runs if run["reader"] == "dd"}
    print(f"ceiling (dd bs={BLOCK}): {ceiling['cold']:.2f} GB/s cold, {ceiling['cached']:.2f} GB/s cached; {mib} MiB")
    show(runs, hashes_add)
    others_cores = others.cores()
    print(neighbours.verdict(others_cores) or f"quiet: {others_cores:.2f} cores used by others")
    configuration = {"mib": mib, "device": options.device, "quick": options.quick}
    device = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else None
    figures = {"runs": runs, "hashes_add": hashes_add, "others_cores": others_cores}
    emit(record("checkpoint_read", figures, configuration=configuration, repeats=repeats, device=device), options.out)


if __name__ == "__main__":
    main()
