"""Products of many tokens over fragment units, with tensor cores at full width.

A block decodes 64 rows x 64 columns at a time and multiplies them with 64 or 128 tokens. The activations come in
plane order (`kernels.plane`). Axis letters: T tokens, P token-expert pairs, G groups, N rows of a weight, K columns.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels import launch
from engine.model.kernels.fragments import FragmentWeight, unfragment
from engine.model.kernels.groups import Groups
from engine.model.kernels.plane import place_of, plane_order
from engine.model.kernels.units import HALF_SCALE, decode, load_words, prepare_table

EXPANDED = 65
"""From so many tokens on, decoding a dense weight once to memory and a library product are faster than decoding in
it."""


@triton.jit
def _weight_tile(w0, w1, w2, w3, lane, table, R: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """Words of R row tiles to [16 R, 64] in plane order. No data moves between threads."""
    a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, R, BITS, ASM)
    a = tl.join(tl.join(a0, a2), tl.join(a1, a3))  # R, (g t h half i), p high, p low
    a = tl.reshape(a, [R, 8, 4, 2, 2, 2, 2, 2])
    return tl.reshape(tl.trans(a, 0, 4, 1, 6, 7, 3, 2, 5), [16 * R, 64])


@triton.jit(do_not_specialize=["T"])
def product_kernel(
    x, sources, experts, starts, counts, words, scales, table, weights, out, T,
    N: tl.constexpr, K: tl.constexpr, C: tl.constexpr, R: tl.constexpr, BT: tl.constexpr, KIND: tl.constexpr,
    BITS: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, token tiles). KIND 0: out fp32 [T, N] = x W^T. 1: out += x W^T. 2 (gate and up): out fp16 [P,
    N/2] by
    sorted pair, route weight applied, divided by 64, in plane order. 3 (down): out bf16 [P, N] by pair, times 64."""
    BLOCKS: tl.constexpr = K // 64
    tile = tl.program_id(0) * R
    group = tl.program_id(1)
    t = tl.arange(0, BT)
    if KIND >= 2:
        count = tl.load(counts + group)
        start = tl.load(starts + group)
        expert = tl.load(experts + group).to(tl.int64)
    else:
        start = group * BT
        count = tl.minimum(T - start, BT)
        expert = tl.full([], 0, tl.int64)
    if count > 0:
        lane = prepare_table(table, WARPS, BITS, ASM)
        live = t < count
        row = (start + t).to(tl.int64)
        if KIND >= 2:
            pair = tl.load(sources + start + t, mask=live, other=0).to(tl.int64)
        if KIND == 2:
            row = pair // C
        at = x + row[:, None] * K + tl.arange(0, 64)[None, :]
        unit = (expert * (N // 16) + tile + tl.arange(0, R)) * BLOCKS
        r = tl.arange(0, 16 * R)
        scale_at = scales + (expert * (N // 16) + tile + r // 16) * BLOCKS * 16 + r % 16
        acc = tl.zeros([16 * R, BT], tl.float32)
        for b in tl.range(0, BLOCKS):
            w0, w1, w2, w3 = load_words(words, unit + b, BITS)
            value = tl.load(at + b * 64, mask=live[:, None], other=0.0)
            a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM)
            part = tl.dot(a, tl.trans(value.to(a.dtype)))
            if BITS == 4:
                part = part * tl.load(scale_at + b * 16)[:, None]
            acc += part
        n = tile * 16 + r
        if BITS == 8:
            acc = acc * tl.load(scales + expert * N + n)[:, None]
        if KIND == 2:
            weight = tl.load(weights + pair, mask=live, other=0.0) / HALF_SCALE
            gate, up = tl.split(tl.trans(tl.reshape(acc, [R, 2, 8, BT]), 0, 2, 3, 1))
            inner = tl.reshape(gate * tl.sigmoid(gate) * up, [8 * R, BT]) * weight[None, :]
            m = place_of(tile * 8 + tl.arange(0, 8 * R))
            place = (start + t).to(tl.int64)
            tl.store(out + place[None, :] * (N // 2) + m[:, None], inner.to(tl.float16), mask=live[None, :])
        elif KIND == 3:
            tl.store(out + pair[None, :] * N + n[:, None], (acc * HALF_SCALE).to(tl.bfloat16), mask=live[None, :])
        else:
            target = out + (start + t).to(tl.int64)[None, :] * N + n[:, None]
            if KIND == 1:
                acc += tl.load(target, mask=live[None, :], other=0.0)
            tl.store(target, acc, mask=live[None, :])


def _launch(
    x: Tensor,
    weight: FragmentWeight,
    out: Tensor,
    kind: int,
    size: int,
    grid: int,
    chosen: int,
    sorted_by: tuple[Tensor, ...],
) -> None:
    flags = launch.options(x)
    flags.pop("PDL")
    flags.pop("launch_pdl", None)
    most, warps, stages = launch.PRODUCT[size]
    tiles = launch.chunk(weight.rows // 16, most)
    warps = warps if tiles == most else 4
    sources, experts, starts, counts, weights = sorted_by
    launch.start(
        product_kernel, (weight.rows // 16 // tiles, grid), x, sources, experts, starts, counts, weight.words,
        weight.scales,
        weight.table, weights, out, x.shape[0], N=weight.rows, K=weight.columns, C=chosen, R=tiles, BT=size, KIND=kind,
        BITS=weight.bits, WARPS=warps, num_warps=warps, num_stages=stages, **flags,
    )  # fmt: skip


@triton.jit
def expand_kernel(
    words, scales, table, out,
    K: tl.constexpr, R: tl.constexpr, BITS: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, K/64/8): out fp16 (bf16 for 16 bits) [N, K] = the weight, columns in plane order."""
    BLOCKS: tl.constexpr = K // 64
    lane = prepare_table(table, WARPS, BITS, ASM)
    tile = tl.program_id(0) * R
    r = tl.arange(0, 16 * R)
    n = tile * 16 + r
    for j in tl.range(0, 8, num_stages=1):
        block = tl.program_id(1) * 8 + j
        if block < BLOCKS:
            w0, w1, w2, w3 = load_words(words, (tile + tl.arange(0, R)) * BLOCKS + block, BITS)
            a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM).to(tl.float32)
            if BITS == 4:
                a = a * tl.load(scales + ((tile + r // 16) * BLOCKS + block) * 16 + r % 16)[:, None]
            elif BITS == 8:
                a = a * tl.load(scales + n)[:, None]
            at = out + n.to(tl.int64)[:, None] * K + block * 64 + tl.arange(0, 64)[None, :]
            tl.store(at, a.to(out.dtype.element_ty))


def expand(weight: FragmentWeight, out: Tensor) -> None:
    """out [N, K] = the weight in fp16 with its columns in plane order, for a library product."""
    flags = launch.options(out)
    flags.pop("PDL")
    flags.pop("launch_pdl", None)
    tiles = launch.chunk(weight.rows // 16, 4)
    launch.start(
        expand_kernel, (weight.rows // 16 // tiles, -(-weight.columns // 512)), weight.words, weight.scales,
        weight.table, out,
        K=weight.columns, R=tiles, BITS=weight.bits, WARPS=4, num_warps=4, **flags,
    )  # fmt: skip


def product(x: Tensor, weight: FragmentWeight, out: Tensor, *, add: bool = False) -> None:
    """out fp32 [T, N] = (out +) x W^T; x fp16 [T, K] in plane order."""
    tokens = x.shape[0]
    if x.is_cuda and tokens >= EXPANDED and weight.bits != 16:
        whole = torch.empty(weight.rows, weight.columns, dtype=torch.float16, device=x.device)
        expand(weight, whole)
        if add:
            out += torch.mm(x, whole.t(), out_dtype=torch.float32)
        else:
            torch.mm(x, whole.t(), out_dtype=torch.float32, out=out)
        return
    size = 128 if tokens > 64 else 64
    _launch(x, weight, out, int(add), size, -(-tokens // size), 1, (x,) * 5)


def product_reference(x: Tensor, weight: FragmentWeight, out: Tensor, *, add: bool = False) -> None:
    natural = torch.empty_like(x)
    natural[:, plane_order(x.shape[1], x.device)] = x
    result = natural.float() @ unfragment(weight).t()
    out.copy_(out + result if add else result)


def experts_product(
    x: Tensor, pairs: Tensor, weights: Tensor, groups: Groups, gate_up: FragmentWeight, down: FragmentWeight,
    inner: Tensor, parts: Tensor,
    *, chosen: int,
) -> None:  # fmt: skip
    """parts bf16 [P, H]: every pair's expert output, route weight applied. x fp16 [T, H] and inner fp16 [P, I] in plane
    order, pairs int32 [P] sorted by expert, weights fp32 [P] by pair."""
    sorted_by = (pairs, groups.expert, groups.start, groups.count, weights)
    _launch(x, gate_up, inner, 2, groups.size, len(groups.count), chosen, sorted_by)
    _launch(inner, down, parts, 3, groups.size, len(groups.count), chosen, sorted_by)


def experts_product_reference(
    x: Tensor, pairs: Tensor, weights: Tensor, groups: Groups, gate_up: FragmentWeight, down: FragmentWeight,
    inner: Tensor, parts: Tensor,
    *, chosen: int,
) -> None:  # fmt: skip
    natural = torch.empty_like(x)
    natural[:, plane_order(x.shape[1], x.device)] = x
    up, back = unfragment(gate_up), unfragment(down)
    for expert, start, count in zip(groups.expert.tolist(), groups.start.tolist(), groups.count.tolist(), strict=True):
        if count:
            chosen_pairs = pairs[start : start + count].long()
            both = (natural[chosen_pairs // chosen].float() @ up[expert].t()).view(count, -1, 2, 8)
            gate, value = both[:, :, 0].reshape(count, -1), both[:, :, 1].reshape(count, -1)
            hidden = torch.nn.functional.silu(gate) * value * (weights[chosen_pairs] / 64.0).unsqueeze(-1)
            parts[chosen_pairs] = (hidden.to(inner.dtype).float() @ back[expert].t() * 64.0).to(parts.dtype)
