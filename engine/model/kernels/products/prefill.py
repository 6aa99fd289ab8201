"""Products of many tokens over fragment units, with tensor cores at full width.

A block decodes up to 128 rows x 64 columns at a time and multiplies them with 16 to 128 tokens, so that a weight is
read and decoded once for all of them. The activations come in plane order (`kernels.plane`). Axis letters: T tokens,
P token-expert pairs, G groups, N rows of a weight, K columns, S splits of K.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import Beside, FragmentWeight, unfragment
from engine.model.kernels.device.plane import place_of, plane_order
from engine.model.kernels.device.units import (
    HALF_SCALE,
    decode,
    load_words,
    prepare_table,
    release_next,
    row_factors,
    sum_scales,
    wait_for_previous,
)
from engine.model.kernels.products import prefill_ampere, prefill_hopper
from engine.model.kernels.products.ordered import ordered, ordered_pairs
from engine.model.kernels.routing.groups import Groups, group_size

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


@triton.jit
def _finished(acc):
    """The same sums, with no product of theirs under way: Triton 3.6 else decodes the next unit into registers that
    one still reads."""
    return tl.inline_asm_elementwise("", "=r,0", [acc], dtype=tl.float32, is_pure=False, pack=1)


@triton.jit
def _load_units(
    words, scales, unit, tile, row, U: tl.constexpr, R: tl.constexpr, BITS: tl.constexpr, ONCE: tl.constexpr
):
    """Words and block scales of U following units of every row tile."""
    found = ()
    for u in tl.static_range(U):
        w0, w1, w2, w3 = load_words(words, scales, unit + u, BITS, ONCE)
        s = tl.full([16 * R], 1.0, tl.float32)
        if BITS == 4 or (BITS >> 16) & 1:
            s = sum_scales(scales, tile + u, row, BITS)
        found = found + ((w0, w1, w2, w3, s),)  # noqa: RUF005 - Triton knows no unpacking
    return found


@triton.jit
def _load_scales(scales, tile, row, U: tl.constexpr, BITS: tl.constexpr):
    found = ()
    for u in tl.static_range(U):
        found = found + ((sum_scales(scales, tile + u, row, BITS),),)  # noqa: RUF005 - Triton knows no unpacking
    return found


@triton.jit
def _row_sums(
    at, live, words, unit, tile, scales, lane, table,
    BLOCKS: tl.constexpr, R: tl.constexpr, BT: tl.constexpr, U: tl.constexpr, BITS: tl.constexpr,
    AHEAD: tl.constexpr, ONCE: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """fp32 [16 R, BT]: BLOCKS units of R row tiles times the activations at `at` [BT, 64]. `unit` [R] and `tile`
    [16 R] are the first units of tiles and of rows' tiles. With AHEAD the next units are on their way to registers
    meanwhile: a block's scale is wanted so late that nothing else would hide its way. With 3 weights are scaled, and
    rounded to 16 bits once more, so that products are summed where they are made."""
    acc = tl.zeros([16 * R, BT], tl.float32)
    row = tl.arange(0, 16 * R) % 16
    if AHEAD == 2:
        due = _load_scales(scales, tile, row, U, BITS)
        for b in tl.range(0, BLOCKS, U):
            later = _load_scales(scales, tile + tl.minimum(b + U, BLOCKS - U), row, U, BITS)
            for u in tl.static_range(U):
                w0, w1, w2, w3 = load_words(words, scales, unit + b + u, BITS, ONCE)
                value = tl.load(at + (b + u) * 64, mask=live[:, None], other=0.0)
                a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM)
                part = tl.dot(a, tl.trans(value.to(a.dtype)))
                acc += part * due[u][0][:, None]
            due = later
    elif AHEAD:
        now = _load_units(words, scales, unit, tile, row, U, R, BITS, ONCE)
        for b in tl.range(0, BLOCKS, U):
            following = tl.minimum(b + U, BLOCKS - U)
            ahead = _load_units(words, scales, unit + following, tile + following, row, U, R, BITS, ONCE)
            for u in tl.static_range(U):
                w0, w1, w2, w3, s = now[u]
                value = tl.load(at + (b + u) * 64, mask=live[:, None], other=0.0)
                a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM)
                if AHEAD == 3:
                    acc = tl.dot(a * s.to(a.dtype)[:, None], tl.trans(value.to(a.dtype)), acc)
                else:
                    part = tl.dot(a, tl.trans(value.to(a.dtype)))
                    if BITS == 4 or (BITS >> 16) & 1:
                        part = part * s[:, None]
                    acc += part
            if AHEAD == 3 and ASM:
                acc = _finished(acc)
            now = ahead
    else:
        for b in tl.range(0, BLOCKS, U):
            for u in tl.static_range(U):
                w0, w1, w2, w3 = load_words(words, scales, unit + b + u, BITS, ONCE)
                value = tl.load(at + (b + u) * 64, mask=live[:, None], other=0.0)
                a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM)
                part = tl.dot(a, tl.trans(value.to(a.dtype)))
                if BITS == 4 or (BITS >> 16) & 1:
                    part = part * sum_scales(scales, tile + b + u, row, BITS)[:, None]
                acc += part
            if ASM and BITS != 4 and ((BITS >> 16) & 1) == 0:
                acc = _finished(acc)
    return acc


@triton.jit
def _expert_rows(
    x, pair, live, expert, tile, words, scales, weights, out, lane, table,
    N: tl.constexpr, K: tl.constexpr, C: tl.constexpr, R: tl.constexpr, BT: tl.constexpr, U: tl.constexpr,
    GATE: tl.constexpr, BITS: tl.constexpr, AHEAD: tl.constexpr, ONCE: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """R row tiles of one expert for the pairs `pair` [BT] that are `live`."""
    row = pair // C if GATE else pair
    at = x + row[:, None] * K + tl.arange(0, 64)[None, :]
    unit = (expert * (N // 16) + tile + tl.arange(0, R)) * (K // 64)
    r = tl.arange(0, 16 * R)
    n = tile * 16 + r
    tiles = (expert * (N // 16) + tile + r // 16) * (K // 64)
    acc = _row_sums(at, live, words, unit, tiles, scales, lane, table, K // 64, R, BT, U, BITS, AHEAD, ONCE, ASM)
    if BITS == 8 or BITS > 31:
        acc = acc * row_factors(scales, table, expert * N + n, BITS)[:, None]
    if GATE:
        weight = tl.load(weights + pair, mask=live, other=0.0) / HALF_SCALE
        gate, up = tl.split(tl.trans(tl.reshape(acc, [R, 2, 8, BT]), 0, 2, 3, 1))
        inner = tl.reshape(gate * tl.sigmoid(gate) * up, [8 * R, BT]) * weight[None, :]
        m = place_of(tile * 8 + tl.arange(0, 8 * R))
        tl.store(out + pair[None, :] * (N // 2) + m[:, None], inner.to(out.dtype.element_ty), mask=live[None, :])
    else:
        part = (acc * HALF_SCALE).to(out.dtype.element_ty)
        tl.store(out + pair[None, :] * N + n[:, None], part, mask=live[None, :])


@triton.jit
def experts_kernel(
    x, sources, experts, starts, counts, words, scales, table, weights, out,
    N: tl.constexpr, K: tl.constexpr, C: tl.constexpr, R: tl.constexpr, BT: tl.constexpr, U: tl.constexpr,
    GATE: tl.constexpr, BITS: tl.constexpr, AHEAD: tl.constexpr, ONCE: tl.constexpr, WARPS: tl.constexpr,
    ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, G). GATE: out of 16 bits [P, N/2], route weight applied, divided by 64, in plane order, of the
    group's pairs; else out [P, N], times 64."""
    wait_for_previous(PDL)
    release_next(PDL)
    group = tl.program_id(1)
    count = tl.load(counts + group)
    if count > 0:
        lane = prepare_table(table, WARPS, BITS, ASM)
        t = tl.arange(0, BT)
        live = t < count
        pair = tl.load(sources + tl.load(starts + group) + t, mask=live, other=0).to(tl.int64)
        expert = tl.load(experts + group).to(tl.int64)
        _expert_rows(
            x, pair, live, expert, tl.program_id(0) * R, words, scales, weights, out, lane, table, N, K, C, R, BT, U,
            GATE, BITS, AHEAD, ONCE, ASM,
        )  # fmt: skip


