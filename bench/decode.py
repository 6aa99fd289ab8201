"""How fast tokens come, against what the memory allows.

    python -m bench.decode [--config FILE] [--quantizations nf4,int8] [--batches 1,8,32] [--prefill 128,1024,8192]
                           [--steps 48] [--repeats 5] [--kernels] [--peer] [--quick] [--out DIR]

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
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {},
    "top_p 0.95": {"top_p": 0.95},
}


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
    import torch

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


def copy_ceiling(device: str) -> float:
    """TB/s of a copy of 1 GiB (16 MiB on a CPU), read and written, the median of several."""
    import torch

    size = 1 << (30 if device != "cpu" else 24)
    source, target = (
        torch.ones(size, dtype=torch.uint8, device=device),
        torch.empty(size, dtype=torch.uint8, device=device),
    )
    times = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(4):
            target.copy_(source)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / 4)
    return 2 * size / statistics.median(times) / 1e12


def _one(options: argparse.Namespace, quantization: str, ceiling: float, figures: dict[str, Any]) -> None:
    """All figures of one quantisation."""
    import torch

    from engine.model.cuda_runner import CudaRunner
    from engine.model.quantize import read_config
    from engine.model.random_weights import random_weights

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
        figures["runs"] += _decode(runner, options, batch, ceiling)
        figures["sampling"] += _sampling(runner, options, batch)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    figures[f"peak_gib_{quantization}"] = round(peak, 2)
    figures.setdefault("peak_gib", round(peak, 2))
    if options.kernels:
        from bench.decode_kernels import kernel_table

        figures["kernels"] += kernel_table(runner._few, options.batches, options.prompt, ceiling)
    model = runner._few.model
    runner.close()
    del runner
    long = CudaRunner(
        model, model.shape, max_batch=1, max_sequence=longest, device=options.device, quantization=quantization
    )
    figures["prefill"] += [_prefill(long, options, tokens) for tokens in options.prefill]


def _prefill(runner: Any, options: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """Time to the first logits of one prompt, the median after two warm-ups."""
    from engine.interfaces import RowInput

    draw = random.Random(tokens)
    times = []
    for _ in range(options.repeats + 2):
        row = RowInput(0, [draw.randrange(runner.vocab_size) for _ in range(tokens)], 0)
        started = time.perf_counter()
        runner.forward([row])
        runner._machine.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return {"quantization": runner.quantization, "tokens": tokens, "ms": round(statistics.median(times[2:]), 3)}


def _loop(
    runner: Any, options: argparse.Namespace, batch: int, mask: Any, **sampling: float
) -> tuple[float, list[dict[str, float]]]:
    """ms per step of `steps` steps after each row's prompt, and the device's own times of each."""
    from engine.interfaces import FROM_DEVICE, RowInput

    slots, draw = range(batch), random.Random(batch)
    runner.forward([RowInput(slot, [draw.randrange(runner.vocab_size)], options.prompt) for slot in slots])
    runner.sample(_inputs(draw, batch, mask, **sampling))
    times = []
    started = time.perf_counter()
    for step in range(1, options.steps + 1):
        runner.forward([RowInput(slot, FROM_DEVICE, options.prompt + step) for slot in slots])
        runner.wait()
        times.append(runner.timings())
        runner.sample(_inputs(draw, batch, mask, **sampling))
    runner.wait()
    return (time.perf_counter() - started) / options.steps * 1e3, times


def _inputs(draw: random.Random, batch: int, mask: Any, *, temperature: float = 1.0, top_p: float = 1.0) -> Any:
    from engine.interfaces import SampleInputs

    uniform = [draw.random() for _ in range(batch)]
    ones = [1.0] * batch
    return SampleInputs(
        [temperature] * batch, [top_p] * batch, [0] * batch, [0.0] * batch, ones, uniform, list(range(batch)), mask
    )


def _fill(runner: Any, options: argparse.Namespace, batch: int) -> Any:
    """Every row its own random prompt; gives a pinned mask of half the vocabulary for every row."""
    import torch

    from engine.interfaces import RowInput

    draw = random.Random(7)
    for slot in range(batch):
        runner.forward([RowInput(slot, [draw.randrange(runner.vocab_size) for _ in range(options.prompt)], 0, 0)])
    words = torch.randint(-(2**31), 2**31 - 1, (batch, -(-runner.vocab_size // 32)), dtype=torch.int32)
    return words.pin_memory() if options.device != "cpu" else words


def _decode(runner: Any, options: argparse.Namespace, batch: int, ceiling: float) -> list[dict[str, Any]]:
    mask = _fill(runner, options, batch)
    times: dict[bool, list[float]] = {True: [], False: []}
    for warm_up in (True, False):
        _loop(runner, options, batch, mask if warm_up else None)
    for _ in range(options.repeats):
        for constrained in (False, True):
            times[constrained].append(_loop(runner, options, batch, mask if constrained else None)[0])
    moved = step_bytes(runner._few.model, batch, options.prompt + options.steps // 2)
    runs = []
    for constrained, found in times.items():
        ms = statistics.median(found)
        runs.append({
            "quantization": runner.quantization, "batch": batch, "prompt_tokens": options.prompt,
            "constrained": constrained,
            "ms_per_step": round(ms, 4), "tokens_per_s": round(batch / ms * 1e3, 1),
            "document_tokens_per_s": round(batch / ms * 1e3, 1),
            "bytes_per_step": moved, "ceiling_share": round(moved / (ms * 1e-3) / (ceiling * 1e12), 4),
            "ms_spread": [round(min(found), 4), round(max(found), 4)],
        })  # fmt: skip
    return runs


def _sampling(runner: Any, options: argparse.Namespace, batch: int) -> list[dict[str, Any]]:
    """Device microseconds of mask and sampling together, per kind of sampling."""
    mask, rows = _fill(runner, options, batch), []
    for name, sampling in SETTINGS.items():
        row: dict[str, Any] = {"quantization": runner.quantization, "batch": batch, "sampling": name}
        for label, bits in (("free", None), ("masked", mask)):
            _, times = _loop(runner, options, batch, bits, **sampling)
            row[f"{label}_us"] = round(statistics.median(one["sample"] for one in times), 1)
            row[f"{label}_mask_wait_us"] = round(statistics.median(one["mask_wait"] for one in times), 1)
        row["apply_us"] = round(statistics.median(one["apply"] for one in times), 2)
        rows.append(row)
    return rows


def step_bytes(model: Any, batch: int, positions: int) -> int:
    """Bytes that one step of `batch` tokens must read once; experts by the expected number of distinct ones."""
    shape, layer = model.shape, model.layers[0]
    chosen = model.experts * (1 - (1 - model.chosen / model.experts) ** batch)
    experts = (layer.gate_up.nbytes + layer.down.nbytes) / model.experts * chosen
    router = 0 if layer.router is None else layer.router.numel() * layer.router.element_size()
    cache = batch * positions * 2 * shape.kv_heads * shape.head_dim * 2
    head = model.head.nbytes
    return int(shape.layers * (layer.qkv.nbytes + layer.output.nbytes + experts + router + cache) + head)


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
    parser.add_argument("--quantizations", type=lambda text: text.split(","), default=["nf4", "int8"])
    parser.add_argument("--batches", type=numbers, default=[1, 8, 32])
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
    if options.quick:
        options.device, options.quantizations, options.batches, options.prefill = "cpu", ["nf4"], [1, 2], [16]
        options.prompt, options.steps, options.repeats = 8, 2, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
