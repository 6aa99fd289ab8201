"""Both products of the experts in one launch: blocks stay, and take strips of rows until none are left.

Strips and how a warp walks them: `kernels.strips`. What a block does next is the next number of a counter: first all
strips of gate and up, group by group, then all of down. Whoever takes a strip of down waits until the group's strips
of gate and up are done; their numbers are lower, so that blocks at work have them, and the lowest number at work waits
for nobody: no order in which blocks come and no number of them can leave all waiting. The table of pairs is filled
once, the next strip's weights are on their way while one ends, and gate and up end among strips of down. Axis letters
as in `strips`; H hidden size, I inner size.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.numbers import share_number, take_number
from engine.model.kernels.device.units import (
    HALF_SCALE,
    prepare_table,
    refill_table,
    release_next,
    row_factors,
    row_token,
    wait_for_previous,
)
from engine.model.kernels.products.ordered import groups_of, ordered_pairs
from engine.model.kernels.products.strips import load_strips, strip_sums, strips_product
from engine.model.kernels.routing.router import Pairs

_FINISH = tl.constexpr(
    "{\n.reg .pred p;\n.reg .u32 l;\nbar.warp.sync 0xffffffff;\nmov.u32 l, %laneid;\nsetp.eq.u32 p, l, 0;\n"
    "@p red.release.gpu.global.add.u32 [$1], 1;\nmov.u32 $0, 0;\n}"
)
_AWAIT = tl.constexpr(
    "{\n.reg .pred p;\nAGAIN:\nld.acquire.gpu.global.u32 $0, [$1];\nsetp.lt.u32 p, $0, $2;\n@p bra AGAIN;\n}"
)


@triton.jit
def _finish(counter, ASM: tl.constexpr):
    """Each warp counts itself once what it wrote can be read by whoever sees the count."""
    if ASM:
        tl.inline_asm_elementwise(
            _FINISH, "=r,l", [counter.to(tl.uint64, bitcast=True)], dtype=tl.int32, is_pure=False, pack=1
        )


@triton.jit
def _await(counter, needed, ASM: tl.constexpr):
    """Until the counter has reached `needed`. Under the interpreter one block does all, in order."""
    if ASM:
        tl.inline_asm_elementwise(
            _AWAIT, "=&r,l,r", [counter.to(tl.uint64, bitcast=True), needed], dtype=tl.int32, is_pure=False, pack=1
        )  # fmt: skip


@triton.jit
def _group(groups, G, g, rank, number):
    """Place, expert, first pair and count of the group of that number among those that have pairs."""
    place = tl.sum(tl.where(rank == number, g, 0))
    return place, tl.load(groups + place), tl.load(groups + G + place), tl.load(groups + 2 * G + place)


@triton.jit
def _store_inner(
    sums, pairs, start, count, expert, strip, scales, table, weights, inner, N: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    t = tl.arange(0, BT)
    pair = tl.load(pairs + start + t, mask=t < count, other=0).to(tl.int64)
    keep = (t < count)[None, None, :]
    weight = tl.load(weights + pair, mask=t < count, other=0.0) / HALF_SCALE
    for row_ in tl.static_range(ROWS):
        acc = sums[row_]
        at = strip + row_ * W + tl.arange(0, W)
        if BITS == 8 or BITS > 31:
            n = (expert * N + at * 16)[:, None] + tl.arange(0, 16)[None, :]
            acc = acc * row_factors(scales, table, n, BITS)[:, :, None]
        gate, up = tl.split(tl.trans(tl.reshape(acc, [W, 2, 8, BT]), 0, 2, 3, 1))
        value = gate * tl.sigmoid(gate) * up * weight[None, None, :]
        n = (at * 8)[:, None, None] + tl.arange(0, 8)[None, :, None]
        tl.store(inner + pair[None, None, :] * (N // 2) + n, value.to(tl.float16), mask=keep)


@triton.jit
def _store_parts(
    sums, pairs, start, count, expert, strip, scales, table, parts, N: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    t = tl.arange(0, BT)
    pair = tl.load(pairs + start + t, mask=t < count, other=0).to(tl.int64)
    keep = (t < count)[None, None, :]
    for row_ in tl.static_range(ROWS):
        acc = sums[row_]
        at = strip + row_ * W + tl.arange(0, W)
        if BITS == 8 or BITS > 31:
            n = (expert * N + at * 16)[:, None] + tl.arange(0, 16)[None, :]
            acc = acc * row_factors(scales, table, n, BITS)[:, :, None]
        n = (at * 16)[:, None, None] + tl.arange(0, 16)[None, :, None]
        tl.store(parts + pair[None, None, :] * N + n, acc * HALF_SCALE, mask=keep)


@triton.jit
def stream_kernel(
    x, inner, out, pairs, groups, progress, up_words, up_scales, up_table, down_words, down_scales, down_table, weights,
    G,
    I: tl.constexpr, H: tl.constexpr, C: tl.constexpr, GP: tl.constexpr, W: tl.constexpr, UP_ROWS: tl.constexpr,
    UP_U: tl.constexpr, DOWN_ROWS: tl.constexpr, DOWN_U: tl.constexpr, BT: tl.constexpr,
    BITS: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """inner fp16 [P, I]: silu(gate) * up, route weight applied, divided by 64; out fp32 [P, H]. progress int32 [1 + G],
    zero at the start: the counter of strips, and how many warps are done with a group's gate and up."""
    UP_BLOCKS: tl.constexpr = H // 64
    DOWN_BLOCKS: tl.constexpr = I // 64
    UPS: tl.constexpr = 2 * I // 16 // (W * UP_ROWS)
    DOWNS: tl.constexpr = H // 16 // (W * DOWN_ROWS)
    lane = prepare_table(up_table, WARPS, BITS, ASM)
    row = row_token(W, BT)
    warp = tl.arange(0, W)
    g = tl.arange(0, GP)
    wait_for_previous(PDL)
    release_next(PDL)
    due = take_number(progress, ASM)
    used = (tl.load(groups + 2 * G + g, mask=g < G, other=0) > 0).to(tl.int32)
    rank = tl.where(used > 0, tl.cumsum(used, axis=0) - 1, -1)
    count_groups = tl.sum(used)
    ups = count_groups * UPS
    item = share_number(due, ASM)
    while item < ups:
        due = take_number(progress, ASM)
        place, expert, start, count = _group(groups, G, g, rank, item // UPS)
        strip = item % UPS * (W * UP_ROWS)
        unit = ((expert * (2 * I // 16) + strip).to(tl.int64) + warp) * UP_BLOCKS
        ahead = load_strips(up_words, up_scales, unit, W * UP_BLOCKS, UP_ROWS, W, UP_U, BITS)
        source = tl.load(pairs + start + row, mask=row < count, other=0) // C
        at = x + source[:, None].to(tl.int64) * H + tl.arange(0, 32)[None, :]
        sums = strip_sums(
            at, (row < count)[:, None], up_words, up_scales, unit, ahead, lane, up_table, UP_BLOCKS, W, 1, UP_ROWS,
            UP_U, BT, BITS, ASM, BITS == 8,
        )  # fmt: skip
        _store_inner(
            sums, pairs, start, count, expert, strip, up_scales, up_table, weights, inner, 2 * I, W, UP_ROWS, BT, BITS
        )  # fmt: skip
        _finish(progress + 1 + place, ASM)
        item = share_number(due, ASM)
    refill_table(down_table, WARPS, BITS, ASM)
    item -= ups
    while item < count_groups * DOWNS:
        due = take_number(progress, ASM)
        place, expert, start, count = _group(groups, G, g, rank, item // DOWNS)
        strip = item % DOWNS * (W * DOWN_ROWS)
        unit = ((expert * (H // 16) + strip).to(tl.int64) + warp) * DOWN_BLOCKS
        ahead = load_strips(down_words, down_scales, unit, W * DOWN_BLOCKS, DOWN_ROWS, W, DOWN_U, BITS)
        source = tl.load(pairs + start + row, mask=row < count, other=0)
        at = inner + source[:, None].to(tl.int64) * I + tl.arange(0, 32)[None, :]
        _await(progress + 1 + place, UPS * WARPS, ASM)
        sums = strip_sums(
            at, (row < count)[:, None], down_words, down_scales, unit, ahead, lane, down_table, DOWN_BLOCKS, W, 1,
            DOWN_ROWS, DOWN_U, BT, BITS, ASM, BITS == 8,
        )  # fmt: skip
        _store_parts(
            sums, pairs, start, count, expert, strip, down_scales, down_table, out, H, W, DOWN_ROWS, BT, BITS
        )  # fmt: skip
        item = share_number(due, ASM) - ups


def grouped_product(
    x: Tensor, pairs: Pairs, gate_up: FragmentWeight, down: FragmentWeight, inner: Tensor, parts: Tensor, *, chosen: int
) -> None:
    """parts fp32 [P, H]: every pair's expert output, route weight applied. x fp16 [T, H]; inner fp16 [P, I] is scratch.
    pairs.progress is zero before, and not after. A few tokens take the products one by one, and so do weights whose
    formats differ."""
    if gate_up.kind != down.kind or len(pairs.ids) <= launch.ONE_BY_ONE * chosen:
        strips_product(x, pairs, gate_up, down, inner, parts, chosen=chosen)
        return
    x, chosen = ordered_pairs(x, gate_up, pairs.order, groups_of(pairs), chosen, plane=False)
    shape = launch.stream_shape(gate_up, down)
    groups = pairs.groups.shape[1]
    stream_kernel[(launch.stream_blocks(x),)](
        x, inner, parts, pairs.order, pairs.groups, pairs.progress, gate_up.words, gate_up.scales, gate_up.table,
        down.words, down.scales, down.table, pairs.weights, groups, I=down.columns, H=down.rows, C=chosen,
        GP=triton.next_power_of_2(groups), BT=pairs.size, BITS=gate_up.kind, **shape, **launch.options(x, "stream"),
    )  # fmt: skip
