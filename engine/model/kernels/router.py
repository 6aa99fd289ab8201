"""Which experts a token visits: norm, router logits, top-k and, for several tokens, the list of tokens by expert.

Chosen experts of a token are numbered in the order of their ids, so that sums over them have one order whichever path
took them. Axis letters: T tokens, H hidden size, E experts, C chosen experts per token, P = T * C pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels import launch
from engine.model.kernels.units import release_next, wait_for_previous


class Routes(NamedTuple):
    """Buffers that say who goes where. Pair t * C + c is token t's c-th expert by id."""

    logits: Tensor
    """fp32 [T, E]."""
    ids: Tensor
    """int32 [P]: expert of every pair."""
    weights: Tensor
    """fp32 [P]."""
    pairs: Tensor
    """int32 [P]: pair numbers sorted by expert, then by token."""
    groups: Tensor
    """int32 [3, G]: expert, first position in `pairs`, count (at most 8); count 0 behind the last group."""
    arrived: Tensor
    """int32 [1], zero between launches."""


@triton.jit
def router_kernel(
    x, gain, weight, normed, logits, ids, weights, arrived, eps,
    H: tl.constexpr, HP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BE: tl.constexpr, C: tl.constexpr,
    NORM_TOPK: tl.constexpr, CHOOSE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (ceil(E/BE), T). x fp32 [T, H]; normed fp16 [T, H] is written by the first block of a token. With CHOOSE
    (T = 1) the last block to arrive picks the experts."""
    token = tl.program_id(1)
    release_next(PDL)
    h = tl.arange(0, HP)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    w = tl.load(weight + e[:, None] * H + h[None, :], mask=(e < E)[:, None] & (h < H)[None, :], other=0.0)
    wait_for_previous(PDL)
    value = tl.load(x + token * H + h, mask=h < H, other=0.0)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    tl.store(logits + token * E + e, tl.sum(w.to(tl.float32) * value[None, :], axis=1), mask=e < E)
    if tl.program_id(0) == 0:
        tl.store(normed + token * H + h, value.to(tl.float16), mask=h < H)
    if CHOOSE:
        tl.debug_barrier()
        if tl.atomic_add(arrived, 1, sem="acq_rel") == tl.num_programs(0) - 1:
            tl.store(arrived, 0)
            _choose_for_one(logits, ids, weights, EP, E, C, NORM_TOPK)


@triton.jit
def _choose_for_one(logits, ids, weights, EP: tl.constexpr, E: tl.constexpr, C: tl.constexpr, NORM_TOPK: tl.constexpr):
    """The C largest logits of one token, ties to the lower id, numbered by id."""
    e = tl.arange(0, EP)
    row = tl.load(logits + e, mask=e < E, other=-float("inf"), cache_modifier=".cg")
    column = tl.load(logits + e, mask=e < E, other=-float("inf"), cache_modifier=".cg")
    ahead = (row[None, :] > column[:, None]) | ((row[None, :] == column[:, None]) & (e[None, :] < e[:, None]))
    taken = (tl.sum(ahead.to(tl.int32), axis=1) < C) & (e < E)
    p = tl.exp(column - tl.max(column))
    total = tl.sum(tl.where(taken, p, 0.0)) if NORM_TOPK else tl.sum(p)
    slot = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(ids + slot, e, mask=taken)
    tl.store(weights + slot, p / total, mask=taken)


def router(
    x: Tensor, gain: Tensor, weight: Tensor, normed: Tensor, routes: Routes, *, chosen: int, norm_topk: bool, eps: float
) -> None:
    """normed = fp16(rms_norm(x) * gain), routes.logits = norm(x) weight^T; for one token routes.ids and weights too.

    x fp32 [T, H], weight [E, H] of any float type.
    """
    tokens, hidden = x.shape
    experts = weight.shape[0]
    rows = 2 if tokens == 1 else 8
    router_kernel[(-(-experts // rows), tokens)](
        x, gain, weight, normed, routes.logits, routes.ids, routes.weights, routes.arrived, eps, H=hidden,
        HP=triton.next_power_of_2(hidden), E=experts, EP=triton.next_power_of_2(experts), BE=rows, C=chosen,
        NORM_TOPK=norm_topk,
        CHOOSE=tokens == 1, num_warps=4, **_pdl(x),
    )  # fmt: skip


def _pdl(tensor: Tensor) -> dict[str, Any]:
    chosen = launch.options(tensor)
    chosen.pop("ASM")
    return chosen


def router_reference(
    x: Tensor, gain: Tensor, weight: Tensor, normed: Tensor, routes: Routes, *, chosen: int, norm_topk: bool, eps: float
) -> None:
    value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    routes.logits.copy_(value @ weight.float().t())
    normed.copy_(value)
    if len(x) == 1:
        ids, weights = choose(routes.logits, chosen, norm_topk)
        routes.ids.copy_(ids.view(-1))
        routes.weights.copy_(weights.view(-1))


@triton.jit
def choose_for_many(logits, ids, weights, t, e, here, E: tl.constexpr, C: tl.constexpr, NORM_TOPK: tl.constexpr):
    """The C largest logits of each token `t`, ties to the lower id, where `here` [t, e]; writes their ids and weights.
    Gives which are taken, int32 [t, e], and the number of each pair that is."""
    value = tl.load(logits + t[:, None] * E + e[None, :], mask=here, other=-float("inf"))
    top = tl.max(value, axis=1)
    p = tl.exp(value - tl.where(top == -float("inf"), 0.0, top)[:, None])
    left = value
    taken = tl.zeros(value.shape, tl.int32)
    for _ in tl.static_range(C):
        best = tl.argmax(left, axis=1, tie_break_left=True)
        hit = (e[None, :] == best[:, None]) & here
        taken += hit.to(tl.int32)
        left = tl.where(hit, -float("inf"), left)
    total = tl.sum(tl.where(taken > 0, p, 0.0), axis=1) if NORM_TOPK else tl.sum(p, axis=1)
    pair = t[:, None] * C + tl.cumsum(taken, axis=1) - 1
    tl.store(ids + pair, e[None, :] + t[:, None] * 0, mask=taken > 0)
    tl.store(weights + pair, p / tl.where(total == 0.0, 1.0, total)[:, None], mask=taken > 0)
    return taken, pair


@triton.jit
def route_kernel(
    logits, live, ids, weights, pairs, groups, G,
    TP: tl.constexpr, EP: tl.constexpr, E: tl.constexpr, C: tl.constexpr, GP: tl.constexpr, NORM_TOPK: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """One block for T <= TP tokens, of which the first `live[0]` count."""
    release_next(PDL)
    t = tl.arange(0, TP)
    e = tl.arange(0, EP)
    wait_for_previous(PDL)
    here = (t < tl.load(live))[:, None] & (e < E)[None, :]
    chosen, pair = choose_for_many(logits, ids, weights, t, e, here, E, C, NORM_TOPK)
    count = tl.sum(chosen, axis=0)
    start = tl.cumsum(count, axis=0) - count
    place = start[None, :] + tl.cumsum(chosen, axis=0) - 1
    tl.store(pairs + place, pair, mask=chosen > 0)
    parts = (count + 7) // 8
    base = tl.cumsum(parts, axis=0) - parts
    for j in tl.static_range((TP + 7) // 8):
        here = j < parts
        tl.store(groups + base + j, e, mask=here)
        tl.store(groups + G + base + j, start + 8 * j, mask=here)
        tl.store(groups + 2 * G + base + j, tl.minimum(count - 8 * j, 8), mask=here)
    g = tl.arange(0, GP)
    tl.store(groups + 2 * G + g, 0, mask=(g < G) & (g >= tl.sum(parts)))


def route(routes: Routes, live: Tensor, *, chosen: int, norm_topk: bool) -> None:
    """Fill weights, pairs and groups from logits [T, E], T <= 64; tokens at and after live[0] go nowhere."""
    tokens, experts = routes.logits.shape
    assert tokens <= 64, "more tokens are sorted by `route_many`"
    route_kernel[(1,)](
        routes.logits, live, routes.ids, routes.weights, routes.pairs, routes.groups, routes.groups.shape[1],
        TP=triton.next_power_of_2(tokens),
        EP=triton.next_power_of_2(experts), E=experts, C=chosen,
        GP=triton.next_power_of_2(routes.groups.shape[1]), NORM_TOPK=norm_topk, num_warps=8, **_pdl(live),
    )  # fmt: skip


def route_reference(routes: Routes, live: Tensor, *, chosen: int, norm_topk: bool) -> None:
    """The specification, with sorts."""
    tokens, experts = routes.logits.shape
    ids, weights = choose(routes.logits, chosen, norm_topk)
    routes.ids.copy_(ids.view(-1))
    routes.weights.copy_(weights.view(-1))
    alive = (torch.arange(tokens, device=live.device) < live[0]).repeat_interleave(chosen)
    flat = torch.where(alive, ids.view(-1), experts)
    order = flat.argsort(stable=True)
    routes.pairs.copy_(order.to(torch.int32))
    bounds = torch.searchsorted(flat[order], torch.arange(experts + 1, device=live.device))
    routes.groups.zero_()
    found = [(e, at, min(8, stop - at)) for e, (begin, stop) in enumerate(zip(bounds.tolist(), bounds[1:].tolist(),
    strict=False))
             for at in range(begin, stop, 8)]  # fmt: skip
    routes.groups[:, : len(found)] = torch.tensor(found, dtype=torch.int32, device=live.device).t()


def group_bound(tokens: int, chosen: int, experts: int) -> int:
    """The most groups that T tokens can form."""
    pairs = tokens * chosen
    return min(pairs, experts + pairs // 8)


def choose(logits: Tensor, chosen: int, norm_topk: bool) -> tuple[Tensor, Tensor]:
    """ids int64 and weights fp32, both [T, C], in the order of ids; ties to the lower id."""
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :chosen]
    ids = order.sort(-1).values
    probabilities = logits.softmax(-1)
    weights = probabilities.gather(-1, ids)
    return ids, weights / weights.sum(-1, keepdim=True) if norm_topk else weights
