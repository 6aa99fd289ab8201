"""What `bench.decode` times: prefill, steps and sampling over one runner, and the bytes a step must read.

Knows the runner's calls and the command line's options, not records. A step's time is the wall clock of a loop that
launches the next forward before it reads the tokens of the last, as the engine does.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

import torch

from engine.interfaces import FROM_DEVICE, RowInput, SampleInputs
from engine.model.cpu.kv_blocks import BLOCK
from engine.model.cuda.kv_cache import position_bytes

STRIDE = 37
"""Tokens by which rows are longer each time that they go back: no multiple of what states are kept at."""
SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {},
    "top_p 0.95": {"top_p": 0.95},
}


def prefill(runner: Any, options: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """Time to the first logits of one prompt, the median after two warm-ups."""
    draw = random.Random(tokens)
    times = []
    for _ in range(options.repeats + 2):
        row = RowInput(0, [draw.randrange(runner.vocab_size) for _ in range(tokens)], 0)
        started = time.perf_counter()
        runner.forward([row])
        runner._machine.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return {"quantization": runner.quantization, "tokens": tokens, "ms": round(statistics.median(times[2:]), 3)}


def decode(
    runner: Any, options: argparse.Namespace, batch: int, ceiling: float, positions: int = 0
) -> list[dict[str, Any]]:
    """Free and constrained steps in turn, after prompts or, with `positions`, a random cache of so many; `ceiling` in
    TB/s."""
    mask, begin = _mask(runner, options, batch), positions or options.prompt
    if positions:
        _random_cache(runner, batch, positions)
    else:
        _fill(runner, options, batch)
    for bits in (mask, None):  # a warm-up
        steps(runner, options, batch, bits, begin)
    times: dict[bool, list[float]] = {True: [], False: []}
    exposed: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(options.repeats):
        for constrained in (False, True):
            ms, each = steps(runner, options, batch, mask if constrained else None, begin)
            times[constrained].append(ms)
            exposed[constrained] += [one["mask_wait"] + one["apply"] for one in each]
    moved = step_bytes(runner, batch, begin + options.steps // 2)
    runs = []
    for constrained, found in times.items():
        ms = statistics.median(found)
        runs.append({
            "quantization": runner.quantization, "batch": batch, "prompt_tokens": begin,
            "constrained": constrained, "ms_per_step": round(ms, 4), "tokens_per_s": round(batch / ms * 1e3, 1),
            "document_tokens_per_s": round(batch / ms * 1e3, 1),
            "bytes_per_step": moved, "ceiling_share": round(moved / (ms * 1e-3) / (ceiling * 1e12), 4),
            "ms_spread": [round(min(found), 4), round(max(found), 4)],
            "exposed_mask_us": round(statistics.mean(exposed[constrained]), 3),
        })  # fmt: skip
    return runs


def back(runner: Any, options: argparse.Namespace, batch: int, tokens: int) -> dict[str, Any]:
    """Milliseconds a row by which a step that begins `tokens` before the end of each row takes longer than the one
    before it. Rows have decoded at least as many tokens one by one, and some more each time."""
    draw, at, extra = random.Random(tokens), options.prompt, []

    def step(position: int) -> float:
        started = time.perf_counter()
        runner.forward([RowInput(slot, [draw.randrange(runner.vocab_size)], position) for slot in range(batch)])
        runner._machine.synchronize()
        return (time.perf_counter() - started) * 1e3

    _fill(runner, options, batch)
    for end in back_ends(options, tokens):
        plain = [step(position) for position in range(at, end)][-STRIDE:]
        extra.append((step(end - tokens) - statistics.median(plain)) / batch)
        at = end - tokens + 1
    return {
        "quantization": runner.quantization, "batch": batch, "tokens_back": tokens,
        "ms_a_row": round(statistics.median(extra), 3), "ms_spread": [round(min(extra), 3), round(max(extra), 3)],
    }  # fmt: skip


def back_ends(options: argparse.Namespace, tokens: int) -> range:
    """Lengths from which `back` goes back."""
    first = options.prompt + tokens + STRIDE
    return range(first, first + STRIDE * options.repeats, STRIDE)


def sampling(runner: Any, options: argparse.Namespace, batch: int) -> list[dict[str, Any]]:
    """Device microseconds of mask and sampling together, per kind of sampling."""
    _fill(runner, options, batch)
    mask, rows = _mask(runner, options, batch), []
    for name, settings in SETTINGS.items():
        row: dict[str, Any] = {"quantization": runner.quantization, "batch": batch, "sampling": name}
        for label, bits in (("free", None), ("masked", mask)):
            _, times = steps(runner, options, batch, bits, options.prompt, **settings)
            row[f"{label}_us"] = round(statistics.median(one["sample"] for one in times), 1)
            row[f"{label}_mask_wait_us"] = round(statistics.median(one["mask_wait"] for one in times), 1)
        row["apply_us"] = round(statistics.median(one["apply"] for one in times), 2)
        rows.append(row)
    return rows


def step_bytes(runner: Any, batch: int, positions: int) -> int:
    """Bytes that one step of `batch` tokens must read once; experts by the expected number of distinct ones. Recurrent
    states are written too, and count twice."""
    model = runner._few.model
    shape, shared, kind = model.shape, int(model.shape.shared), model.shape.delta_net
    routed, visited = model.experts - shared, model.chosen - shared
    chosen = shared + routed * (1 - (1 - visited / routed) ** batch)
    cache = batch * positions * position_bytes(shape, runner._cache.dtype) // shape.caching
    state = 0 if kind is None else 2 * batch * kind.value_heads * kind.key_dim * kind.value_dim * 4
    total = model.head.nbytes
    for layer in model.layers:
        experts = (layer.gate_up.nbytes + layer.down.nbytes) / model.experts * chosen
        plain = sum(part.nbytes for part in (layer.router, layer.rates) if part is not None)
        total += layer.qkv.nbytes + layer.output.nbytes + experts + plain + (cache if layer.delta is None else state)
    return int(total)


def weight_bytes(model: Any) -> int:
    """Bytes of all weights on the device."""
    total = model.embedding.nbytes + model.head.nbytes
    for layer in model.layers:
        held = (layer.qkv, layer.output, layer.gate_up, layer.down, layer.router, layer.rates)
        total += sum(part.nbytes for part in held if part is not None)
    return int(total)


def steps(
    runner: Any, options: argparse.Namespace, batch: int, mask: Any, begin: int, **sampling: float
) -> tuple[float, list[dict[str, float]]]:
    """ms per step of `steps` steps of rows with `begin` positions, from the end of the step before them to that of the
    last, and the device's own times of each."""
    slots, draw = range(batch), random.Random(batch)
    runner.forward([RowInput(slot, [draw.randrange(runner.vocab_size)], begin) for slot in slots])
    runner.sample(_inputs(draw, batch, mask, **sampling))
    times, started = [], 0.0
    for step in range(1, options.steps + 1):
        runner.forward([RowInput(slot, [FROM_DEVICE], begin + step) for slot in slots])
        runner.wait()
        started = started or time.perf_counter()
        times.append(runner.timings())
        runner.sample(_inputs(draw, batch, mask, **sampling))
    runner.wait()
    return (time.perf_counter() - started) / options.steps * 1e3, times


