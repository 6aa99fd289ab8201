"""Which experts a token visits: norm, router logits, top-k and, for several tokens, the list of tokens by expert.

Chosen experts of a token are numbered in the order of their ids, so that sums over them have one order whichever path
took them. Axis letters: T tokens, H hidden size, E experts, C chosen experts per token, P = T * C pairs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous
from engine.model.kernels.routing.choice import choose


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


class Pairs(NamedTuple):
    """Who goes where in a wide step. Pair t * C + c is token t's c-th expert by id."""

    ids: Tensor
    """int32 [P]: expert of every pair; -1 where the token is padding."""
    weights: Tensor
    """fp32 [P]."""
    order: Tensor
    """int32 [P]: pair numbers sorted by expert, then by token; undefined behind the last."""
    groups: Tensor
    """int32 [3, G]: expert, first position in `order`, count (at most `size`, or 0)."""
    size: int
    """An expert whose pairs begin at s has the groups from s // size + expert on, so that no block needs to know how
    many groups the experts before it fill."""
    progress: Tensor | None = None
    """int32 [1 + G], set to zero by `sort_pairs`: what `products.stream` counts with."""


@triton.jit
def router_kernel(
    x, gain, weight, normed, logits, eps,
    H: tl.constexpr, HP: tl.constexpr, E: tl.constexpr, BE: tl.constexpr, TB: tl.constexpr, STORE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (ceil(E/BE), T/TB). x fp32 [T, H]; with STORE normed fp16 [T, H] is written by a token's first block."""
    release_next(PDL)
    h = tl.arange(0, HP)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    w = tl.load(weight + e[:, None] * H + h[None, :], mask=(e < E)[:, None] & (h < H)[None, :], other=0.0)
    wait_for_previous(PDL)
    first = tl.program_id(1) * TB
    ahead = tl.load(x + first * H + h, mask=h < H, other=0.0)
    for i in tl.range(0, TB, num_stages=1):
        token = first + i
        value = ahead
        ahead = tl.load(x + (first + tl.minimum(i + 1, TB - 1)) * H + h, mask=h < H, other=0.0)
        inverse = 1.0 / tl.sqrt(tl.sum(value * value) / H + eps)
        value = value * g
        score = tl.sum(w.to(tl.float32) * value[None, :], axis=1) * inverse
        tl.store(logits + token * E + e, score, mask=e < E)
        if STORE:  # noqa: SIM102 - a constant, and a value of the device
            if tl.program_id(0) == 0:
                tl.store(normed + token * H + h, (value * inverse).to(tl.float16), mask=h < H)


def router(x: Tensor, gain: Tensor, weight: Tensor, normed: Tensor, logits: Tensor, *, eps: float) -> None:
    """normed fp16 = rms_norm(x) * gain, logits fp32 [T, E] = norm(x) weight^T; x fp32 [T, H], weight of any float
    type."""
    _router(x, gain, weight, normed, logits, eps)


def router_logits(x: Tensor, gain: Tensor, weight: Tensor, logits: Tensor, *, eps: float) -> None:
    """logits fp32 [T, E] = rms_norm(x) * gain weight^T, from the residual x fp32 [T, H] without rounding it."""
    _router(x, gain, weight, None, logits, eps)


def router_logits_reference(x: Tensor, gain: Tensor, weight: Tensor, logits: Tensor, *, eps: float) -> None:
    value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    logits.copy_(value @ weight.float().t())


def _router(x: Tensor, gain: Tensor, weight: Tensor, normed: Tensor | None, logits: Tensor, eps: float) -> None:
    tokens, hidden = x.shape
    experts = weight.shape[0]
    rows = 2 if tokens == 1 else 8
    together = launch.chunk(tokens, 1 << max(0, min(3, tokens.bit_length() - 5)))
    router_kernel[(-(-experts // rows), tokens // together)](
        x, gain, weight, x if normed is None else normed, logits, eps, H=hidden, HP=triton.next_power_of_2(hidden),
        E=experts, BE=rows, TB=together, STORE=normed is not None,
        num_warps=8 if tokens == 1 else 4,
        **launch.dependent(x, "router_one" if tokens == 1 else "router"),
    )  # fmt: skip


def router_reference(x: Tensor, gain: Tensor, weight: Tensor, normed: Tensor, logits: Tensor, *, eps: float) -> None:
    value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    logits.copy_(value @ weight.float().t())
    normed.copy_(value)


@triton.jit
def choose_for_many(
    logits, ids, weights, t, e, here, E: tl.constexpr, C: tl.constexpr, LD: tl.constexpr, NORM_TOPK: tl.constexpr,
    SHARED: tl.constexpr = 0,
):  # fmt: skip
    """The C largest logits of each token `t`, ties to the lower id, where `here` [t, e]; writes their ids and weights.
    Rows of logits are LD apart. Gives which are taken, int32 [t, e], and the number of each pair that is. With SHARED
    one more expert, of number E, is each token's last, with the sigmoid of its logit."""
    value = tl.load(logits + t[:, None] * LD + e[None, :], mask=here, other=-float("inf"))
    top = tl.max(value, axis=1)
    p = tl.exp(value - tl.where(top == -float("inf"), 0.0, top)[:, None])
    bits = (value + 0.0).to(tl.int32, bitcast=True)
    left = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers of the same order: one instruction finds a warp's largest
    taken = tl.zeros(value.shape, tl.int32)
    for _ in tl.static_range(C):
        first = tl.min(tl.where(left == tl.max(left, axis=1)[:, None], e[None, :], E), axis=1)
        hit = (e[None, :] == first[:, None]) & here
        taken += hit.to(tl.int32)
        left = tl.where(hit, -(2**31), left)
    total = tl.sum(tl.where(taken > 0, p, 0.0), axis=1) if NORM_TOPK else tl.sum(p, axis=1)
    pair = t[:, None] * (C + SHARED) + tl.cumsum(taken, axis=1) - 1
    tl.store(ids + pair, e[None, :] + t[:, None] * 0, mask=taken > 0)
    tl.store(weights + pair, p / tl.where(total == 0.0, 1.0, total)[:, None], mask=taken > 0)
    if SHARED:
        alive = tl.max(here.to(tl.int32), axis=1) > 0
        gate = tl.load(logits + t * LD + E, mask=alive, other=0.0)
        tl.store(ids + t * (C + 1) + C, t * 0 + E, mask=alive)
        tl.store(weights + t * (C + 1) + C, tl.sigmoid(gate), mask=alive)
    return taken, pair


@triton.jit
def choose_each_kernel(
    logits, live, ids, weights, counts, EP: tl.constexpr, E: tl.constexpr, C: tl.constexpr, CP: tl.constexpr,
    NORM_TOPK: tl.constexpr, SHARED: tl.constexpr, COUNT: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T): ids and weights of one token; ids -1 at and after live[0]. With COUNT counts [P], see `choose_each`."""
    token = tl.program_id(0)
    slot = tl.arange(0, CP)
    pair = token * (C + SHARED) + slot
    wait_for_previous(PDL)
    release_next(PDL)
    alive = token < tl.load(live)
    if alive:
        e = tl.arange(0, EP)
        choose_for_many(
            logits, ids, weights, token + tl.arange(0, 1), e, (e < E)[None, :], E, C, E + SHARED, NORM_TOPK, SHARED
        )  # fmt: skip
    else:
        tl.store(ids + pair, slot * 0 - 1, mask=slot < C + SHARED)
    if COUNT:
        count = slot * 0 + alive.to(tl.int32)
        if SHARED:
            count = tl.where(slot == C, tl.where(token == 0, tl.load(live), 0), count)
        tl.store(counts + pair, count, mask=slot < C + SHARED)


def choose_each(
    logits: Tensor, live: Tensor, ids: Tensor, weights: Tensor, counts: Tensor | None = None, *, chosen: int,
    norm_topk: bool, shared: bool = False,
) -> None:  # fmt: skip
    """ids int32 [P] and weights fp32 [P] of the first live[0] tokens of logits fp32 [T, E]; ids -1 of the others.
    counts int32 [P]: how many tokens a pair's product is for, one or none; of the expert that is `shared` (see
    `choice.choose`) the first token's is for all."""
    tokens, experts = logits.shape[0], logits.shape[1] - shared
    choose_each_kernel[(tokens,)](
        logits, live, ids, weights, ids if counts is None else counts, EP=triton.next_power_of_2(experts), E=experts,
        C=chosen - shared, CP=triton.next_power_of_2(chosen), NORM_TOPK=norm_topk, SHARED=int(shared),
        COUNT=counts is not None, num_warps=1, **launch.dependent(logits),
    )  # fmt: skip


def choose_each_reference(
    logits: Tensor, live: Tensor, ids: Tensor, weights: Tensor, counts: Tensor | None = None, *, chosen: int,
    norm_topk: bool, shared: bool = False,
) -> None:  # fmt: skip
    found, shares = choose(logits, chosen, norm_topk, shared)
    alive = torch.arange(len(logits), device=live.device) < live[0]
    if counts is not None:
        table = alive[:, None].int().repeat(1, chosen)
        if shared:
            table[:, -1] = 0
            table[0, -1] = live[0]
        counts.copy_(table.view(-1))
    ids.copy_(torch.where(alive.unsqueeze(-1), found, -1).view(-1))
    weights.copy_(shares.view(-1))


@triton.jit
def sort_kernel(
    ids, order, groups, progress, P, G,
    PP: tl.constexpr, SIZE: tl.constexpr, JP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (E): each block places the pairs of its expert, and says in the groups that are the expert's where they
    are; the last expert's are all that remain."""
    wait_for_previous(PDL)
    release_next(PDL)
    mine = tl.program_id(0)
    p = tl.arange(0, PP)
    expert = tl.load(ids + p, mask=p < P, other=-1)
    hit = (expert == mine).to(tl.int32)
    start = tl.sum(((expert >= 0) & (expert < mine)).to(tl.int32), axis=0)
    count = tl.sum(hit, axis=0)
    tl.store(order + start + tl.cumsum(hit, axis=0) - 1, p, mask=hit > 0)
    base = start // SIZE + mine
    j = tl.arange(0, JP)
    end = tl.where(mine == tl.num_programs(0) - 1, G, (start + count) // SIZE + mine + 1)
    here = j < end - base
    tl.store(groups + base + j, mine + j * 0, mask=here)
    tl.store(groups + G + base + j, start + SIZE * j, mask=here)
    tl.store(groups + 2 * G + base + j, tl.maximum(tl.minimum(count - SIZE * j, SIZE), 0), mask=here)
    tl.store(progress + 1 + base + j, 0, mask=here)
    if mine == 0:
        tl.store(progress, 0)


def sort_pairs(pairs: Pairs, *, experts: int) -> None:
    """Fill order and groups from ids, T <= 256; progress becomes zero."""
    count = len(pairs.ids)
    sort_kernel[(experts,)](
        pairs.ids, pairs.order, pairs.groups, pairs.progress, count, pairs.groups.shape[1],
        PP=triton.next_power_of_2(count), SIZE=pairs.size, JP=triton.next_power_of_2(count // pairs.size + 2),
        num_warps=4, **launch.dependent(pairs.ids),
    )  # fmt: skip


def sort_pairs_reference(pairs: Pairs, *, experts: int) -> None:
    flat = torch.where(pairs.ids < 0, experts, pairs.ids)
    order = flat.argsort(stable=True)
    pairs.order.copy_(order)
    bounds = torch.searchsorted(flat[order], torch.arange(experts + 1, device=flat.device)).tolist()
    found = []
    for expert, (begin, end) in enumerate(pairwise(bounds)):
        for j in range(end // pairs.size - begin // pairs.size + 1):
            at = begin + j * pairs.size
            found.append((expert, at, max(0, min(pairs.size, end - at))))
    pairs.groups.zero_()
    assert pairs.progress is not None
    pairs.progress.zero_()
    pairs.groups[:, : len(found)] = torch.tensor(found, dtype=torch.int32, device=flat.device).t()


def make_pairs(tokens: int, chosen: int, experts: int, size: int, device: torch.device) -> Pairs:
    """Empty buffers for a step of T tokens in groups of `size`."""
    count, integer = tokens * chosen, torch.int32
    bound = count // size + experts
    return Pairs(
        torch.empty(count, dtype=integer, device=device), torch.empty(count, device=device),
        torch.empty(count, dtype=integer, device=device), torch.empty(3, bound, dtype=integer, device=device), size,
        torch.empty(1 + bound, dtype=integer, device=device),
    )  # fmt: skip


def lone_pairs(tokens: int, chosen: int, device: torch.device) -> Pairs:
    """For up to 8 tokens: every pair a group by itself, but those of the expert that all share, which are the group of
    the first token's. `choose_each` fills ids, which are the groups' experts, and counts."""
    pairs = torch.arange(tokens * chosen, dtype=torch.int32, device=device).view(tokens, chosen)
    order = torch.cat((pairs[:, :-1].flatten(), pairs[:, -1]))
    groups = torch.stack((order, order.argsort().int(), order))
    return Pairs(groups[0], torch.ones(len(order), device=device), order, groups, 8)


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
    chosen, pair = choose_for_many(logits, ids, weights, t, e, here, E, C, E, NORM_TOPK)
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
    """Fill weights, pairs and groups from logits [T, E], T <= 8; tokens at and after live[0] go nowhere."""
    tokens, experts = routes.logits.shape
    route_kernel[(1,)](
        routes.logits, live, routes.ids, routes.weights, routes.pairs, routes.groups, routes.groups.shape[1],
        TP=triton.next_power_of_2(tokens),
        EP=triton.next_power_of_2(experts), E=experts, C=chosen,
        GP=triton.next_power_of_2(routes.groups.shape[1]), NORM_TOPK=norm_topk, num_warps=2 if tokens <= 2 else 4,
        **launch.dependent(live),
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
