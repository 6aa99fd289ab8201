"""What `bench.decode` measures: each quantisation in turn, the peers beside it, the record."""

from __future__ import annotations

import argparse
import gc
import json
import time
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.decode.kernels import kernel_table
from bench.decode.loops import back, back_ends, decode, prefill, sampling, weight_bytes
from bench.decode.random_forms import FORMS, random_model
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.models import shape_file
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.peers import vllm_decode
from bench.peers.hf_generate import measure
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.files.settings import read_config
from engine.model.hf.random_weights import random_weights

SLACK = 64
"""Positions beyond prompt and steps: warm-ups and the block that a step opens."""
LONG_ROWS = 8
"""The most rows of a long context, and of going back."""
TABLES = ("runs", "sampling", "prefill", "back", "kernels")
VLLM_FORMS = {"nf4": "int4", "bf16": "bf16"}
"""vLLM's form beside ours."""
PATHS = ("config", "out", "vllm", "tokenizer")
"""Options that a record does not tell."""


def run(options: argparse.Namespace) -> None:
    """Measure everything, print the tables and the JSON line."""
    ceiling = copy_bytes_per_s(options.device) / 1e12
    print(f"ceiling: {ceiling:.3f} TB/s, a copy on the device, bytes read and written", flush=True)
    figures: dict[str, Any] = {"ceiling_tb_s": round(ceiling, 4), **{name: [] for name in TABLES}}
    with shape_file(options) as config:
        if options.vllm:
            figures["peers"] = _vllm(options, config)
        for quantization in options.quantizations:
            _one(options, config, quantization, ceiling, figures)
            gc.collect()  # graphs that are left would count to the next one's peak
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
    length = max([options.prompt + options.steps, *(back_ends(options, tokens)[-1] for tokens in options.back)])
    room = max(options.sequence, length + SLACK)
    runner = CudaRunner(
        weights, settings, max_batch=max(options.batches), max_sequence=room, device=options.device,
        quantization=quantization, cache=options.cache,
    )  # fmt: skip
    clock.append(time.perf_counter())
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    if options.lean:
        runner.warm(tiled=(), short=options.batches)
    else:
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
        _add(figures, "runs", decode(runner, options, batch, ceiling))
        if not options.lean:
            _add(figures, "sampling", sampling(runner, options, batch))
    for batch, tokens in product([batch for batch in options.batches if batch <= LONG_ROWS], options.back):
        _add(figures, "back", [back(runner, options, batch, tokens)])
    peak = torch.cuda.max_memory_allocated() / 2**30 if options.device != "cpu" else 0.0
    figures[f"peak_gib_{quantization}"] = round(peak, 2)
    figures.setdefault("peak_gib", round(peak, 2))
    print(f"{quantization}: peak {peak:.2f} GiB", flush=True)
    figures[f"weights_gib_{quantization}"] = round(weight_bytes(runner._few.model) / 2**30, 2)
    if options.kernels:
        table = kernel_table(runner._few, runner._wide, options.batches, options.prompt, ceiling)
        _add(figures, "kernels", table)
    model = runner._few.model
    runner.close()
    del runner
    kept: dict[str, Any] = {"device": options.device, "quantization": quantization, "cache": options.cache}
    longest = max(*options.prefill, length) + SLACK
    long = CudaRunner(model, model.shape, max_batch=1, max_sequence=longest, **kept)
    for tokens in options.prefill:
        _add(figures, "prefill", [prefill(long, options, tokens)])
    long.close()
    del long
    for positions in options.positions:
        rows = [batch for batch in options.batches if batch <= LONG_ROWS]
        sizes = {"max_batch": max(rows), "max_sequence": positions + options.steps + SLACK}
        long = CudaRunner(model, model.shape, **sizes, **kept)
        for batch in rows:
            _add(figures, "runs", decode(long, options, batch, ceiling, positions))
        long.close()
        del long


def _add(figures: dict[str, Any], name: str, rows: list[dict[str, Any]]) -> None:
    """Rows of a table, told at once: the run may be cut short."""
    print(json.dumps({name: rows}), flush=True)
    figures[name] += rows


def _vllm(options: argparse.Namespace, config: Path) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        logs = options.out or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        forms = [VLLM_FORMS[name] for name in options.quantizations if name in VLLM_FORMS]
        told = argparse.Namespace(**{**vars(options), "config": config, "forms": forms})
        rows = vllm_decode.measure(options.vllm, told, logs)
    print(json.dumps({"peers": rows}), flush=True)
    return rows
