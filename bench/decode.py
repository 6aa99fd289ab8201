"""How fast tokens come, against what the memory allows.

    python -m bench.decode [--config FILE] [--quantizations nf4,int8,bf16] [--batches 1,8,32,64,128]
                           [--prefill 128,1024,8192] [--steps 48] [--repeats 5] [--kernels] [--peer] [--quick]
                           [--out DIR]

Measures the copy ceiling first. Then, per quantisation, with random weights of the config's shape made on the device:
milliseconds a step for every batch, constrained (a random mask of half the vocabulary) and not, interleaved, every row
its own random prompt and tokens drawn at temperature 1, so that experts differ; sampling alone; prefill; memory.
`bytes_per_step` counts what a step must read once: attention, distinct experts (expected number), head, cache.
`--kernels` adds a table per kernel. `--peer` runs Hugging Face's generate() of the same shape in the same
call. Time is the wall clock of a loop that launches the next forward before it reads the tokens of the
last, as the engine does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.decode_loops import copy_ceiling, decode, prefill, sampling
from bench.record import emit, record
from bench.tables import print_table

TINY_CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64, "intermediate_size": 128, "vocab_size": 512, "hidden_act": "silu",
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the tables and the JSON line."""
    options = _parse(arguments)
    if options.quick:
        with TemporaryDirectory() as folder:
            options.config = Path(folder) / "config.json"
            options.config.write_text(json.dumps(TINY_CONFIG))
            return _run(options)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    ceiling = copy_ceiling(options.device)
    print(f"ceiling: {ceiling:.3f} TB/s, a copy on the device, bytes read and written", flush=True)
    figures: dict[str, Any] = {
        "ceiling_tb_s": round(ceiling, 4),
        "runs": [],
        "prefill": [],
        "sampling": [],
        "kernels": [],
    }
    for quantization in options.quantizations:
        _one(options, quantization, ceiling, figures)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if options.peer:
        from bench.peers.hf_generate import measure

        figures["peers"] = measure(options.config, options.batches, options.prompt)
        for peer in figures["peers"]:
            print(peer, flush=True)
    _print(figures)
    device = torch.cuda.get_device_name() if options.device != "cpu" else None
    configuration = {name: value for name, value in vars(options).items() if name not in ("config", "out")}
    emit(
        record("decode", figures, configuration=configuration, seeds=[0], repeats=options.repeats, device=device),
        options.out,
    )
    return 0


def _one(options: argparse.Namespace, quantization: str, ceiling: float, figures: dict[str, Any]) -> None:
    """All figures of one quantisation."""
    from engine.model.cuda.cuda_runner import CudaRunner
    from engine.model.files.settings import read_config
    from engine.model.hf.random_weights import random_weights

    cuda = options.device != "cpu"
    started = time.perf_counter()
    settings = read_config(options.config)
    weights = dict(random_weights(settings, quantization, options.device, 0).tensors)
    load_s = time.perf_counter() - started
    longest = max(max(options.prefill, default=0), options.prompt + options.steps) + 64
    started = time.perf_counter()
    runner = CudaRunner(
        weights, settings, max_batch=max(options.batches), max_sequence=options.prompt + options.steps + 64,
        device=options.device, quantization=quantization,
    )  # fmt: skip
    layout_s = time.perf_counter() - started
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    runner.warm()
    start_s = time.perf_counter() - started
    figures.update(
        {
            f"{name}_{quantization}": round(value, 2)
            for name, value in (("load_s", load_s), ("layout_s", layout_s), ("start_s", start_s))
        }
    )
    figures.setdefault("load_s", round(load_s + layout_s, 2))
    figures.setdefault("start_s", round(start_s, 2))
    print(
        f"{quantization}: made {load_s:.1f} s, laid out {layout_s:.1f} s, compiled and captured {start_s:.1f} s",
        flush=True,
    )
    for batch in options.batches:
        figures["runs"] += decode(runner, options, batch, ceiling)
        figures["sampling"] += sampling(runner, options, batch)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    figures[f"peak_gib_{quantization}"] = round(peak, 2)
    figures.setdefault("peak_gib", round(peak, 2))
    if options.kernels:
        from bench.decode_kernels import kernel_table

        figures["kernels"] += kernel_table(runner._few, runner._wide, options.batches, options.prompt, ceiling)
    model = runner._few.model
    runner.close()
    del runner
    long = CudaRunner(
        model, model.shape, max_batch=1, max_sequence=longest, device=options.device, quantization=quantization
    )
    figures["prefill"] += [prefill(long, options, tokens) for tokens in options.prefill]


def _print(figures: dict[str, Any]) -> None:
    for name in ("runs", "sampling", "prefill", "kernels"):
        if figures[name]:
            print(f"\n{name}")
            print_table(list(figures[name][0]), [[str(value) for value in row.values()] for row in figures[name]])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(
        prog="python -m bench.decode", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("../shared/data/qwen3_coder_30b_a3b_config.json"))
    parser.add_argument("--quantizations", type=lambda text: text.split(","), default=["nf4", "int8", "bf16"])
    parser.add_argument("--batches", type=numbers, default=[1, 8, 32, 64, 128])
    parser.add_argument("--prefill", type=numbers, default=[128, 1024, 8192])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tiny model on a CPU, in seconds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if not options.quick and not options.config.is_file():
        parser.error(f"no model configuration at {options.config}; name one with --config, or run --quick")
    if not options.quick and options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"torch sees no CUDA device for --device {options.device}; run --quick, or --device cpu")
    if options.quick:
        options.device, options.quantizations, options.batches, options.prefill = "cpu", ["nf4"], [1, 2], [16]
        options.prompt, options.steps, options.repeats = 8, 2, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
