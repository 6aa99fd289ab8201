"""What `bench.decode --as` measures: another card's code beside this card's own, over the same weights in one process.

Both are fed the same prompts and the greedy tokens of the own code: up to a row's first difference that is what each
would write alone. A profiler then lists every kernel of a step and what the other card would hold of it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from bench.decode import loops
from bench.decode.other_card import CARDS, OtherCard, resident
from bench.decode.random_forms import FORMS, random_model
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.models import shape_file
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from engine.interfaces import RowInput, SampleInputs
from engine.model.architecture.shape import Shape
from engine.model.cuda.cuda_runner import LONGEST_GRAPH, CudaRunner
from engine.model.cuda.fragment_model import FragmentModel, fragment_model
from engine.model.files.settings import read_config
from engine.model.hf.random_weights import random_weights

SLACK = 64
APART = 0.05
"""The most that a row's logits may be off, by their own size; nearly equal experts that change places cost that."""
NEAR = 1e-3
"""Two logits are a near tie: the contract's bound."""
A100 = {"bytes": 2.04 / 4.8, "clocks": 108 * 1.41 / (132 * 1.98), "library": 312 / 990}
"""An A100 by an H200, from data sheets: bytes a second, clocks of all multiprocessors, products by a library."""
TABLES = ("identical", "times", "computed", "kernels")


class Side(NamedTuple):
    """A runner, and what its launches happen in."""

    code: str
    runner: CudaRunner
    active: Callable[[], AbstractContextManager[Any]]


class Compared(NamedTuple):
    """Of every row: the greedy token of either side, and of the logits the own two's distance and what is apart."""

    own: list[int]
    other: list[int]
    gap: list[float]
    error: list[float]


def run(options: argparse.Namespace) -> int:
    """Measure everything, print the tables and the JSON line; 1 where logits are further apart than APART."""
    ceiling, cuda = copy_bytes_per_s(options.device) / 1e12, options.device != "cpu"
    print(f"ceiling: {ceiling:.3f} TB/s, a copy on the device, bytes read and written", flush=True)
    figures: dict[str, Any] = {"ceiling_tb_s": round(ceiling, 4), **{name: [] for name in TABLES}}
    with shape_file(options) as config, TemporaryDirectory() as folder:
        card = OtherCard(int(options.code.removeprefix("sm_")), Path(folder)) if cuda else None
        for quantization in options.quantizations:
            model = _model(options, config, quantization)
            _prefills(options, quantization, card, model, figures)
            _steps(options, quantization, card, model, figures)
            del model
            gc.collect()
        compiled = {} if card is None else card.compiled()
    ran = {row["kernel"] for row in figures["kernels"]}
    figures["compiled"] = {name: len(forms) for name, forms in sorted(compiled.items())}
    figures["library"] = sorted(ran - compiled.keys())
    for name in TABLES if cuda else TABLES[:3]:
        print(f"\n{name}")
        print_table(list(figures[name][0]), [[str(value) for value in row.values()] for row in figures[name]])
    print(f"\ncompiled for {options.code}, checked: {figures['compiled']}\nlibraries' own: {figures['library']}")
    device = torch.cuda.get_device_name() if cuda else None
    configuration = {name: value for name, value in vars(options).items() if name not in ("config", "out", "vllm")}
    line = record("decode_as", figures, configuration=configuration, seeds=[0], repeats=options.repeats, device=device)
    emit(line, options.out)
    return int(any(row["error_max"] > APART for row in figures["identical"]))


def _model(options: argparse.Namespace, config: Path, quantization: str) -> FragmentModel:
    """Random weights of the config's shape, laid out."""
    settings = read_config(config)
    if quantization in FORMS:
        return random_model(settings, quantization, options.device)
    weights = dict(random_weights(settings, quantization, options.device, 0).tensors)
    with torch.inference_mode():
        return fragment_model(weights, Shape.from_config(settings))


def _add(figures: dict[str, Any], name: str, *rows: dict[str, Any]) -> None:
    """Rows of a table, shown at once too: a run may be cut short."""
    figures[name] += rows
    print(name, json.dumps(rows), flush=True)


