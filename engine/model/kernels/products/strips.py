"""The experts' products for the few tokens that each expert gets in a decode step: a warp per strip of 16 rows.

A warp walks its strip over all columns alone: weights come straight into the registers where the product takes them,
the next ones on their way meanwhile, activations out of the first-level cache, and nothing is summed across warps, so
that the loop has no barrier. Pairs are sorted by expert (`router.sort_pairs`) and a block takes one group of them.
Axis letters: T tokens, P token-expert pairs, G groups, N rows of a weight, K columns, W strips a warp each, I inner.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.units import (
    HALF_SCALE,
    activation_planes,
    decode,
    load_units,
    prepare_table,
    release_next,
    row_factors,
    row_token,
    row_unit,
    wait_for_previous,
    weight_plane,
)
from engine.model.kernels.products.experts import pair_products_reference
from engine.model.kernels.products.ordered import groups_of, ordered_pairs
from engine.model.kernels.routing.router import Pairs


@triton.jit
def load_strips(
    words, scales, unit, STRIDE: tl.constexpr, ROWS: tl.constexpr, W: tl.constexpr, U: tl.constexpr,
    BITS: tl.constexpr, Q: tl.constexpr = 1,
):  # fmt: skip
    """Words and block scales of U units, every Qth, of ROWS x W strips; `unit` [W], STRIDE from one W to the next."""
    WHOLE: tl.constexpr = U if Q == 1 else 1
    found = ()
    for u in tl.static_range(U):
        for row in tl.static_range(ROWS):
            found = found + (load_units(words, scales, unit, W, BITS, row * STRIDE + u * Q, WHOLE),)  # noqa: RUF005 - Triton knows no unpacking
    return found


@triton.jit
def strip_product(
    held, x0, x1, x2, x3, lane, table, acc, W: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr
):  # fmt: skip
    """acc fp32 [W, 16, BT] plus one unit of every strip times its activations."""
    w0, w1, w2, w3, s = held
    a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, W, BITS, ASM)
    SCALED: tl.constexpr = BITS == 4 or (BITS >> 16) & 1
    # where elements are scaled the tensor cores add to what is there; a lone token's shorter products would wait for it
    ONE_SUM: tl.constexpr = BITS > 31 and not SCALED
    part = tl.dot(weight_plane(a0, W), x0, acc) if ONE_SUM else tl.dot(weight_plane(a0, W), x0)
    part = tl.dot(weight_plane(a1, W), x1, part)
    part = tl.dot(weight_plane(a2, W), x2, part)
    part = tl.dot(weight_plane(a3, W), x3, part)
    if SCALED:
        part = part * s[:, :, None]
    return part if ONE_SUM else acc + part


@triton.jit
def _activations(at, live, W: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """The four planes of a unit's activations."""
    xa = tl.load(at, mask=live, other=0.0)
    xb = tl.load(at + 32, mask=live, other=0.0)
    if BITS == 16:
        xa = xa.to(tl.bfloat16) if ASM else xa.to(tl.float32)
        xb = xb.to(tl.bfloat16) if ASM else xb.to(tl.float32)
    x0, x1 = activation_planes(xa, W, BT)
    x2, x3 = activation_planes(xb, W, BT)
    return x0, x1, x2, x3


