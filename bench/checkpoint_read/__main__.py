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

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.checkpoint_read.readers import BLOCK, measure, show
from bench.harness import neighbours
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from engine.model.checkpoint.checkpoint import save_checkpoint
from engine.model.checkpoint.manifest import Manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table and the JSON line. SystemExit on a busy machine."""
    parser = Options("checkpoint_read", __doc__, "48 MiB, one repeat")
    parser.add_argument("--mib", type=int, default=1024, help="size of the checkpoint")
    parser.add_argument("--folder", type=Path, help="the disk to measure; a temporary folder otherwise")
    parser.add(device="cpu", repeats=5)
    parser.add_argument("--busy", action="store_true", help="measure beside neighbours too, and say so")
    options = parser.read(arguments, mib=48, repeats=1, busy=True)
    if (refusal := neighbours.verdict(neighbours.before())) and not options.busy:
        raise SystemExit(f"{refusal}; --busy measures all the same")
    others = neighbours.Neighbours()
    with tempfile.TemporaryDirectory(prefix="checkpoint-read-", dir=options.folder) as work:
        folder = Path(work) / "checkpoint"
        runs, hashes_add = measure(folder, make_checkpoint(folder, options.mib), options.device, options.repeats)
    cold, cached = (run["gb_s"] for run in runs if run["reader"] == "dd")
    print(f"ceiling (dd bs={BLOCK}): {cold:.2f} GB/s cold, {cached:.2f} GB/s cached; {options.mib} MiB")
    show(runs, hashes_add)
    cores = others.cores()
    print(neighbours.verdict(cores) or f"quiet: {cores:.2f} cores used by others")
    configuration = {name: getattr(options, name) for name in ("mib", "device", "quick")}
    device = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else None
    figures = {"runs": runs, "hashes_add": hashes_add, "others_cores": cores}
    emit(
        record("checkpoint_read", figures, configuration=configuration, repeats=options.repeats, device=device),
        options.out,
    )
    return 0


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