def _steps(
    options: argparse.Namespace, quantization: str, card: OtherCard | None, model: FragmentModel,
    figures: dict[str, Any],
) -> None:  # fmt: skip
    length = options.prompt + max(options.greedy, options.steps) + SLACK
    own, other = _sides(options, quantization, card, model, max(options.batches), length)
    for side in (own, other):
        _warm(side, [options.prompt], options.batches)
    for batch in options.batches:
        step = {"quantization": quantization, "step": f"batch {batch}"}
        _add(figures, "identical", {**step, **_greedy(own, other, options, batch)})
        timed = _timed(own, other, options, batch)
        _add(figures, "times", *({**step, "code": code, **told} for code, told in timed.items()))
        rows = [RowInput(slot, [1], options.prompt) for slot in range(batch)]
        figures["kernels"] += (launched := _launches(other, rows, card, step))
        moved = loops.step_bytes(own.runner, batch, options.prompt + options.steps // 2)
        _add(figures, "computed", {**step, **_computed(launched, timed[other.code]["ms"], moved, figures)})
    for side in (own, other):
        side.runner.close()


def _prefills(
    options: argparse.Namespace, quantization: str, card: OtherCard | None, model: FragmentModel,
    figures: dict[str, Any],
) -> None:  # fmt: skip
    own, other = _sides(options, quantization, card, model, 1, max(options.prefill) + SLACK)
    for side in (own, other):
        _warm(side, options.prefill, [1])
    for tokens in options.prefill:
        step = {"quantization": quantization, "step": f"prefill {tokens}"}
        row = [RowInput(0, _prompt(own, tokens, tokens), 0)]
        _add(figures, "identical", {**step, **_summed([_both(own, other, row)])})
        for side in (own, other):
            with side.active():
                ms = loops.prefill(side.runner, options, tokens)["ms"]
            _add(figures, "times", {**step, "code": side.code, "ms": ms, "spread": []})
        figures["kernels"] += (launched := _launches(other, row, card, step))
        _add(figures, "computed", {**step, **_computed(launched, ms, 0, figures)})
    for side in (own, other):
        side.runner.close()


def _sides(
    options: argparse.Namespace, quantization: str, card: OtherCard | None, model: FragmentModel, rows: int,
    length: int,
) -> tuple[Side, Side]:  # fmt: skip
    """This card's own code, and the other's."""
    sides = []
    for code, active in (("own", nullcontext), (options.code, nullcontext if card is None else card.active)):
        with active():
            runner = CudaRunner(
                model, model.shape, max_batch=rows, max_sequence=length, device=options.device,
                quantization=quantization, cache=options.cache,
            )  # fmt: skip
        sides.append(Side(code, runner, active))
    return sides[0], sides[1]


def _warm(side: Side, prompts: Sequence[int], rows: Sequence[int]) -> None:
    """Compile and capture prefills and steps; prefills that have no graph are left."""
    paths = [side.runner._path([RowInput(0, [0] * tokens, 0)], tokens, 1) for tokens in prompts]
    tiled = sorted({path.tokens for path in paths if path.tiled and path.tokens <= LONGEST_GRAPH})
    with side.active():
        side.runner.warm(tiled=tiled, short=rows)


def _timed(own: Side, other: Side, options: argparse.Namespace, batch: int) -> dict[str, dict[str, Any]]:
    """ms of a step behind the prompts that are there, free, in turn after a warm-up."""
    times: dict[str, list[float]] = {own.code: [], other.code: []}
    for _ in range(options.repeats + 1):
        for side in (own, other):
            with side.active():
                times[side.code].append(loops.steps(side.runner, options, batch, None, options.prompt)[0])
    return {
        code: {
            "ms": round(statistics.median(found[1:]), 4),
            "spread": [round(min(found[1:]), 4), round(max(found[1:]), 4)],
        }
        for code, found in times.items()
    }


def _prompt(side: Side, tokens: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(side.runner.vocab_size) for _ in range(tokens)]


def _greedy(own: Side, other: Side, options: argparse.Namespace, batch: int) -> dict[str, Any]:
    """The first token behind every row's prompt, and the others step by step, all fed with the own side's."""
    prompts = [[RowInput(slot, _prompt(own, options.prompt, slot), 0)] for slot in range(batch)]
    first = [_both(own, other, prompt) for prompt in prompts]
    compared = [Compared(*(list(chain(*parts)) for parts in zip(*first, strict=True)))]
    for step in range(options.greedy - 1):
        rows = [RowInput(slot, [token], options.prompt + step) for slot, token in enumerate(compared[-1].own)]
        compared.append(_both(own, other, rows))
    return _summed(compared)


def _summed(compared: Sequence[Compared]) -> dict[str, Any]:
    """What comparisons of the same rows, one after the other, come to; `apart` are rows' first differences."""
    apart = {}
    for token, found in enumerate(compared):
        for row, (ours, theirs) in enumerate(zip(found.own, found.other, strict=True)):
            if ours != theirs and row not in apart:
                apart[row] = {"row": row, "token": token, "gap": round(found.gap[row], 5)}
    same = [ours == theirs for found in compared for ours, theirs in zip(found.own, found.other, strict=True)]
    errors, rows = sorted(error for found in compared for error in found.error), len(compared[0].own)
    return {
        "tokens": len(same), "equal": sum(same), "rows": rows, "rows_equal": rows - len(apart),
        "far": sum(first["gap"] >= NEAR for first in apart.values()), "error_p50": round(errors[len(errors) // 2], 6),
        "error_max": round(errors[-1], 6), "apart": list(apart.values()),
    }  # fmt: skip


@torch.inference_mode()
def _both(own: Side, other: Side, rows: Sequence[RowInput]) -> Compared:
    (ours, logits), (theirs, found) = (_forward(side, rows) for side in (own, other))
    off = (logits - found).norm(dim=1) / logits.norm(dim=1)
    places = torch.tensor([ours, theirs], device=logits.device)
    gap = logits.gather(1, places.t()).diff(dim=1)[:, 0].abs()
    return Compared(ours, theirs, gap.tolist(), off.tolist())


def _forward(side: Side, rows: Sequence[RowInput]) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens and logits, both there."""
    ones, zeros = [1.0] * len(rows), [0.0] * len(rows)
    greedy = SampleInputs(zeros, ones, [0] * len(rows), zeros, ones, zeros, [row.slot for row in rows])
    with side.active():
        side.runner.forward(rows)
        side.runner.sample(greedy)
        return list(side.runner.wait().token_ids), side.runner._logits[: len(rows)]


def _launches(
    side: Side, rows: Sequence[RowInput], card: OtherCard | None, step: dict[str, str]
) -> list[dict[str, Any]]:
    """Every kernel of a step, launches alike in one row: how many blocks of it a multiprocessor of each card holds, and
    how many waves of them the A100 takes. `code` is whose it is. None on a CPU."""
    if card is None:
        return []
    found: dict[Any, list[float]] = {}
    for event in _profiled(side, rows):
        told = event["args"]
        kind = event["name"], *told["grid"], *told["block"], told["registers per thread"], told["shared memory"]
        found.setdefault(kind, []).append(event["dur"])
    table, compiled = [], card.compiled()
    for (name, *sizes, registers, shared), times in found.items():
        blocks, threads = (x * y * z for x, y, z in (sizes[:3], sizes[3:]))
        held = {limits.card: resident(limits, threads, registers, shared) for limits in CARDS.values()}
        assert held["A100"] or name not in compiled, f"{name} takes {shared} bytes of shared memory: no room on an A100"
        waves = round(blocks / (CARDS[80].multiprocessors * held["A100"]), 2) if held["A100"] else "-"
        table.append({
            **step, "kernel": name, "code": side.code if name in compiled else "library", "calls": len(times),
            "us": round(sum(times) / len(times), 2), "blocks": blocks, "threads": threads, "registers": registers,
            "shared": shared, **held, "waves": waves,
        })  # fmt: skip
    return table


def _profiled(side: Side, rows: Sequence[RowInput]) -> list[dict[str, Any]]:
    """The second time that a step is run, by the profiler: its kernels."""
    _forward(side, rows)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _forward(side, rows)
        torch.cuda.synchronize()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    kernels = [event for event in events if event.get("cat") == "kernel"]
    assert kernels, "the profiler saw no kernel"
    return kernels


def _computed(launched: Sequence[dict[str, Any]], ms: float, moved: int, figures: dict[str, Any]) -> dict[str, Any]:
    """ms on an A100. At least as if launches took as long and only what is `moved` took longer; of a prefill, with
    nothing told, as if clocks did; at most as if all took longer by the ratio of bandwidths. Libraries' kernels by the
    ratio of peaks."""
    us = [(row["us"] * row["calls"], row["code"] == "library") for row in launched]
    library = ms * sum(took for took, foreign in us if foreign) / (sum(took for took, _ in us) or 1.0)
    slower = moved / (figures["ceiling_tb_s"] * 1e9) * (1 / A100["bytes"] - 1)
    least = ms + slower if moved else (ms - library) / A100["clocks"] + library / A100["library"]
    most = (ms - library) / A100["bytes"] + library / (A100["bytes"] if moved else A100["library"])
    return {"library_ms": round(library, 3), "ms": ms, "a100_least": round(least, 2), "a100_most": round(most, 2)}
