"""The fast path at full depth against Hugging Face's modules on the dequantised weights, one layer in memory at a time.

    python -m bench.layers_against_hf [--config FILE] [--quantization nf4] [--tokens 16] [--device cuda:0] [--quick]
                                      [--out DIR]

Random weights of the config's shape, the same for both sides: the fast path's are laid out for the kernels; layer by
layer they are made again, dequantised into one of Hugging Face's decoder layers in fp32 (the reference) and into one in
bf16 (what its own rounding costs), and thrown away. Errors are ‖a − b‖ / ‖b‖ of the residual stream after a layer and
of the logits. The bound: the fast path rounds activations to fp16 before a product, 2^-11, where bf16 rounds to 2^-8,
so its error may be no larger than bf16's own on the same tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.harness.commandline import Options
from bench.harness.models import PRODUCT_CONFIG, shape_file
from bench.harness.record import emit, record
from bench.layers_against_hf.reference import Reference
from engine.interfaces import RowInput
from engine.model.cpu.engine_weights import RANDOM_SEED
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.files.settings import read_config
from engine.model.hf.random_weights import random_weights
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.attention.tile_attention import Tiles

PREFILL_ROWS = 6
"""Rows of the step that goes through the prefill: more than 64 tokens, so that it takes its library products."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runner, compare, print the table and the JSON line; 0 when the bound holds."""
    parser = Options("layers_against_hf", __doc__, "a tiny random model on a CPU")
    parser.add_argument("--config", type=Path, default=PRODUCT_CONFIG)
    parser.add(quantization="nf4", tokens=16, device="cuda:0")
    options = parser.read(arguments, device="cpu")
    with shape_file(options) as config:
        settings = read_config(config)
    weights = dict(random_weights(settings, options.quantization, options.device, RANDOM_SEED).tensors)
    runner = CudaRunner(
        weights, settings, max_batch=PREFILL_ROWS, max_sequence=128, device=options.device,
        quantization=options.quantization,
    )  # fmt: skip
    figures = compare(runner, settings, options)
    configuration = {name: getattr(options, name) for name in ("quantization", "tokens", "quick")}
    device = options.device if options.device == "cpu" else runner.device
    emit(record("layers_against_hf", figures, configuration=configuration, seeds=[0], device=device), options.out)
    return 0 if figures["within_bound"] else 1


@torch.inference_mode()
def compare(runner: CudaRunner, settings: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Errors of the fast path and of bf16 against fp32; the runner's slot 0 is overwritten."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, settings.vocab_size, (options.tokens,), generator=draw).tolist()
    streams, logits, last = _fast(runner, tokens)
    prefilled = _prefilled(runner, tokens)
    reference = Reference(settings, options.quantization, options.device, tokens)
    layers = enumerate(reference.layers())
    rows = [(_error(streams[index], exact), _error(rounded, exact)) for index, (exact, rounded) in layers]
    exact, rounded = reference.logits()
    figures: dict[str, Any] = {
        "layers": len(rows), "residual_error": [round(fast, 6) for fast, _ in rows],
        "residual_error_bf16": [round(other, 6) for _, other in rows],
        "logits_error": round(_error(logits, exact), 6), "logits_error_bf16": round(_error(rounded, exact), 6),
        "logits_error_one_token": round(_error(last, exact[-1:]), 6),
        "logits_error_prefill": round(max(_error(row, exact) for row in prefilled), 6),
        "argmax_equal": float((logits.argmax(-1) == exact.argmax(-1)).float().mean()),
        "argmax_equal_bf16": float((rounded.argmax(-1) == exact.argmax(-1)).float().mean()),
    }  # fmt: skip
    worst = max(figures[name] for name in ("logits_error", "logits_error_one_token", "logits_error_prefill"))
    figures["within_bound"] = worst <= figures["logits_error_bf16"]
    for index in sorted({0, 1, len(rows) // 4, len(rows) // 2, len(rows) - 1}):
        print(f"after layer {index + 1:3}: fast {rows[index][0]:.2e}, bf16 {rows[index][1]:.2e}", flush=True)
    print({name: value for name, value in figures.items() if not isinstance(value, list)}, flush=True)
    return figures


def _fast(runner: CudaRunner, tokens: list[int]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Residual stream after every layer, the logits of all tokens, and those of the last one decoded alone."""
    count, streams = len(tokens), []
    logits, last = (
        _forward(runner, row) for row in (RowInput(0, tokens, 0, count), RowInput(0, tokens[-1:], count - 1, 1))
    )
    runner._wide.layers(_step(runner, tokens, 1), lambda x: streams.append(x.clone()))
    return streams, logits, last


def _prefilled(runner: CudaRunner, tokens: list[int]) -> list[Tensor]:
    """The logits of all tokens by the many-token path, as one of several rows of one step."""
    few, count = runner._few, len(tokens)
    step = _step(runner, tokens, PREFILL_ROWS)
    rows = torch.arange(PREFILL_ROWS, dtype=torch.int32, device=few.x.device)
    runner.forward([RowInput(row, tokens, 0, 0) for row in range(PREFILL_ROWS)])  # each has its blocks of the cache
    with runner._machine.on_main():
        x = runner._long.layers(step, Tiles(rows * count, torch.full_like(rows, count)))
        found = []
        for row in range(PREFILL_ROWS):
            found.append(torch.empty(count, runner.vocab_size, device=x.device))
            few.logits(x, torch.arange(row * count, (row + 1) * count, dtype=torch.int32, device=x.device), found[-1])
    runner._machine.synchronize()
    return found


def _forward(runner: CudaRunner, row: RowInput) -> Tensor:
    """The logits of a step of one row."""
    runner.forward([row])
    runner._machine.synchronize()
    return runner._logits[: row.logits].clone()


def _step(runner: CudaRunner, tokens: list[int], rows: int) -> Step:
    """The tokens as a prompt in each of so many rows."""
    integers, count = {"dtype": torch.int32, "device": runner._few.x.device}, len(tokens)
    return Step(
        torch.tensor(tokens, **integers).repeat(rows), torch.arange(rows, **integers).repeat_interleave(count),
        torch.arange(count, **integers).repeat(rows), torch.tensor([count * rows], **integers),
    )  # fmt: skip


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact.float()).norm() / exact.float().norm())


if __name__ == "__main__":
    sys.exit(main())