@triton.jit
def strip_sums(
    at, live, words, scales, unit, ahead, lane, table, BLOCKS: tl.constexpr, W: tl.constexpr, Q: tl.constexpr,
    ROWS: tl.constexpr, U: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr,
    AT_ONCE: tl.constexpr = False,
):  # fmt: skip
    """ROWS sums fp32 [W, 16, BT] of every Qth unit of strips that begin at `unit` [W], the first words of which are
    `ahead`; `at` points at the activations of the first unit. AT_ONCE asks for those of all of a turn's units before
    the first is multiplied: else the assembler may put a load right before its use."""
    sums = ()
    for _ in tl.static_range(ROWS):
        sums = sums + (tl.zeros([W, 16, BT], tl.float32),)  # noqa: RUF005 - Triton unrolls tuples by +
    for b in tl.range(0, BLOCKS // Q, U, num_stages=1):
        now = ahead
        following = unit + tl.minimum(b + U, BLOCKS // Q - U) * Q
        ahead = load_strips(words, scales, following, W // Q * BLOCKS, ROWS, W, U, BITS, Q)
        planes = ()
        for u in tl.static_range(U if AT_ONCE else 0):
            planes = planes + (_activations(at + (b + u) * (64 * Q), live, W, BT, BITS, ASM),)  # noqa: RUF005 - Triton knows no unpacking
        for u in tl.static_range(U):
            if AT_ONCE:
                x0, x1, x2, x3 = planes[u]
            else:
                x0, x1, x2, x3 = _activations(at + (b + u) * (64 * Q), live, W, BT, BITS, ASM)
            new = ()
            for row_ in tl.static_range(ROWS):
                new = new + (strip_product(  # noqa: RUF005 - Triton unrolls tuples by +
                    now[u * ROWS + row_], x0, x1, x2, x3, lane, table, sums[row_], W, BITS, ASM
                ),)  # fmt: skip
            sums = new
    return sums


@triton.jit
def strips_kernel(
    x, pairs, groups, words, scales, table, weights, out, G,
    N: tl.constexpr, K: tl.constexpr, C: tl.constexpr, W: tl.constexpr, Q: tl.constexpr, ROWS: tl.constexpr,
    U: tl.constexpr, BT: tl.constexpr, GATE: tl.constexpr, BITS: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16/S/ROWS, G), S = W/Q: Q warps share a strip, every Qth unit each. GATE: out fp16 [P, N/2] of the
    group's pairs, route weight applied, divided by 64; else out fp32 [P, N], times 64."""
    BLOCKS: tl.constexpr = K // 64
    S: tl.constexpr = W // Q
    if GATE:  # the other product's pairs and groups were there before this one's kernel began
        wait_for_previous(PDL)
    release_next(PDL)
    group = tl.program_id(1)
    count = tl.load(groups + 2 * G + group)
    if count > 0:
        expert = tl.load(groups + group)
        start = tl.load(groups + G + group)
        first = expert * (N // 16) + tl.program_id(0) * (S * ROWS)
        unit = (first.to(tl.int64) + tl.arange(0, W) // Q) * BLOCKS + tl.arange(0, W) % Q
        ahead = load_strips(words, scales, unit, S * BLOCKS, ROWS, W, U, BITS, Q)
        lane = prepare_table(table, WARPS, BITS, ASM)
        row = row_token(W, BT)
        live = (row < count)[:, None]
        source = tl.load(pairs + start + row, mask=row < count, other=0)
        if GATE:
            source = source // C
        at = x + source[:, None].to(tl.int64) * K + (row_unit(W, BT) % Q * 64)[:, None] + tl.arange(0, 32)[None, :]
        if not GATE:
            wait_for_previous(PDL)
        sums = strip_sums(
            at, live, words, scales, unit, ahead, lane, table, BLOCKS, W, Q, ROWS, U, BT, BITS, ASM
        )  # fmt: skip
        t = tl.arange(0, BT)
        pair = tl.load(pairs + start + t, mask=t < count, other=0).to(tl.int64)
        keep = (t < count)[None, None, :]
        for row_ in tl.static_range(ROWS):
            acc = sums[row_]
            if Q > 1:
                acc = tl.sum(tl.reshape(acc, [S, Q, 16, BT]), axis=1)
            strip = tl.program_id(0) * (S * ROWS) + row_ * S + tl.arange(0, S)
            if BITS == 8 or BITS > 31:
                n = (expert * N + strip * 16)[:, None] + tl.arange(0, 16)[None, :]
                acc = acc * row_factors(scales, table, n, BITS)[:, :, None]
            if GATE:
                weight = tl.load(weights + pair, mask=t < count, other=0.0) / HALF_SCALE
                gate, up = tl.split(tl.trans(tl.reshape(acc, [S, 2, 8, BT]), 0, 2, 3, 1))
                value = gate * tl.sigmoid(gate) * up * weight[None, None, :]
                n = (strip * 8)[:, None, None] + tl.arange(0, 8)[None, :, None]
                tl.store(out + pair[None, None, :] * (N // 2) + n, value.to(tl.float16), mask=keep)
            else:
                n = (strip * 16)[:, None, None] + tl.arange(0, 16)[None, :, None]
                tl.store(out + pair[None, None, :] * N + n, acc * HALF_SCALE, mask=keep)


def strips_product(
    x: Tensor, pairs: Pairs, gate_up: FragmentWeight, down: FragmentWeight, inner: Tensor, parts: Tensor, *, chosen: int
) -> None:
    """parts fp32 [P, H]: every pair's expert output, route weight applied. x fp16 [T, H]; inner fp16 [P, I] is
    scratch."""
    tokens = len(pairs.ids) // chosen
    x, chosen = ordered_pairs(x, gate_up, pairs.order, groups_of(pairs), chosen, plane=False)
    for source, weight, out in ((x, gate_up, inner), (inner, down, parts)):
        shape = launch.strips_shape(weight, tokens, weight is down)
        strips = shape["W"] // shape["Q"] * shape["ROWS"]
        strips_kernel[(weight.rows // 16 // strips, pairs.groups.shape[1])](
            source, pairs.order, pairs.groups, weight.words, weight.scales, weight.table, pairs.weights, out,
            pairs.groups.shape[1], N=weight.rows, K=weight.columns, C=chosen, BT=pairs.size, GATE=weight is gate_up,
            BITS=weight.kind, **shape, **launch.options(x, "strips_down" if weight is down else ""),
        )  # fmt: skip


def strips_product_reference(
    x: Tensor, pairs: Pairs, gate_up: FragmentWeight, down: FragmentWeight, inner: Tensor, parts: Tensor, *, chosen: int
) -> None:
    shape = (x.shape[0], chosen)
    alive = pairs.ids >= 0
    products = pair_products_reference(
        x, pairs.ids.clamp(min=0).view(shape), pairs.weights.view(shape), gate_up, down
    ).view(-1, down.rows)
    parts[alive] = products[alive].to(parts.dtype)