def _inputs(draw: random.Random, batch: int, mask: Any, *, temperature: float = 1.0, top_p: float = 1.0) -> Any:
    uniform, ones = [draw.random() for _ in range(batch)], [1.0] * batch
    return SampleInputs(
        [temperature] * batch, [top_p] * batch, [0] * batch, [0.0] * batch, ones, uniform, list(range(batch)), mask
    )


def _fill(runner: Any, options: argparse.Namespace, batch: int) -> None:
    """Every row its own random prompt."""
    draw = random.Random(7)
    for slot in range(batch):
        runner.forward([RowInput(slot, [draw.randrange(runner.vocab_size) for _ in range(options.prompt)], 0, 0)])


@torch.inference_mode()
def _random_cache(runner: Any, batch: int, positions: int) -> None:
    """Every row so many positions of random keys and values, of about 1."""
    cache = runner._cache
    if cache.is_floating_point():
        cache.normal_()
    else:  # codes of up to 240 in either sign, and exponents that make them 1.9 at most
        size = BLOCK * runner._few.model.shape.head_dim
        cache[..., :size].random_(0, 0x78).bitwise_or_(torch.randint_like(cache[..., :size], 2) << 7)
        cache[..., size:] = 127
    for slot in range(batch):
        runner.blocks.clear(slot)
        runner.blocks.reserve(slot, 0, positions)
        if runner._states is not None:  # recurrent layers are told that their state is the one after so many tokens
            row = runner._states._rows[slot]
            row.tokens, row.at = [0] * positions, positions


def _mask(runner: Any, options: argparse.Namespace, batch: int) -> Any:
    """A pinned mask of half the vocabulary for every row."""
    words = torch.randint(-(2**31), 2**31 - 1, (batch, -(-runner.vocab_size // 32)), dtype=torch.int32)
    return words.pin_memory() if options.device != "cpu" else words
