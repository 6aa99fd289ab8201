"""What the kernels of gated DeltaNet take alone, at the sizes of one model, against what the memory allows.

    python -m bench.decode.delta [--heads 16,32,128] [--layers 36] [--batches 1,2,4,8,16,32,64] [--prefill 1024,8192]
                                 [--replay 8,500] [--repeats 3] [--out DIR]

Needs a GPU. Random inputs and states; every figure is the median of `--repeats` medians of graph replays, with the
smallest and the largest beside it. Decode steps go through all layers' states, so that no cache holds them; a figure is
microseconds a layer, and its bytes are the states', read once and written once. A replay is one launch for one row over
all layers: microseconds for all. A prefill is one layer's four launches, its bytes those of the projections (fp32) and
of the result. No weights but the convolution's are read: the products around these kernels are not in it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bench.decode.kernels import timed
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from engine.model.kernels.delta.chunk import delta_chunk
from engine.model.kernels.delta.chunks import make_chunk_scratch, make_chunks
from engine.model.kernels.delta.memory import TAPS, DeltaMemory, DeltaWeights, Rows, Way, make_memory
from engine.model.kernels.delta.step import delta_step, replay

DEVICE = torch.device("cuda:0")
RING = 512
Row = dict[str, Any]


def rows_of(counts: Sequence[int], position: int) -> Rows:
    """Rows in slots of their own."""
    firsts = [sum(counts[:row]) for row in range(len(counts))]
    parts = (firsts, counts, range(len(counts)), [position] * len(counts))
    return Rows(*(torch.tensor(list(part), dtype=torch.int32, device=DEVICE) for part in parts))


def random_memory(options: argparse.Namespace, layers: int, slots: int) -> DeltaMemory:
    memory = make_memory(layers, slots, RING, tuple(options.heads), DEVICE)
    memory.state.normal_()
    memory.inputs.normal_()
    memory.gates[..., 0, :].uniform_(-1, 0)
    memory.gates[..., 1, :].uniform_(0, 1)
    return memory


def random_weights(memory: DeltaMemory) -> list[DeltaWeights]:
    """Of every layer."""
    _, values, size = memory.heads
    layers, channels = len(memory.state), memory.inputs.shape[-1]
    taps = torch.randn(layers, TAPS, channels, device=DEVICE).bfloat16()
    rate, bias = torch.empty(values, device=DEVICE).uniform_(0.01, 4).log(), torch.randn(values, device=DEVICE) - 2
    gain = torch.rand(size, device=DEVICE).half()
    return [DeltaWeights(layer, rate, bias, gain, 1e-6) for layer in taps]


def random_inputs(tokens: int, memory: DeltaMemory) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """projected, ba, and where the result goes."""
    _, values, size = memory.heads
    projected = torch.randn(tokens, memory.inputs.shape[-1] + values * size, device=DEVICE)
    out = torch.empty(tokens, values * size, dtype=torch.float16, device=DEVICE)
    return projected, torch.randn(tokens, 2 * values, device=DEVICE), out


def measured(name: str, work: Callable[[], object], parts: int, moved: int, options: argparse.Namespace) -> Row:
    """Microseconds of one of the `parts` of what `work` enqueues; `moved` bytes each."""
    times = sorted(timed(work) / parts for _ in range(options.repeats))
    middle = statistics.median(times)
    share = moved / (middle * 1e-6) / options.ceiling
    return {
        "kernel": name, "us": round(middle, 2), "from": round(times[0], 2), "to": round(times[-1], 2), "bytes": moved,
        "ceiling_share": round(share, 3),
    }  # fmt: skip


def steps(options: argparse.Namespace, batch: int) -> Row:
    memory = random_memory(options, options.layers, batch)
    weights, rows = random_weights(memory), rows_of([1] * batch, 9)
    projected, ba, out = random_inputs(batch, memory)
    layers = [(weight, memory.layer(index)) for index, weight in enumerate(weights)]

    def work() -> None:
        for weight, layer in layers:
            delta_step(projected, ba, weight, rows, layer, out)

    return measured(f"step {batch}", work, options.layers, 2 * memory.state[0].nbytes, options)


def replays(options: argparse.Namespace, count: int) -> Row:
    memory = random_memory(options, options.layers, 1)
    taps = torch.stack([weight.taps for weight in random_weights(memory)])
    start, rows = memory.state.clone(), rows_of([count], 3)
    tails, table = memory.inputs[:, :, : TAPS - 1].clone(), rows.slots.repeat(1, count // RING + 2)
    way = Way(start, tails, rows.slots, memory.inputs, memory.gates, table)
    work = partial(replay, taps, way, rows, memory)
    return measured(f"replay {count}", work, 1, 2 * memory.state.nbytes, options)


def prefills(options: argparse.Namespace, tokens: int) -> Row:
    whole = random_memory(options, 1, 1)
    memory, weight, rows = whole.layer(0), random_weights(whole)[0], rows_of([tokens], 0)
    projected, ba, out = random_inputs(tokens, memory)
    chunks = make_chunks([tokens], DEVICE)
    scratch = make_chunk_scratch(len(chunks.row), memory)
    work = partial(delta_chunk, projected, ba, weight, rows, chunks, memory, scratch, out, plane=True)
    return measured(f"prefill {tokens}", work, 1, projected.nbytes + out.nbytes, options)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Options("decode.delta", __doc__)
    parser.add(heads=(16, 32, 128), batches=(1, 2, 4, 8, 16, 32, 64), prefill=(1024, 8192), replay=(8, 500))
    parser.add(layers=36, repeats=3)
    options = parser.read(arguments)
    options.ceiling = copy_bytes_per_s(str(DEVICE))
    print(f"ceiling: {options.ceiling / 1e12:.3f} TB/s, a copy on the device, bytes read and written", flush=True)
    kinds = ((steps, options.batches), (prefills, options.prefill), (replays, options.replay))
    with torch.inference_mode():
        found = [function(options, size) for function, sizes in kinds for size in sizes]
    print_table(list(found[0]), [[str(value) for value in row.values()] for row in found])
    figures = {"ceiling_tb_s": round(options.ceiling / 1e12, 4), "kernels": found}
    told = {name: value for name, value in vars(options).items() if name not in ("out", "ceiling")}
    device = torch.cuda.get_device_name()
    emit(record("decode.delta", figures, configuration=told, repeats=options.repeats, device=device), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