@triton.jit(do_not_specialize=["T"])
def product_kernel(
    x, words, scales, table, out, T,
    N: tl.constexpr, LD: tl.constexpr, K: tl.constexpr, R: tl.constexpr, BT: tl.constexpr, S: tl.constexpr,
    U: tl.constexpr, ADD: tl.constexpr, BITS: tl.constexpr, AHEAD: tl.constexpr, ONCE: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, ceil(T/BT), S): out fp32 [T, S, N], the sums over S stretches of K of x W^T, rows LD apart;
    with ADD (S = 1) added to what is there."""
    BLOCKS: tl.constexpr = K // 64 // S
    tile = tl.program_id(0) * R
    split = tl.program_id(2)
    lane = prepare_table(table, WARPS, BITS, ASM)
    wait_for_previous(PDL)
    release_next(PDL)
    t = tl.program_id(1) * BT + tl.arange(0, BT)
    live = t < T
    row = t.to(tl.int64)
    r = tl.arange(0, 16 * R)
    at = x + row[:, None] * K + split * BLOCKS * 64 + tl.arange(0, 64)[None, :]
    unit = (tile + tl.arange(0, R)) * (K // 64) + split * BLOCKS
    tiles = (tile + r // 16) * (K // 64) + split * BLOCKS
    acc = _row_sums(at, live, words, unit, tiles, scales, lane, table, BLOCKS, R, BT, U, BITS, AHEAD, ONCE, ASM)
    n = tile * 16 + r
    if BITS == 8 or BITS > 31:
        acc = acc * row_factors(scales, table, n, BITS)[:, None]
    target = out + (row * S + split)[None, :] * LD + n[:, None]
    if ADD:
        acc += tl.load(target, mask=live[None, :], other=0.0)
    tl.store(target, acc, mask=live[None, :])


@triton.jit
def expand_kernel(
    words, scales, table, out,
    K: tl.constexpr, R: tl.constexpr, BITS: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, K/64): out fp16 (bf16 for 16 bits) [N, K] = the weight, columns in plane order."""
    BLOCKS: tl.constexpr = K // 64
    lane = prepare_table(table, WARPS, BITS, ASM)
    tile = tl.program_id(0) * R
    block = tl.program_id(1)
    r = tl.arange(0, 16 * R)
    n = tile * 16 + r
    w0, w1, w2, w3 = load_words(words, scales, (tile + tl.arange(0, R)) * BLOCKS + block, BITS)
    a = _weight_tile(w0, w1, w2, w3, lane, table, R, BITS, ASM).to(tl.float32)
    if BITS == 4 or (BITS >> 16) & 1:
        a = a * sum_scales(scales, (tile + r // 16) * BLOCKS + block, r % 16, BITS)[:, None]
    if BITS == 8 or BITS > 31:
        a = a * row_factors(scales, table, n, BITS)[:, None]
    at = out + n.to(tl.int64)[:, None] * K + block * 64 + tl.arange(0, 64)[None, :]
    tl.store(at, a.to(out.dtype.element_ty))


def expand(weight: FragmentWeight, out: Tensor) -> None:
    """out [N, K] = the weight in fp16 or bf16 with its columns in plane order, for a library product."""
    flags = launch.options(out)
    flags.pop("PDL")
    flags.pop("launch_pdl", None)
    tiles = launch.chunk(weight.rows // 16, 8)
    launch.start(
        expand_kernel, (weight.rows // 16 // tiles, weight.columns // 64), weight.words, weight.scales, weight.table,
        out, K=weight.columns, R=tiles, BITS=weight.kind, WARPS=4, num_warps=4, **flags,
    )  # fmt: skip


def activation_dtype(weight: FragmentWeight | Beside, like: Tensor) -> torch.dtype:
    """What a product of many tokens multiplies the weight with: bf16 where that is what all of the weight is in, so
    that no kernel converts what it loads. Where there is no device, as `like`."""
    parts = weight.parts if isinstance(weight, Beside) else (weight,)
    whole = all(part.bits == 16 for part in parts)
    return (torch.bfloat16 if whole else torch.float16) if like.is_cuda else like.dtype


def product(x: Tensor, weight: FragmentWeight | Beside, out: Tensor, *, add: bool = False) -> None:
    """out fp32 [T, N] = (out +) x W^T; x of 16 bits [T, K] in plane order."""
    if isinstance(weight, Beside):
        for part, own in weight.slices():
            product(x, part, out[:, own], add=add)
        return
    x, tokens = ordered(x, weight, plane=True), x.shape[0]
    if x.is_cuda and tokens >= EXPANDED:
        x = x.to(activation_dtype(weight, x))
        whole = torch.empty(weight.rows, weight.columns, dtype=x.dtype, device=x.device)
        expand(weight, whole)
        if out.is_contiguous():
            torch.addmm(out, x, whole.t(), out_dtype=torch.float32, beta=1.0 if add else 0.0, out=out)
        else:
            found = torch.mm(x, whole.t(), out_dtype=torch.float32)
            out.copy_(out + found if add else found)
        return
    _product(x, weight, out, 128 if tokens > 64 else 64, 1, add)


def _product(x: Tensor, weight: FragmentWeight, out: Tensor, size: int, splits: int, add: bool) -> None:
    found = (launch.DENSE_BF16 if x.dtype == torch.bfloat16 else {}).get(size, launch.DENSE[size])
    shape = launch.product_shape(found, size, weight, splits)
    launch.start(
        product_kernel, (weight.rows // 16 // shape["R"], -(-x.shape[0] // size), splits), x, weight.words,
        weight.scales, weight.table, out, x.shape[0], N=weight.rows, LD=out.stride(-2), K=weight.columns, S=splits,
        ADD=add, ONCE=x.shape[0] <= size, **shape, **launch.options(x),
    )  # fmt: skip


def splits_of(weight: FragmentWeight | Beside, tokens: int) -> int:
    """How many stretches of K `product_parts` sums apart, so that a few hundred blocks share the weight."""
    size = dense_size(tokens)
    blocks = weight.rows // 16 // launch.chunk(weight.rows // 16, launch.DENSE[size][0]) * -(-tokens // size)
    wanted = 1 << max(0, -(-launch.DENSE_BLOCKS // blocks) - 1).bit_length()
    return launch.chunk(weight.columns // 64, min(8, wanted))


def dense_size(tokens: int) -> int:
    """Tokens of one tile of a dense product."""
    return min(64, max(16, 1 << (tokens - 1).bit_length()))


def product_parts(x: Tensor, weight: FragmentWeight | Beside, parts: Tensor) -> None:
    """parts fp32 [T, S, N]: the S sums whose sum is x W^T; x fp16 [T, K] in plane order, S from `splits_of`."""
    size = dense_size(x.shape[0])
    for part, own in weight.slices() if isinstance(weight, Beside) else ((weight, slice(None)),):
        _product(ordered(x, part, plane=True), part, parts[:, :, own], size, parts.shape[1], False)


def product_parts_reference(x: Tensor, weight: FragmentWeight | Beside, parts: Tensor) -> None:
    natural = torch.empty_like(x)
    natural[:, plane_order(x.shape[1], x.device)] = x
    stretch = x.shape[1] // parts.shape[1]
    whole = unfragment(weight)
    for split in range(parts.shape[1]):
        here = slice(split * stretch, (split + 1) * stretch)
        parts[:, split] = natural[:, here].float() @ whole[:, here].t()


def product_reference(x: Tensor, weight: FragmentWeight | Beside, out: Tensor, *, add: bool = False) -> None:
    natural = torch.empty_like(x)
    natural[:, plane_order(x.shape[1], x.device)] = x
    result = natural.float() @ unfragment(weight).t()
    out.copy_(out + result if add else result)


def experts_group(x: Tensor, pairs: int, experts: int, gate_up: FragmentWeight, down: FragmentWeight) -> int:
    """Tokens of one group of `experts_product`, where each expert gets about as many of the pairs."""
    size = group_size(pairs, experts)
    if prefill_ampere.suits(x, gate_up, down) and size >= prefill_ampere.LEAST:
        return prefill_ampere.TOKENS
    suits = prefill_hopper.suits(x, gate_up, down) and size >= prefill_hopper.LEAST[gate_up.bits]
    return prefill_hopper.TOKENS if suits else size


def experts_product(
    x: Tensor, pairs: Tensor, weights: Tensor, groups: Groups, gate_up: FragmentWeight, down: FragmentWeight,
    inner: Tensor, parts: Tensor,
    *, chosen: int,
) -> None:  # fmt: skip
    """parts [P, H] (bf16 or fp32): every pair's expert output, route weight applied. x [T, H] and inner [P, I] of 16
    bits in plane order, pairs int32 [P] sorted by expert, weights fp32 [P] by pair."""
    x, chosen = ordered_pairs(x, gate_up, pairs, groups, chosen, plane=True, room=parts)  # down writes them last
    if groups.size == prefill_hopper.TOKENS and prefill_hopper.suits(x, gate_up, down):
        prefill_hopper.experts_product(x, pairs, weights, groups, gate_up, down, inner, parts, chosen=chosen)
        return
    if groups.size == prefill_ampere.TOKENS and prefill_ampere.suits(x, gate_up, down):
        prefill_ampere.experts_product(x, pairs, weights, groups, gate_up, down, inner, parts, chosen=chosen)
        return
    tiles = launch.experts_tiles(gate_up, down, groups.size)
    for source, weight, out, found in zip((x, inner), (gate_up, down), (inner, parts), tiles, strict=True):
        shape = launch.product_shape(found, groups.size, weight)
        launch.start(
            experts_kernel, (weight.rows // 16 // shape["R"], len(groups.count)), source, pairs, groups.expert,
            groups.start, groups.count, weight.words, weight.scales, weight.table, weights, out, N=weight.rows,
            K=weight.columns, C=chosen, GATE=weight is gate_up,
            ONCE=groups.size <= 32, **shape, **launch.options(x),
        )  # fmt: skip


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
