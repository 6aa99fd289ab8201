"""Where a decode step's time goes: every kernel alone, over all layers' weights, in a captured graph.

Knows the few-token forward's parts. Rotating through the layers keeps weights out of the cache, as in a step.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.model.fast_forward import FastForward
from engine.model.kernels.attention import Step


def kernel_table(few: FastForward, batches: Sequence[int], position: int, ceiling: float) -> list[dict[str, Any]]:
    """One row per batch and kernel: microseconds a layer (the head: a step), bytes, share of the ceiling."""
    if not few.x.is_cuda:
        return []
    rows = []
    for batch in batches:
        integers = {"dtype": torch.int32, "device": few.x.device}
        tokens = torch.randint(0, few.model.embedding.shape[0], (batch,), **integers)
        step = Step(
            tokens,
            torch.arange(batch, **integers),
            torch.full((batch,), position, **integers),
            torch.tensor([batch], **integers),
        )
        with torch.inference_mode():
            few.layers(step)
            for name, (work, moved) in _works(few, step, position).items():
                count = 1 if name == "head" else len(few.model.layers)
                us = timed(work) / count
                share = moved / (us * 1e-6) / (ceiling * 1e12)
                rows.append(
                    {
                        "batch": batch,
                        "kernel": name,
                        "us": round(us, 2),
                        "bytes": int(moved),
                        "ceiling_share": round(share, 3),
                    }
                )
    return rows


def _works(few: FastForward, step: Step, position: int) -> dict[str, tuple[Callable[[], None], float]]:
    """What each kernel is called with in a step, for all layers, and the bytes one call must read."""
    model, op, batch = few.model, few.operations, step.tokens.shape[0]
    layers, shape = list(enumerate(model.layers)), model.shape
    x, half, normed, qkv = (part[:batch].clone() for part in (few.x, few.half, few.normed, few.qkv))
    query, mixed, parts = few.query[:batch], few.mixed[:batch], few.parts[: batch * model.chosen]
    routes, one = few._routes(batch), model.layers[0]
    choice = {"chosen": model.chosen, "norm_topk": shape.norm_topk}
    distinct = model.chosen if batch == 1 else len(set(routes.groups[0][routes.groups[2] > 0].tolist()))
    experts = (one.gate_up.nbytes + one.down.nbytes) / model.experts * distinct
    cache = batch * position * 2 * shape.kv_heads * shape.head_dim * 2
    logits = torch.empty(batch, model.embedding.shape[0], device=x.device)
    gains: dict[str, Any] = {"gain": one.input_gain, "eps": shape.eps} if batch == 1 else {}
    source = half if batch == 1 else normed
    router = one.router
    assert router is not None, "the table is for mixtures of experts"

    def mixture(layer: Any) -> None:
        if batch == 1:
            op.experts_one(normed, routes, layer.gate_up, layer.down, few.inner, x, half, chosen=model.chosen)
        else:
            op.experts_many(normed, routes, layer.gate_up, layer.down, few.inner, parts, chosen=model.chosen)

    works: dict[str, tuple[Callable[[], None], float]] = {
        "norm, qkv": (
            lambda: [op.linear(source, layer.qkv, qkv, **gains) for _, layer in layers] and None,
            one.qkv.nbytes,
        ),
        "rope, cache": (
            lambda: (
                [op.rope(qkv, layer.head_norm, few.turns, step, query, few.caches[i]) for i, layer in layers] and None
            ),
            0,
        ),
        "attention": (
            lambda: [op.attention(query, few.caches[i], step, few.scratch, mixed) for i, _ in layers] and None,
            cache,
        ),
        "output, residual": (
            lambda: [op.linear(mixed, layer.output, x, half=half) for _, layer in layers] and None,
            one.output.nbytes,
        ),
        "norm, router": (
            lambda: (
                [
                    op.router(x, layer.post_gain, layer.router, normed, routes, eps=shape.eps, **choice)
                    for _, layer in layers
                ]
                and None
            ),
            router.numel() * router.element_size(),
        ),
        "experts": (lambda: [mixture(layer) for _, layer in layers] and None, experts),
        "head": (lambda: few.logits(few.everyone[:batch], logits), model.embedding.nbytes),
    }
    if batch > 1:
        works["route"] = (lambda: [op.route(routes, step.live, **choice) for _ in layers] and None, 0)
        works["combine"] = (
            lambda: (
                [
                    op.combine(parts, x, half, layer.input_gain, normed, step.live, chosen=model.chosen, eps=shape.eps)
                    for _, layer in layers
                ]
                and None
            ),
            parts.nbytes,
        )
    return works


def timed(work: Callable[[], None]) -> float:
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
