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

Works = dict[str, tuple[Callable[[], object], float]]
"""By kernel: its calls of a step, for all layers, and the bytes that one call must read."""


def kernel_table(
    few: DecodeForward, wide: WideForward, batches: Sequence[int], position: int, ceiling: float
) -> list[dict[str, Any]]:
    """One row per batch and kernel: microseconds a layer (the head: a step), bytes, share of the ceiling in TB/s. None
    on a CPU, and of models whose layers differ in kind."""
    if not few.x.is_cuda or few.model.shape.delta_net is not None:
        return []
    rows = []
    integers = {"dtype": torch.int32, "device": few.x.device}
    for batch in batches:
        tokens = torch.randint(0, few.model.embedding.shape[0], (batch,), **integers)
        positions, live = torch.full((batch,), position, **integers), torch.tensor([batch], **integers)
        step = Step(tokens, torch.arange(batch, **integers), positions, live)
        with torch.inference_mode():
            works = _few_works(few, step, position) if batch <= FEW else _wide_works(few, wide, step, position)
            for name, (work, moved) in works.items():
                us = timed(work) / (1 if name == "head" else len(few.model.layers))
                share = round(moved / (us * 1e-6) / (ceiling * 1e12), 3)
                row = {"batch": batch, "kernel": name, "us": round(us, 2), "bytes": int(moved), "ceiling_share": share}
                rows.append(row)
    return rows


def _few_works(few: DecodeForward, step: Step, position: int) -> Works:
    """What each kernel of the few-token forward is called with."""
    few.layers(step)
    model, op, batch = few.model, few.operations, step.tokens.shape[0]
    shape, one, each = model.shape, model.layers[0], _each_layer(model.layers)
    lone = batch <= few.alone
    x, half, normed, qkv = (part[:batch].clone() for part in (few.x, few.half, few.normed, few.qkv))
    query, mixed, parts = few.query[:batch], few.mixed[:batch], few.parts[: batch * model.chosen]
    routes = few._routes(batch)
    choice = {"chosen": model.chosen, "norm_topk": shape.norm_topk}
    distinct = model.chosen * batch if lone else len(set(routes.groups[0][routes.groups[2] > 0].tolist()))
    logits = torch.empty(batch, model.embedding.shape[0], device=x.device)
    gains: dict[str, Any] = {"gain": one.input_gain, "eps": shape.eps} if lone else {}
    source = half if lone else normed

    def mixture(_: int, layer: Any) -> None:
        if lone:
            op.experts_one(normed, routes.logits, layer.gate_up, layer.down, few.inner, x, half, **choice)
        else:
            pairs = Pairs(routes.ids, routes.weights, routes.pairs, routes.groups, 8)
            op.strips_product(normed, pairs, layer.gate_up, layer.down, few.inner, parts, chosen=model.chosen)

    def route(_: int, layer: Any) -> None:
        op.router(x, layer.post_gain, layer.router, normed, routes.logits, eps=shape.eps)

    def attend(i: int, layer: Any) -> None:
        op.attend_few(qkv, layer.head_norm, few.turns, step, few.caches[i], few.parts_of_few, query, mixed)

    def combine(_: int, layer: Any) -> None:
        op.combine(parts, x, half, layer.input_gain, normed, step.live, chosen=model.chosen, eps=shape.eps)

    works: Works = {
        "norm, qkv": (each(lambda _, layer: op.linear(source, layer.qkv, qkv, **gains)), one.qkv.nbytes),
        "attention": (each(attend), _cache_bytes(shape, batch, position)),  # rope and cache are part of it
        "output, residual": (each(lambda _, layer: op.linear(mixed, layer.output, x, half=half)), one.output.nbytes),
        "norm, router": (each(route), _router_bytes(one)),
        "experts": (each(mixture), _expert_bytes(model, distinct)),
        "head": (lambda: few.logits(few.x, few.everyone[:batch], logits), model.embedding.nbytes),
        "route": (each(lambda *_: op.route(routes, step.live, **choice)), 0),
        "combine": (each(combine), parts.nbytes),
    }  # fmt: skip
    return {name: work for name, work in works.items() if not lone or name not in ("route", "combine")}


