"""Where a decode step's time goes: every operation of a forward alone, with all layers' weights, in a captured graph.

A step is run once and what its operations were called with is kept; the calls of one kind are then timed together.
Rotating through the layers keeps weights out of the cache, as in a step. Knows nothing of any model's layers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.model.cuda.decode_forward import FEW, DecodeForward
from engine.model.cuda.kv_cache import position_bytes
from engine.model.cuda.wide_forward import WideForward
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.delta.chunks import Chunks
from engine.model.kernels.delta.memory import DeltaMemory, Rates, Rows
from engine.model.kernels.delta.spans import Spans
from engine.model.kernels.device.fragments import Beside, FragmentWeight
from engine.model.kernels.routing.router import Pairs


class Call(NamedTuple):
    """One call of an operation."""

    work: Callable[..., None]
    given: tuple[Any, ...]
    named: dict[str, Any]


def kernel_table(
    few: DecodeForward, wide: WideForward, batches: Sequence[int], position: int, ceiling: float
) -> list[dict[str, Any]]:
    """One row per batch and operation, named with its weight's sizes: microseconds a call, calls of a step, bytes that
    one call must read (of a state, and write), share of the ceiling in TB/s. None on a CPU."""
    if not few.x.is_cuda:
        return []
    rows = []
    for batch in batches:
        with torch.inference_mode():
            for name, calls in calls_of(few, wide, batch, position).items():
                us = timed(together(calls)) / len(calls)
                moved = statistics.mean(_bytes(call, few, batch, position) for call in calls)
                share = round(moved / (us * 1e-6) / (ceiling * 1e12), 3)
                row = {"batch": batch, "kernel": name, "us": round(us, 2), "calls": len(calls), "bytes": int(moved)}
                rows.append({**row, "ceiling_share": share})
    return rows


def calls_of(few: DecodeForward, wide: WideForward, batch: int, position: int) -> dict[str, list[Call]]:
    """By operation and size, its calls in a step of as many rows, each with a random token at `position`."""
    made: dict[str, list[Call]] = {}
    before, step = (few.operations, wide._operations), _step(few, batch, position)
    few.operations, wide._operations = (_noted(operations, made) for operations in before)
    try:
        if batch <= FEW:
            few.layers(step)
        x = few.x[:batch] if batch <= FEW else wide.layers(step)
        few.logits(x, step.slots, torch.empty(batch, few.model.embedding.shape[0], device=x.device))
    finally:
        few.operations, wide._operations = before
    return made


def together(calls: Sequence[Call]) -> Callable[[], None]:
    """The calls one after another. Counters begin at zero: all of them are set in one launch, not each by its own."""
    held = [value.progress for call in calls for value in call.given if isinstance(value, Pairs)]
    counters = [progress for progress in held if progress is not None]
    most = max((len(progress) for progress in counters), default=0)
    flat = torch.zeros(len(counters), -(-most // 4) * 4, dtype=torch.int32)  # each as aligned as in a step
    flat = flat.to(counters[0].device) if counters else flat
    parts = iter([row[: len(progress)] for row, progress in zip(flat, counters, strict=True)])

    def own(value: Any) -> Any:
        counted = isinstance(value, Pairs) and value.progress is not None
        return value._replace(progress=next(parts)) if counted else value

    works = [partial(call.work, *(own(value) for value in call.given), **call.named) for call in calls]

    def work() -> None:
        if counters:
            flat.zero_()
        for one in works:
            one()

    return work


def _step(few: DecodeForward, batch: int, position: int) -> Step:
    integers: dict[str, Any] = {"dtype": torch.int32, "device": few.x.device}
    tokens = torch.randint(0, few.model.embedding.shape[0], (batch,), **integers)
    slots, positions = torch.arange(batch, **integers), torch.full((batch,), position, **integers)
    spans = None
    if few.model.shape.delta_net is not None:
        spans = Spans(Rows(slots, torch.ones_like(slots), slots, positions), Chunks(slots, slots), slots)
    return Step(tokens, slots, positions, torch.tensor([batch], **integers), spans)


def _noted(operations: Any, made: dict[str, list[Call]]) -> Any:
    """The same operations; what they are called with is put into `made`."""

    def note(work: Callable[..., None], label: str, *given: Any, **named: Any) -> None:
        sizes = [f" {w.rows} x {w.columns}" for w in given if isinstance(w, FragmentWeight | Beside)]
        made.setdefault(label + ",".join(sizes), []).append(Call(work, given, named))
        work(*given, **named)

    names = [field.name for field in fields(operations)]
    works = {name: getattr(operations, name) for name in names}
    return replace(operations, **{name: partial(note, work, name) for name, work in works.items()})


def _bytes(call: Call, few: DecodeForward, batch: int, position: int) -> float:
    """What the call must read once: weights, those of experts that its tokens chose, keys, values and states."""
    model, moved = few.model, 0.0
    routers = {id(weight) for layer in model.layers for weight in (layer.router, model.head)}
    pairs = next((value for value in call.given if isinstance(value, Pairs)), None)
    visited = batch * model.chosen if pairs is None else len(set(pairs.ids.tolist()) - {-1})
    for value in call.given:
        if isinstance(value, FragmentWeight | Beside):
            experts = isinstance(value, FragmentWeight) and value.words.shape[0] == model.experts > 1
            moved += value.nbytes / model.experts * visited if experts else value.nbytes
        elif isinstance(value, Cache):
            moved += batch * position * position_bytes(model.shape, value.keys.dtype) // model.shape.caching
        elif isinstance(value, DeltaMemory):
            moved += 2 * batch * value.state[0].nbytes
        elif isinstance(value, Rates):
            moved += value.weight.nbytes
        elif isinstance(value, Tensor) and id(value) in routers:
            moved += value.nbytes
    return moved


def timed(work: Callable[[], object]) -> float:
    """Microseconds of one graph replay of `work`, the median of several runs of several."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            work()
        times = []
        for _ in range(7):
            first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record(stream)
            for _ in range(5):
                graph.replay()
            second.record(stream)
            stream.synchronize()
            times.append(first.elapsed_time(second) / 5 * 1e3)
    return statistics.median(times)
