"""How fast weights leave the disk: the loaders against `dd` on the same files, interleaved, cold and cached.

    python -m bench.checkpoint_read [--quick] [--mib N] [--device cpu] [--folder DIR] [--repeats 5] [--out DIR] [--busy]
                                    [--packed fp8,gptq-4,q4_k,... [--config FILE] [--seconds N]]

`dd` reads each file once in blocks of 16 MiB to /dev/null: what the disk (or the page cache) gives one reader, and the
ceiling of the table. The loader puts every byte into memory and, with hashes, checks it. Cold means that the kernel was
told to forget the files' pages. `--packed` measures folders and files of other tools' formats instead, cold and without
a first round: random codes in the config's shape, as many layers as make N MiB (at most all), read and laid out as on a
GPU, in a process that writes none. Refuses to begin where others use more than half a core, unless --busy says so, and
tells at the end what they used.

Figures: `runs[].{cache, reader, seconds, cpu_s, main_s, disk_gb, gb_s, share_of_dd, resident_gib}` (of `--packed` also
`format`, `layers`, `gib`), medians; `hashes_add.{cold, cached}`: what hashing adds to reading, the median of the
repeats' own ratios less one; `others_cores`. Readers take turns at being first. `main_s` is processor time of
the thread that lays out, `disk_gb` what came from disks, as far as the kernel counts it, `resident_gib` the process'
most memory without pages of files, what the interpreter and the driver hold counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from bench.checkpoint_read.foreign import FORMATS, layers_in, write
from bench.checkpoint_read.packed import compared, prepare
from bench.checkpoint_read.readers import BLOCK, HASHED, dd, hashes_add, load, measure, show
from bench.harness import neighbours
from bench.harness.commandline import Options, listed
from bench.harness.models import PRODUCT_CONFIG, TINY_EXPERTS
from bench.harness.record import emit, record
from engine.model.checkpoint.checkpoint import save_checkpoint
from engine.model.checkpoint.manifest import Manifest

QUICK_SHAPE = {**TINY_EXPERTS, "hidden_size": 256, "moe_intermediate_size": 256, "num_hidden_layers": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table and the JSON line. SystemExit on a busy machine."""
    options = _options(arguments)
    if (refusal := neighbours.verdict(neighbours.before())) and not options.busy:
        raise SystemExit(f"{refusal}; --busy measures all the same")
    others = neighbours.Neighbours()
    with tempfile.TemporaryDirectory(prefix="checkpoint-read-", dir=options.folder) as work:
        figures = packed(Path(work), options) if options.packed else checkpoint(Path(work), options)
    figures["others_cores"] = others.cores()
    print(neighbours.verdict(figures["others_cores"]) or f"quiet: {figures['others_cores']:.2f} cores used by others")
    configuration = {name: getattr(options, name) for name in ("mib", "device", "quick", "packed")}
    device = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else None
    emit(
        record("checkpoint_read", figures, configuration=configuration, repeats=options.repeats, device=device),
        options.out,
    )
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("checkpoint_read", __doc__, "48 MiB, one repeat")
    parser.add_argument("--mib", type=int, default=1024, help="size of the checkpoint")
    parser.add_argument("--folder", type=Path, help="the disk to measure; a temporary folder otherwise")
    parser.add_argument("--packed", type=listed(str), default=[], help=f"other tools' formats: {', '.join(FORMATS)}")
    parser.add_argument("--seconds", type=int, default=0, help="begin no format of --packed later; 0: whenever")
    parser.add_argument("--config", type=Path, default=PRODUCT_CONFIG, help="the shape of --packed")
    parser.add(device="cpu", repeats=5)
    parser.add_argument("--busy", action="store_true", help="measure beside neighbours too, and say so")
    options = parser.read(arguments, mib=48, repeats=1, busy=True)
    if unknown := [name for name in options.packed if name not in FORMATS]:
        parser.error(f"--packed knows {', '.join(FORMATS)}, not {unknown[0]}")
    if options.packed and not options.quick and not options.config.is_file():
        parser.error(f"no model configuration at {options.config}; name one with --config, or run --quick")
    return options


def checkpoint(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The engine's own checkpoint, with hashes and without."""
    folder = work / "checkpoint"
    paths = make_checkpoint(folder, options.mib)
    readers = {
        "dd": lambda: dd(paths),
        "loader": lambda: load(folder, options.device, verify=False),
        HASHED: lambda: load(folder, options.device, verify=True),
    }
    runs = measure(paths, readers, options.repeats)
    cold, cached = (run["gb_s"] for run in runs if run["reader"] == "dd")
    print(f"ceiling (dd bs={BLOCK}): {cold:.2f} GB/s cold, {cached:.2f} GB/s cached; {options.mib} MiB")
    show(runs)
    added = hashes_add(runs)
    print("hashes add " + ", ".join(f"{100 * share:+.1f} % {cache}" for cache, share in added.items()))
    return {"runs": runs, "hashes_add": added}


def packed(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Other tools' formats, one after the other; each one's files are gone before the next."""
    shape = QUICK_SHAPE if options.quick else json.loads(options.config.read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = []
    began = time.monotonic()
    with _apart() as pool:
        pool.submit(prepare)  # meanwhile
        for name in options.packed:
            started, layers = time.monotonic(), layers_in(name, shape, options.mib)
            if options.seconds and started - began > options.seconds:
                print(f"not begun: {name}; {options.seconds} s are over")
                continue
            with tempfile.TemporaryDirectory(dir=work) as folder:
                paths = write(Path(folder) / name, name, shape, layers)
                print(f"{name}: {layers} layers, written in {time.monotonic() - started:.0f} s", flush=True)
                found = pool.submit(compared, paths, options.device, options.repeats).result()
            runs += [{"format": name, "layers": layers, **run} for run in found]
            show(found)
    return {"runs": runs}


def _apart() -> ProcessPoolExecutor:
    """A process whose memory holds nothing of what was written."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def make_checkpoint(folder: Path, mib: int) -> list[Path]:
    """Four files of random bytes; what they hold does not matter to a reader."""
    rows = mib * (1 << 20) // 4 // 4096
    weights = {
        f"model.embed_tokens_{i}.weight": torch.randint(-99, 99, (rows, 4096), dtype=torch.int8).view(torch.bfloat16)
        for i in range(4)
    }
    manifest = save_checkpoint(folder, weights, Manifest(model="bench"), file_bytes=1)
    return [folder / file.name for file in manifest.files]


if __name__ == "__main__":
    sys.exit(main())