def _wide_works(few: DecodeForward, wide: WideForward, step: Step, position: int) -> Works:
    """What each kernel of the wide forward is called with; the residual stream is random, so that experts differ."""
    model, op, batch = few.model, wide._operations, step.tokens.shape[0]
    shape, one, each = model.shape, model.layers[0], _each_layer(model.layers)
    x = torch.randn(batch, shape.hidden, device=few.x.device)
    normed, mixed = x.half(), torch.randn(batch, one.output.columns, device=x.device).half()
    query = torch.empty_like(mixed)
    qkv, output = wide.parts_of(normed, one.qkv), wide.parts_of(mixed, one.output)
    logits = torch.empty(batch, model.experts, device=x.device)
    op.router_logits(x, one.post_gain, one.router, logits, eps=shape.eps)
    pairs = wide.pairs_of(logits, step.live)
    parts = torch.empty(len(pairs.ids), shape.hidden, device=x.device)
    scores = torch.empty(batch, model.embedding.shape[0], device=x.device)

    progress = torch.zeros(len(model.layers), 1 + pairs.groups.shape[1], dtype=torch.int32, device=x.device)

    def mixture(index: int, layer: Any) -> None:
        if index == 0:
            progress.zero_()
        wide.experts(normed, pairs._replace(progress=progress[index]), layer, parts)

    def combine(layer: Any, parts: torch.Tensor, chosen: int) -> None:
        op.combine(parts, x, layer.post_gain, normed, step.live, chosen=chosen, eps=shape.eps)

    def rope(i: int, layer: Any) -> None:
        few.operations.rope(qkv, layer.head_norm, few.turns, step, query, few.caches[i])

    def attend(i: int, _: Any) -> None:
        few.operations.attention(query, few.caches[i], step, few.scratch, mixed, plane=True)

    def route(_: int, layer: Any) -> None:
        op.router_logits(x, layer.post_gain, layer.router, logits, eps=shape.eps)

    return {
        "qkv": (each(lambda _, layer: op.product_parts(normed, layer.qkv, qkv)), one.qkv.nbytes),
        "rope, cache": (each(rope), qkv.nbytes),
        "attention": (each(attend), _cache_bytes(shape, batch, position)),
        "output": (each(lambda _, layer: op.product_parts(mixed, layer.output, output)), one.output.nbytes),
        "residual, norm": (
            each(lambda _, layer: combine(layer, output.view(-1, shape.hidden), output.shape[1])), output.nbytes
        ),
        "router": (each(route), _router_bytes(one)),
        "choice": (each(lambda *_: wide.pairs_of(logits, step.live)), 0),
        "experts": (
            each(mixture),
            _expert_bytes(model, len(set(pairs.ids.tolist()))),
        ),
        "combine, norm": (each(lambda _, layer: combine(layer, parts, model.chosen)), parts.nbytes),
        "head": (lambda: few.logits(x, step.slots, scores), model.embedding.nbytes),
    }  # fmt: skip


def _each_layer(layers: Sequence[Any]) -> Callable[[Callable[[int, Any], object]], Callable[[], object]]:
    """Makes of a kernel's call for one layer, by number and weights, its calls for all of them."""
    return lambda work: lambda: [work(index, layer) for index, layer in enumerate(layers)]


def _cache_bytes(shape: Any, batch: int, position: int) -> int:
    return batch * position * 2 * shape.kv_heads * shape.head_dim * 2  # keys and values, two bytes each


def _router_bytes(layer: Any) -> int:
    assert layer.router is not None, "the table is for mixtures of experts"
    return layer.router.nbytes


def _expert_bytes(model: Any, distinct: int) -> float:
    return (model.layers[0].gate_up.nbytes + model.layers[0].down.nbytes) / model.experts * distinct


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
