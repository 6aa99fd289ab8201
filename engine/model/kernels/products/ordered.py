"""Inputs in the order in which a weight has its columns, where that is not their own (GPTQ's act-order).

The columns of one group lie beside each other, so the products read groups as they read any other's; what they multiply
them with is put in the same order first, once for a matrix and once for each expert of a token. Axis letters: T tokens,
P token-expert pairs, G groups, K columns, E experts, C chosen experts per token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.plane import place_of
from engine.model.kernels.device.units import HALF_SCALE, release_next, wait_for_previous
from engine.model.kernels.routing.choice import choose_experts, expert_of, route_logits
from engine.model.kernels.routing.groups import Groups
from engine.model.kernels.routing.router import Pairs

TOGETHER = 8
"""Pairs of one expert that a block puts in order where groups are large."""


@triton.jit
def order_kernel(
    x, gain, order, out, eps, K: tl.constexpr, KP: tl.constexpr, NORM: tl.constexpr, PLANE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T): out [T, K] = x, with NORM fp16(norm(64 x) * gain); with PLANE both are in plane order."""
    release_next(PDL)
    k = tl.arange(0, KP)
    place = tl.program_id(0).to(tl.int64) * K + (place_of(k) if PLANE else k)
    source = tl.load(order + k, mask=k < K, other=0)
    if NORM:
        g = tl.load(gain + k, mask=k < K, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    value = tl.load(x + place, mask=k < K, other=0.0)
    if NORM:
        whole = value.to(tl.float32) * HALF_SCALE
        value = (whole / tl.sqrt(tl.sum(whole * whole) / K + eps) * g).to(value.dtype)
    tl.store(out + place, tl.gather(value, source, 0), mask=k < K)


@triton.jit
def order_chosen_kernel(
    x, logits, order, ids, weights, out,
    K: tl.constexpr, KP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, CP: tl.constexpr,
    NORM_TOPK: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (C, T): out [P, K] of x [T, K], and ids and weights [P] of the experts that the logits [T, E] choose."""
    logits += tl.program_id(1) * E
    pair = tl.program_id(1) * C + tl.program_id(0)
    k = tl.arange(0, KP)
    release_next(PDL)
    wait_for_previous(PDL)
    value = tl.load(x + tl.program_id(1) * K + k, mask=k < K, other=0.0)
    choice = choose_experts(logits, E, EP, C, ASM)
    expert = expert_of(choice, tl.program_id(0), EP, ASM)
    source = tl.load(order + expert.to(tl.int64) * K + k, mask=k < K, other=0)
    mine, others = route_logits(choice, expert, logits, E, EP, C, CP, NORM_TOPK, ASM)
    tl.store(ids + pair, expert)
    tl.store(weights + pair, 1.0 / tl.sum(tl.exp(others - mine)))
    tl.store(out + pair * K + k, tl.gather(value, source, 0), mask=k < K)


@triton.jit
def order_groups_kernel(
    x, order, pairs, experts, starts, counts, out,
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, PER: tl.constexpr, PLANE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (G, size/PER): out [P, K] of the group's pairs, from x [T, K]; with PLANE both are in plane order."""
    k = tl.arange(0, KP)
    place = place_of(k) if PLANE else k
    release_next(PDL)
    wait_for_previous(PDL)
    first = tl.program_id(1) * PER
    count = tl.load(counts + tl.program_id(0)) - first
    if count > 0:
        start = tl.load(starts + tl.program_id(0)) + first
        expert = tl.load(experts + tl.program_id(0)).to(tl.int64)
        source = tl.load(order + expert * K + k, mask=k < K, other=0)
        for i in tl.range(0, tl.minimum(count, PER), num_stages=1):
            pair = tl.load(pairs + start + i).to(tl.int64)
            value = tl.load(x + pair // C * K + place, mask=k < K, other=0.0)
            tl.store(out + pair * K + place, tl.gather(value, source, 0), mask=k < K)


def ordered(x: Tensor, weight: FragmentWeight, gain: Tensor | None = None, *, eps: float = 0.0, plane: bool) -> Tensor:
    """x [T, K] with its columns in the weight's order; x itself where that is their own. With `gain` x is the half copy
    of a residual, and normalised."""
    if weight.order is None:
        return x
    tokens, columns = x.shape
    out = torch.empty_like(x)
    order_kernel[(tokens,)](
        x, x if gain is None else gain, weight.order, out, eps, K=columns, KP=triton.next_power_of_2(columns),
        NORM=gain is not None, PLANE=plane, num_warps=8 if tokens <= 8 else 4, **launch.dependent(x, "order"),
    )  # fmt: skip
    return out


def ordered_chosen(
    x: Tensor, logits: Tensor, order: Tensor, *, chosen: int, norm_topk: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """ids int32 and weights fp32 [P] of the experts that logits [T, E] choose, and x for each of them [P, K]."""
    (tokens, columns), experts = x.shape, logits.shape[1]
    ids = torch.empty(tokens * chosen, dtype=torch.int32, device=x.device)
    weights, out = torch.empty(tokens * chosen, device=x.device), x.new_empty(tokens * chosen, columns)
    order_chosen_kernel[(chosen, tokens)](
        x, logits, order, ids, weights, out, K=columns, KP=triton.next_power_of_2(columns), E=experts,
        EP=triton.next_power_of_2(experts), C=chosen, CP=triton.next_power_of_2(chosen), NORM_TOPK=norm_topk,
        num_warps=8, **launch.options(x, "order_chosen"),
    )  # fmt: skip
    return ids, weights, out


def ordered_pairs(
    x: Tensor, weight: FragmentWeight, pairs: Tensor, groups: Groups, chosen: int, *, plane: bool,
    room: Tensor | None = None,
) -> tuple[Tensor, int]:  # fmt: skip
    """x [T, K] of `chosen` pairs a token, or where experts have orders x of each pair [P, K], for one of them a row.
    pairs int32 [P] sorted by expert. `room`: of as many elements, as wide or wider, which nobody needs meanwhile."""
    if weight.order is None:
        return x, chosen
    columns, per = x.shape[1], TOGETHER if groups.size > TOGETHER else 1
    count = len(pairs) * columns
    free = x.new_empty(count) if room is None else room.flatten().view(x.dtype)[:count]
    out = free.view(len(pairs), columns)
    order_groups_kernel[(len(groups.count), -(-groups.size // per))](
        x, weight.order, pairs, groups.expert, groups.start, groups.count, out, K=columns,
        KP=triton.next_power_of_2(columns), C=chosen, PER=per, PLANE=plane, num_warps=8 if per == 1 else 4,
        **launch.dependent(x, "order_groups"),
    )  # fmt: skip
    return out, 1


def groups_of(pairs: Pairs) -> Groups:
    """The groups of a step of few tokens."""
    return Groups(pairs.groups[0], pairs.groups[1], pairs.groups[2], pairs.size)
