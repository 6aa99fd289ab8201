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
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from bench.decode import TINY_CONFIG
from bench.record import emit, record
from engine.interfaces import RowInput
from engine.model.cpu.engine_weights import RANDOM_SEED
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.files.settings import read_config
from engine.model.hf.quantized_model import empty_model
from engine.model.hf.random_weights import _matrices, _plain, _seed_of, random_weights
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.attention.tile_attention import Tiles
from engine.model.weights.inventory import PLAIN, wanted_format
from engine.model.weights.rounding import quantize_slices

PREFILL_ROWS = 6
"""Rows of the step that goes through the prefill: more than 64 tokens, so that it takes its library products."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runner, compare, print the table and the JSON line; 0 when the bound holds."""
    options = parse(arguments)
    with TemporaryDirectory() as folder:
        if options.quick:
            options.config = Path(folder) / "config.json"
            options.config.write_text(json.dumps(TINY_CONFIG))
        settings = read_config(options.config)
        weights = dict(random_weights(settings, options.quantization, options.device, RANDOM_SEED).tensors)
        runner = CudaRunner(
            weights, settings, max_batch=PREFILL_ROWS, max_sequence=128, device=options.device,
            quantization=options.quantization,
        )  # fmt: skip
        figures = compare(runner, settings, options)
    device = None if options.device == "cpu" else runner.device
    configuration = {"quantization": options.quantization, "tokens": options.tokens, "quick": options.quick}
    emit(record("layers_against_hf", figures, configuration=configuration, seeds=[0], device=device), options.out)
    return 0 if figures["within_bound"] else 1


@torch.inference_mode()
def compare(runner: CudaRunner, settings: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Errors of the fast path and of bf16 against fp32; the runner's slot 0 is overwritten."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, settings.vocab_size, (options.tokens,), generator=draw).tolist()
    streams, logits, last = _fast(runner, tokens)
    prefilled = _prefilled(runner, tokens)
    reference = _Reference(settings, options, tokens)
    rows = []
    for index, (exact, rounded) in enumerate(reference.layers()):
        rows.append((_error(streams[index], exact), _error(rounded, exact)))
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
    few, count = runner._few, len(tokens)
    machine = runner._machine
    runner.forward([RowInput(0, tokens, 0, count)])
    machine.synchronize()
    logits = runner._logits[:count].clone()
    runner.forward([RowInput(0, tokens[-1:], count - 1, 1)])
    machine.synchronize()
    last = runner._logits[:1].clone()
    integers = {"dtype": torch.int32, "device": few.x.device}
    step = Step(
        torch.tensor(tokens, **integers), torch.zeros(count, **integers), torch.arange(count, **integers),
        torch.tensor([count], **integers),
    )  # fmt: skip
    streams: list[Tensor] = []
    runner._wide.layers(step, lambda x: streams.append(x.clone()))
    return streams, logits, last


def _prefilled(runner: CudaRunner, tokens: list[int]) -> list[Tensor]:
    """The logits of all tokens by the many-token path, as one of several rows of one step."""
    few, count = runner._few, len(tokens)
    integers = {"dtype": torch.int32, "device": few.x.device}
    rows = torch.arange(PREFILL_ROWS, **integers)
    step = Step(
        torch.tensor(tokens, **integers).repeat(PREFILL_ROWS), rows.repeat_interleave(count),
        torch.arange(count, **integers).repeat(PREFILL_ROWS), torch.tensor([count * PREFILL_ROWS], **integers),
    )  # fmt: skip
    runner.forward(
        [RowInput(row, tokens, 0, 0) for row in range(PREFILL_ROWS)]
    )  # every row has its blocks of the cache
    with runner._machine.on_main():
        x = runner._long.layers(step, Tiles(rows * count, torch.full_like(rows, count)))
        found = []
        for row in range(PREFILL_ROWS):
            found.append(torch.empty(count, runner.vocab_size, device=x.device))
            few.logits(x, torch.arange(row * count, (row + 1) * count, dtype=torch.int32, device=x.device), found[-1])
    runner._machine.synchronize()
    return found


class _Reference:
    """Hugging Face's layers in fp32 and bf16 over the same tokens, one layer's weights at a time."""

    def __init__(self, settings: Any, options: argparse.Namespace, tokens: list[int]) -> None:
        settings._attn_implementation = settings._experts_implementation = "eager"
        self._options = options
        self._model = empty_model(settings)
        inner = self._model.model
        self._rotary = type(inner.rotary_emb)(settings).to(options.device)
        self._shapes = {name: tuple(value.shape) for name, value in self._model.named_parameters()}
        embedded = self._made("model.embed_tokens.weight")[torch.tensor(tokens, device=options.device)]
        self._streams = [embedded.float()[None], embedded.bfloat16()[None]]
        self._blocks: list[Any] = []
        for dtype in (torch.float32, torch.bfloat16):
            block = type(inner.layers[0])(settings, 0).to(dtype) if options.device == "cpu" else None
            if block is None:
                with torch.device("meta"):
                    block = type(inner.layers[0])(settings, 0).to(dtype)
                block = block.to_empty(device=options.device)
            self._blocks.append(block.eval().requires_grad_(False))

    def layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Residual streams [T, H] in fp32 and bf16 after every layer."""
        count = self._streams[0].shape[1]
        positions = torch.arange(count, device=self._options.device)[None]
        mask = torch.full((count, count), float("-inf"), device=self._options.device).triu(1)[None, None]
        for index in range(len(self._model.model.layers)):
            for name in [name for name in self._shapes if name.startswith(f"model.layers.{index}.")]:
                weight = self._made(name)
                for block in self._blocks:
                    _parameter(block, name.split(".", 3)[3]).copy_(weight)
            for at, block in enumerate(self._blocks):
                hidden = self._streams[at]
                turned = self._rotary(hidden, positions)
                out = block(hidden, attention_mask=mask.to(hidden.dtype), position_embeddings=turned)
                self._streams[at] = out[0] if isinstance(out, tuple) else out
            yield self._streams[0][0], self._streams[1][0]

    def logits(self) -> tuple[Tensor, Tensor]:
        """fp32 [T, V] of both after the last layer."""
        norm = type(self._model.model.norm)(self._streams[0].shape[-1], eps=self._model.config.rms_norm_eps)
        norm = norm.to(self._options.device)
        head = self._made("lm_head.weight")
        exact, rounded = (norm.to(stream.dtype)(stream)[0] for stream in self._streams)
        return exact.float() @ head.float().t(), (rounded @ head.bfloat16().t()).float()

    def _made(self, name: str) -> Tensor:
        """A weight of `random:CONFIG.json`, dequantised."""
        device, shape = self._options.device, self._shapes[name]
        generator = torch.Generator(device).manual_seed(_seed_of(RANDOM_SEED, name))
        std = float(getattr(self._model.config, "initializer_range", 0.02) or 0.02)
        wanted = wanted_format(name, len(shape), self._options.quantization, PLAIN)
        if wanted == PLAIN:
            return _plain(name, shape, std, generator, torch.bfloat16)
        return quantize_slices(_matrices(shape, std, generator), shape, wanted).dequantize(torch.float32)


def _parameter(block: nn.Module, name: str) -> Tensor:
    return block.get_parameter(name)


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact.float()).norm() / exact.float().norm())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.layers_against_hf", description="Fast path against HF")
    parser.add_argument("--config", type=Path, default=Path("../shared/data/qwen3_coder_30b_a3b_config.json"))
    parser.add_argument("--quantization", default="nf4")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="a tiny random model on a CPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.device = "cpu"
    return options


if __name__ == "__main__":
    sys.exit(main())
