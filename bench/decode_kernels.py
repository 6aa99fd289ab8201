"""Where a decode step's time goes: every kernel alone, over all layers' weights, in a captured graph.

Knows the parts of the few-token and of the wide forward. Rotating through the layers keeps weights out of the cache,
as in a step.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.model.cuda.decode_forward import FEW, DecodeForward
from engine.model.cuda.wide_forward import WideForward
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.routing.router import Pairs

Works = dict[str, tuple[Callable[[], None], float]]
"""By kernel: its calls of a step, for all layers, and the bytes that one call must read."""


def kernel_table(
    few: DecodeForward, wide: WideForward, batches: Sequence[int], position: int, ceiling: float
) -> list[dict[str, Any]]:
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
            if batch <= FEW:
                few.layers(step)
                works = _works(few, step, position)
            else:
                works = _wide_works(few, wide, step, position)
            for name, (work, moved) in works.items():
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


def _works(few: DecodeForward, step: Step, position: int) -> Works:
    """What each kernel of the few-token forward is called with."""
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
            pairs = Pairs(routes.ids, routes.weights, routes.pairs, routes.groups, 8)
            op.strips_product(normed, pairs, layer.gate_up, layer.down, few.inner, parts, chosen=model.chosen)

    def attend() -> None:
        for i, layer in layers:
            op.attend_one(qkv, layer.head_norm, few.turns, step, few.caches[i], few.scratch, query, mixed)

    works: Works = {
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
        "head": (lambda: few.logits(few.x, few.everyone[:batch], logits), model.embedding.nbytes),
    }
    if batch == 1:
        works["attention"] = (attend, cache)
        del works["rope, cache"]  # part of it
    else:
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


def _wide_works(few: DecodeForward, wide: WideForward, step: Step, position: int) -> Works:
    """What each kernel of the wide forward is called with; the residual stream is random, so that experts differ."""
    model, op, batch = few.model, wide._operations, step.tokens.shape[0]
    shape, one, layers = model.shape, model.layers[0], list(enumerate(model.layers))
    assert one.router is not None, "the table is for mixtures of experts"
    x = torch.randn(batch, shape.hidden, device=few.x.device)
    normed, mixed = x.half(), torch.randn(batch, one.output.columns, device=x.device).half()
    query, router = torch.empty_like(mixed), one.router
    qkv, output = wide.parts_of(normed, one.qkv), wide.parts_of(mixed, one.output)
    logits = torch.empty(batch, model.experts, device=x.device)
    op.router_logits(x, one.post_gain, router, logits, eps=shape.eps)
    pairs = wide.pairs_of(logits, step.live)
    parts = torch.empty(len(pairs.ids), shape.hidden, device=x.device)
    distinct = len(set(pairs.ids.tolist()))
    cache = batch * position * 2 * shape.kv_heads * shape.head_dim * 2
    scores, everyone = torch.empty(batch, model.embedding.shape[0], device=x.device), step.slots

    def combine(layer: Any, parts: torch.Tensor, chosen: int) -> None:
        op.combine(parts, x, layer.post_gain, normed, step.live, chosen=chosen, eps=shape.eps)

    def all_layers(work: Callable[[int, Any], object]) -> Callable[[], None]:
        return lambda: [work(index, layer) for index, layer in layers] and None

    return {
        "qkv": (all_layers(lambda _, layer: op.product_parts(normed, layer.qkv, qkv)), one.qkv.nbytes),
        "rope, cache": (
            all_layers(
                lambda i, layer: few.operations.rope(qkv, layer.head_norm, few.turns, step, query, few.caches[i])
            ),
            qkv.nbytes,
        ),
        "attention": (
            all_layers(
                lambda i, _: few.operations.attention(query, few.caches[i], step, few.scratch, mixed, plane=True)
            ),
            cache,
        ),
        "output": (all_layers(lambda _, layer: op.product_parts(mixed, layer.output, output)), one.output.nbytes),
        "residual, norm": (
            all_layers(lambda _, layer: combine(layer, output.view(-1, shape.hidden), output.shape[1])), output.nbytes
        ),
        "router": (
            all_layers(lambda _, layer: op.router_logits(x, layer.post_gain, layer.router, logits, eps=shape.eps)),
            router.numel() * router.element_size(),
        ),
        "choice": (all_layers(lambda *_: wide.pairs_of(logits, step.live)), 0),
        "experts": (
            all_layers(lambda _, layer: wide.experts(normed, pairs, layer, parts)),
            (one.gate_up.nbytes + one.down.nbytes) / model.experts * distinct,
        ),
        "combine, norm": (all_layers(lambda _, layer: combine(layer, parts, model.chosen)), parts.nbytes),
        "head": (lambda: few.logits(x, everyone, scores), model.embedding.nbytes),
    }  # fmt: skip


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
