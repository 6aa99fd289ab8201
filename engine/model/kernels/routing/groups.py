"""Tokens by expert, for many tokens: who is chosen, pairs sorted by expert, and stretches of them for one block each.

Three launches instead of a dozen library sorts: tokens are cut into blocks, each block counts its experts, a block for
every few experts adds up their counts, and every block of tokens writes its pairs where they belong, and some of the
groups. No synchronisation.
Axis letters: T tokens, E experts, C chosen experts per token, P = T * C pairs, B blocks of tokens, G groups.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous
from engine.model.kernels.routing.choice import choose
from engine.model.kernels.routing.router import choose_for_many

TOKENS = 16
"""Tokens of one block while they are sorted; half as many where experts are many and tokens are not."""
EXPERTS = 8
"""Experts of one block while counts are added up."""


class Groups(NamedTuple):
    """Tokens by expert, in stretches of at most `size` sorted pairs. int32 [G] each; count 0 is idle."""

    expert: Tensor
    start: Tensor
    count: Tensor
    size: int


class Sorted(NamedTuple):
    """What `group` finds. Pair t * C + c is token t's c-th expert by id."""

    weights: Tensor
    """fp32 [P], by pair."""
    pairs: Tensor
    """int32 [P]: pair numbers sorted by expert, then by token; undefined behind the last."""
    groups: Groups


