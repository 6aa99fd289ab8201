"""How fast tokens come, against what the memory allows.

    python -m bench.decode [--config FILE] [--quantizations nf4,int8,bf16] [--batches 1,8,32,64,128]
                           [--prefill 128,1024,8192] [--steps 48] [--repeats 5] [--kernels] [--peer]
                           [--vllm PYTHON [--tokenizer FOLDER] [--together]] [--quick] [--out DIR]

Measures the copy ceiling first. Then, per quantisation, with random weights of the config's shape made on the device:
milliseconds a step for every batch, constrained (a random mask of half the vocabulary) and not, interleaved, every row
its own random prompt and tokens drawn at temperature 1, so that experts differ; sampling alone; prefill; memory.
`bytes_per_step` counts what a step must read once: attention, distinct experts (expected number), head, cache.
Names of other tools' formats, and nl4, stand for their forms with random codes (random_forms.py).
`--kernels` adds a table per kernel. `--peer` runs Hugging Face's generate() of the same shape in the same call,
`--vllm` runs vLLM before our own, by an interpreter that has it (bench/peers/vllm_decode.py). Time is the wall clock of
a loop that launches the next forward before it reads the tokens of the last, as the engine does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.decode.kernels import kernel_table
from bench.decode.loops import decode, prefill, sampling
from bench.decode.random_forms import FORMS, random_model
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.commandline import Options
from bench.harness.models import PRODUCT_CONFIG, shape_file
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.peers import vllm_decode
from bench.peers.hf_generate import measure
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.files.settings import read_config
from engine.model.hf.random_weights import random_weights

SLACK = 64
"""Positions beyond prompt and steps: warm-ups and the block that a step opens."""
TABLES = ("runs", "sampling", "prefill", "kernels")
PATHS = ("config", "out", "vllm", "tokenizer")
"""Options that a record does not tell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the tables and the JSON line."""
    options = _options(arguments)
    ceiling = copy_bytes_per_s(options.device) / 1e12
    print(f"ceiling: {ceiling:.3f} TB/s, a copy on the device, bytes read and written", flush=True)
    figures: dict[str, Any] = {"ceiling_tb_s": round(ceiling, 4), **{name: [] for name in TABLES}}
    with shape_file(options) as config:
        if options.vllm:
            figures["peers"] = _vllm(options, config)
        for quantization in options.quantizations:
            _one(options, config, quantization, ceiling, figures)
            torch.cuda.empty_cache()  # nothing where there is no GPU
        if options.peer:
            figures["peers"] = figures.get("peers", []) + measure(config, options.batches, options.prompt)
    for peer in figures.get("peers", ()):
        print(peer, flush=True)
    for name in (name for name in TABLES if figures[name]):
        print(f"\n{name}")
        print_table(list(figures[name][0]), [[str(value) for value in row.values()] for row in figures[name]])
    device = torch.cuda.get_device_name() if options.device != "cpu" else None
    configuration = {name: value for name, value in vars(options).items() if name not in PATHS}
    line = record("decode", figures, configuration=configuration, seeds=[0], repeats=options.repeats, device=device)
    emit(line, options.out)
    return 0


def _one(options: argparse.Namespace, config: Path, quantization: str, ceiling: float, figures: dict[str, Any]) -> None:
    """All figures of one quantisation."""
    clock = [time.perf_counter()]
    settings = read_config(config)
    weights: Any
    if quantization in FORMS:
        weights = random_model(settings, quantization, options.device)
    else:
        weights = dict(random_weights(settings, quantization, options.device, 0).tensors)
    clock.append(time.perf_counter())
    length = options.prompt + options.steps
    runner = CudaRunner(
        weights, settings, max_batch=max(options.batches), max_sequence=length + SLACK, device=options.device,
        quantization=quantization,
    )  # fmt: skip
    clock.append(time.perf_counter())
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    runner.warm()
    clock.append(time.perf_counter())
    load_s, layout_s, start_s = (after - before for before, after in pairwise(clock))
    for name, value in (("load_s", load_s), ("layout_s", layout_s), ("start_s", start_s)):
        figures[f"{name}_{quantization}"] = round(value, 2)
    figures.setdefault("load_s", round(load_s + layout_s, 2))
    figures.setdefault("start_s", round(start_s, 2))
    told = f"made {load_s:.1f} s, laid out {layout_s:.1f} s, compiled and captured {start_s:.1f} s"
    print(f"{quantization}: {told}", flush=True)
    for batch in options.batches:
        figures["runs"] += decode(runner, options, batch, ceiling)
        figures["sampling"] += sampling(runner, options, batch)
    peak = torch.cuda.max_memory_allocated() / 2**30 if options.device != "cpu" else 0.0
    figures[f"peak_gib_{quantization}"] = round(peak, 2)
    figures.setdefault("peak_gib", round(peak, 2))
    if options.kernels:
        figures["kernels"] += kernel_table(runner._few, runner._wide, options.batches, options.prompt, ceiling)
    model = runner._few.model
    runner.close()
    del runner
    longest = max(*options.prefill, length) + SLACK
    long = CudaRunner(
        model, model.shape, max_batch=1, max_sequence=longest, device=options.device, quantization=quantization
    )
    figures["prefill"] += [prefill(long, options, tokens) for tokens in options.prefill]


def _vllm(options: argparse.Namespace, config: Path) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        logs = options.out or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        return vllm_decode.measure(options.vllm, argparse.Namespace(**{**vars(options), "config": config}), logs)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("decode", __doc__, "a tiny model on a CPU, in seconds")
    parser.add_argument("--config", type=Path, default=PRODUCT_CONFIG)
    parser.add(quantizations=("nf4", "int8", "bf16"), batches=(1, 8, 32, 64, 128), prefill=(128, 1024, 8192))
    parser.add(prompt=512, steps=48, repeats=5, device="cuda:0")
    parser.add_argument("--kernels", action="store_true", help="a table per kernel")
    parser.add_argument("--peer", action="store_true", help="Hugging Face's generate() of the same shape")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM: its figures for the same shape")
    parser.add_argument("--tokenizer", help="folder, for vLLM's structured requests")
    parser.add_argument("--together", action="store_true", help="vLLM's engines start at once")
    options = parser.read(
        arguments, device="cpu", quantizations=["nf4"], batches=[1, 2], prefill=[16], prompt=8, steps=2, repeats=1
    )
    if not options.quick and not options.config.is_file():
        parser.error(f"no model configuration at {options.config}; name one with --config, or run --quick")
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"torch sees no CUDA device for --device {options.device}; run --quick, or --device cpu")
    return options


if __name__ == "__main__":
    sys.exit(main())