def group_size(pairs: int, experts: int) -> int:
    """Tokens of one group: about what an expert gets, between 16 and 128."""
    return min(128, max(16, 1 << max(0, pairs // experts - 1).bit_length()))


@triton.jit(do_not_specialize=["T"])
def choose_kernel(
    logits, live, ids, weights, counts, T,
    TB: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, LD: tl.constexpr, NORM_TOPK: tl.constexpr,
    SHARED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B): ids and weights of TB tokens, and how many of them chose each expert, E and those all share."""
    wait_for_previous(PDL)
    release_next(PDL)
    t = tl.program_id(0) * TB + tl.arange(0, TB)
    e = tl.arange(0, EP)
    alive = t < tl.minimum(T, tl.load(live))
    here = alive[:, None] & (e < E)[None, :]
    taken, _ = choose_for_many(logits, ids, weights, t, e, here, E, C, LD, NORM_TOPK, SHARED)
    at = counts + tl.program_id(0) * (E + SHARED)
    tl.store(at + e, tl.sum(taken, axis=0), mask=e < E)
    if SHARED:
        tl.store(at + E, tl.sum(alive.to(tl.int32), axis=0))


@triton.jit(do_not_specialize=["blocks"])
def order_kernel(
    counts, totals, blocks, E: tl.constexpr, BE: tl.constexpr, BB: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (ceil(E/BE)): counts [B, E] become how many pairs of the expert come before the block; totals [E]."""
    wait_for_previous(PDL)
    release_next(PDL)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    total = tl.zeros([BE], tl.int32)
    for first in tl.range(0, blocks, BB):
        b = first + tl.arange(0, BB)
        inside = (b < blocks)[:, None] & (e < E)[None, :]
        here = tl.load(counts + b[:, None] * E + e[None, :], mask=inside, other=0)
        tl.store(counts + b[:, None] * E + e[None, :], total[None, :] + tl.cumsum(here, axis=0) - here, mask=inside)
        total += tl.sum(here, axis=0)
    tl.store(totals + e, total, mask=e < E)


@triton.jit(do_not_specialize=["T", "G"])
def place_kernel(
    ids, live, counts, totals, pairs, groups, T, G,
    SIZE: tl.constexpr, TB: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (B): every pair of TB tokens to its place in the order of experts, and some of the groups."""
    wait_for_previous(PDL)
    release_next(PDL)
    block = tl.program_id(0)
    t = block * TB + tl.arange(0, TB)
    e = tl.arange(0, EP)
    alive = t < tl.minimum(T, tl.load(live))
    taken = tl.zeros([TB, EP], tl.int32)
    for c in tl.static_range(C):
        expert = tl.load(ids + t * C + c, mask=alive, other=-1)
        taken += (expert[:, None] == e[None, :]).to(tl.int32)
    total = tl.load(totals + e, mask=e < E, other=0)
    start = tl.cumsum(total, axis=0) - total
    place = start + tl.load(counts + block * E + e, mask=e < E, other=0)
    place = place[None, :] + tl.cumsum(taken, axis=0) - 1
    tl.store(pairs + place, t[:, None] * C + tl.cumsum(taken, axis=1) - 1, mask=taken > 0)
    parts = (total + SIZE - 1) // SIZE
    base = tl.cumsum(parts, axis=0) - parts
    for j in tl.range(block, tl.max(parts, axis=0), tl.num_programs(0)):
        tl.store(groups + base + j, e, mask=j < parts)
        tl.store(groups + G + base + j, start + SIZE * j, mask=j < parts)
        tl.store(groups + 2 * G + base + j, tl.minimum(total - SIZE * j, SIZE), mask=j < parts)
    for first in tl.range(tl.sum(parts, axis=0) + block * EP, G, tl.num_programs(0) * EP):
        tl.store(groups + 2 * G + first + e, 0, mask=first + e < G)


def group(logits: Tensor, live: Tensor, *, chosen: int, norm_topk: bool, size: int, shared: bool = False) -> Sorted:
    """The `chosen` experts of the first live[0] tokens of logits fp32 [T, E], and their pairs by expert in groups of at
    most `size`. `shared`: see `choice.choose`."""
    tokens, experts = logits.shape
    device = logits.device
    together = TOKENS // 2 if experts > 256 and tokens <= 2048 else TOKENS
    blocks, bound = -(-tokens // together), min(tokens * chosen, tokens * chosen // size + experts)
    ids, pairs = torch.empty(2, tokens * chosen, dtype=torch.int32, device=device)
    weights = torch.empty(tokens * chosen, device=device)
    counts = torch.empty(blocks + 1, experts, dtype=torch.int32, device=device)
    found = torch.empty(3, bound, dtype=torch.int32, device=device)
    padded, routed, flags = triton.next_power_of_2(experts), experts - shared, launch.dependent(logits)
    warps = min(16, max(4, padded // 32))
    totals = counts[blocks]
    choose_kernel[(blocks,)](
        logits, live, ids, weights, counts, tokens, TB=together, E=routed, EP=triton.next_power_of_2(routed),
        C=chosen - shared, LD=logits.stride(0), NORM_TOPK=norm_topk, SHARED=int(shared), num_warps=warps, **flags,
    )  # fmt: skip
    order_kernel[(-(-experts // EXPERTS),)](
        counts, totals, blocks, E=experts, BE=EXPERTS, BB=128 if blocks <= 128 else 512, num_warps=4, **flags
    )  # fmt: skip
    place_kernel[(blocks,)](
        ids, live, counts, totals, pairs, found, tokens, bound, SIZE=size, TB=together, E=experts, EP=padded, C=chosen,
        num_warps=warps, **flags,
    )  # fmt: skip
    return Sorted(weights, pairs, Groups(*found, size))


def group_reference(
    logits: Tensor, live: Tensor, *, chosen: int, norm_topk: bool, size: int, shared: bool = False
) -> Sorted:
    """The specification of `group`, with sorts."""
    tokens, experts = logits.shape
    ids, weights = choose(logits, chosen, norm_topk, shared)
    alive = torch.arange(tokens, device=logits.device) < live[0]
    ids = torch.where(alive.unsqueeze(-1), ids, experts)
    pairs, groups = group_pairs(ids, experts, size)
    return Sorted(weights.view(-1), pairs, groups)


def group_pairs(ids: Tensor, experts: int, size: int) -> tuple[Tensor, Groups]:
    """Pairs int32 [P] sorted by expert, and their groups of at most `size`. ids int64 [T, C]. No synchronisation."""
    flat = ids.reshape(-1)
    order = torch.sort(flat, stable=True)
    bounds = torch.searchsorted(order.values, torch.arange(experts + 1, device=ids.device))
    tiles = (bounds[1:] - bounds[:-1] + size - 1) // size
    total = tiles.cumsum(0)
    index = torch.arange(min(len(flat), len(flat) // size + experts), device=ids.device)
    expert = torch.searchsorted(total, index, right=True).clamp(max=experts - 1)
    start = bounds[expert] + (index - (total[expert] - tiles[expert])) * size
    count = torch.where(index < total[-1], (bounds[expert + 1] - start).clamp(0, size), 0)
    as_int = [part.to(torch.int32) for part in (expert, start, count)]
    return order.indices.to(torch.int32), Groups(*as_int, size)
