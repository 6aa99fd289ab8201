"""The experts' products of many tokens on Hopper, in Gluon: four warps ask for activations and weights, two groups of
four decode and multiply.

Each group has half of the rows of a tile, at its own pace, so that one decodes while the other multiplies. Blocks stay
on the card and take tile after tile, so that the next one's input comes during this one's last sums. Axis letters as in
prefill.py.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from engine.model.kernels.device import launch
from engine.model.kernels.device.forms import load_groups
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.units import HALF_SCALE, _fill_assembly, decode, row_factors, sum_scales
from engine.model.kernels.routing.groups import Groups

TOKENS = 128
"""Tokens of a tile; where a group has no more than half of them, half are multiplied."""
ROW_TILES = 16
"""Row tiles of a tile, half of them each group's."""
STAGES = {4: 7, 5: 7, 6: 7, 8: 6, 16: 4}
"""Turns of 64 columns that have room, by bits."""
ASKING = gl.constexpr(4)
"""Warps that ask."""
LEAST = {4: 64, 5: 64, 6: 64, 8: 64, 16: 32}
"""Tokens of a group (`group_size`) from which on this is faster than `prefill.experts_kernel`, by bits; measured."""
LAYOUT = gl.NVMMASharedLayout(128, 16, 2)
_SCALED = gl.constexpr("mul.rn.f16x2 $0, $1, $2;")


@gluon.constexpr_function
def _more(kind: int) -> int:
    """Bits of codes beyond 4 that lie apart, behind the low nibbles (`fragments.fragment_wide`)."""
    return kind % 32 - 4 if kind % 32 in (5, 6) else 0


@gluon.jit
def _beside(
    scales, expert, tile, b, N: gl.constexpr, K: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, BITS: gl.constexpr
):
    """What units of R row tiles are decoded with, of column block b or the last: their rows' scales, and their groups',
    a lane each; zeros where they have none."""
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BT, 16])
    LANES: gl.constexpr = gl.BlockedLayout([1, 1], [1, 32], [4, 1], [1, 0])
    BLOCKS: gl.constexpr = K // 64
    first = (expert * (N // 16) + tile) * BLOCKS
    b = gl.minimum(b, BLOCKS - 1)
    r = gl.arange(0, 16 * R, layout=gl.SliceLayout(1, MMA))
    scale = 0
    groups = ((0, 0), (0, 0, 0, 0))
    if BITS == 4:
        scale = gl.load(scales + (first + r // 16 * BLOCKS) * 16 + r % 16 + b * 16)
    elif (BITS >> 16) & 1:
        scale = sum_scales(scales, first + r // 16 * BLOCKS + b, r % 16, BITS)
    if (BITS >> 5) & 3 and ((BITS >> 10) & 3 or ((BITS >> 16) & 1) == 0):
        unit = first + gl.arange(0, R, layout=gl.SliceLayout(1, LANES)) * BLOCKS + b
        lane = gl.expand_dims(gl.arange(0, 32, layout=gl.SliceLayout(0, LANES)), 0)
        groups = load_groups(scales, unit, BITS, 0, 1, lane)
    return scale, groups


@gluon.jit
def _operand(w, upper, beside, lane, table, R: gl.constexpr, BITS: gl.constexpr, OPERAND: gl.constexpr):
    """Units of R row tiles as an operand [16 R, 64] in plane order, times their scales. No data moves between
    threads."""
    scale, groups = beside
    w0 = w
    w1 = upper
    w2 = w
    w3 = w
    if (BITS & 31) == 8:
        w0, w1 = gl.split(gl.permute(gl.reshape(w, [R, 2, 256]), [0, 2, 1]))
    if BITS == 16:
        first, second = gl.split(gl.permute(gl.reshape(w, [R, 2, 2, 256]), [0, 3, 2, 1]))
        w0, w1 = gl.split(first)
        w2, w3 = gl.split(second)
    if BITS > 31:
        UNITS: gl.constexpr = gl.BlockedLayout([1, 8], [1, 32], [4, 1], [1, 0])  # what `by_rows` gives
        w0 = gl.convert_layout(w0, UNITS, assert_trivial=True)
        w1 = gl.convert_layout(w1, UNITS, assert_trivial=True)
        w2, w3 = groups
    a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, R, BITS, True)
    a = gl.join(gl.join(a0, a2), gl.join(a1, a3))  # R, (g t h half i), p high, p low
    a = gl.reshape(a, [R, 8, 4, 2, 2, 2, 2, 2])
    a = gl.reshape(gl.permute(a, [0, 4, 1, 6, 7, 3, 2, 5]), [16 * R, 64])
    a = gl.convert_layout(a, OPERAND, assert_trivial=True)
    if BITS == 4 or (BITS >> 16) & 1:
        rows = gl.convert_layout(scale.to(gl.float16), gl.SliceLayout(1, OPERAND), assert_trivial=True)
        both = gl.expand_dims(rows, 1).broadcast_to(a.shape)
        a = gl.inline_asm_elementwise(_SCALED, "=r,r,r", [a, both], dtype=gl.float16, is_pure=True, pack=2)
    return a


@gluon.jit
def _store(
    acc, first: gl.constexpr, sources, start, count, tile, weights, out,
    N: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, GATE: gl.constexpr,
):  # fmt: skip
    """Sums of BT tokens from `first` on."""
    if BT > 32:
        both = gl.permute(gl.reshape(acc, [16 * R, 2, BT // 2]), [0, 2, 1])
        low, high = gl.split(both)
        _store(low, first, sources, start, count, tile, weights, out, N, R, BT // 2, GATE)
        _store(high, first + BT // 2, sources, start, count, tile, weights, out, N, R, BT // 2, GATE)
    elif GATE:
        STORED: gl.constexpr = gl.BlockedLayout([8, 1], [R, 32 // R], [1, 4], [0, 1])
        gate, up = gl.split(gl.permute(gl.reshape(acc, [R, 2, 8, BT]), [0, 2, 3, 1]))
        inner = gl.reshape(gate / (1.0 + gl.exp(-gate)) * up, [R // 4, 4, 2, 2, 2, BT])
        inner = gl.convert_layout(gl.reshape(gl.permute(inner, [0, 2, 3, 1, 4, 5]), [8 * R, BT]), STORED)  # plane order
        t = first + gl.arange(0, BT, layout=gl.SliceLayout(0, STORED))
        keep = t < count
        pair = gl.load(sources + start + t, mask=keep, other=0).to(gl.int64)
        weight = gl.load(weights + pair, mask=keep, other=0.0) / HALF_SCALE
        m = tile * 8 + gl.arange(0, 8 * R, layout=gl.SliceLayout(1, STORED))
        at = out + pair[None, :] * (N // 2) + m[:, None]
        gl.store(at, (inner * weight[None, :]).to(out.dtype.element_ty), mask=keep[None, :])
    else:
        WHOLE: gl.constexpr = gl.BlockedLayout([8, 1], [2 * R, 16 // R], [1, 4], [0, 1])
        part = gl.convert_layout((acc * HALF_SCALE).to(out.dtype.element_ty), WHOLE)
        t = first + gl.arange(0, BT, layout=gl.SliceLayout(0, WHOLE))
        keep = t < count
        pair = gl.load(sources + start + t, mask=keep, other=0).to(gl.int64)
        n = tile * 16 + gl.arange(0, 16 * R, layout=gl.SliceLayout(1, WHOLE))
        gl.store(out + pair[None, :] * N + n[:, None], part, mask=keep[None, :])


@gluon.jit
def _halves(held, R: gl.constexpr, WORDS: gl.constexpr):
    """The words of R row tiles, and of R more, from shared memory."""
    w = held.load(gl.BlockedLayout([1, 8 if WORDS > 128 else WORDS // 32], [1, 32], [4, 1], [1, 0]))
    return gl.split(gl.permute(gl.reshape(w, [2, R, WORDS]), [1, 2, 0]))


@gluon.jit
def _each(upper, R: gl.constexpr, BITS: gl.constexpr):
    """int32 [R, 256]: the upper bits of each 32-bit word of low nibbles, twice."""
    upper = upper.to(gl.int32)
    if (BITS & 31) == 5:
        upper = gl.reshape(gl.join(upper, upper >> 8), [R, 128])
    return gl.reshape(gl.join(upper, upper), [R, 256])


@gluon.jit
def _operands(
    held, held_u, lane, table, low_beside, high_beside, R: gl.constexpr, BITS: gl.constexpr, OPERAND: gl.constexpr
):
    """The units of R row tiles, and of R more, from shared memory to operands."""
    MORE: gl.constexpr = _more(BITS)
    low, high = _halves(held, R, 64 * ((BITS & 31) - MORE))
    low_u = low
    high_u = high
    if MORE:
        low_u, high_u = _halves(held_u, R, 64 * MORE)
        low_u = _each(low_u, R, BITS)
        high_u = _each(high_u, R, BITS)
    low_a = _operand(low, low_u, low_beside, lane, table, R, BITS, OPERAND)
    return low_a, _operand(high, high_u, high_beside, lane, table, R, BITS, OPERAND)


@gluon.jit
def _tile(
    part: gl.constexpr, held_x, held_w, held_u, full, empty, lane, sources, start, count, expert, tile, done, scales,
    table, weights, out, N: gl.constexpr, K: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """2 R row tiles of one expert for BT tokens."""
    BLOCKS: gl.constexpr = K // 64
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BT, 16])
    OPERAND: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    r = gl.arange(0, 16 * R, layout=gl.SliceLayout(1, MMA))
    low_acc = gl.zeros([16 * R, BT], gl.float32, layout=MMA)
    high_acc = gl.zeros([16 * R, BT], gl.float32, layout=MMA)
    low_now = _beside(scales, expert, tile, 0, N, K, R, BT, BITS)
    high_now = _beside(scales, expert, tile + R, 0, N, K, R, BT, BITS)
    low_later = _beside(scales, expert, tile, 1, N, K, R, BT, BITS)
    high_later = _beside(scales, expert, tile + R, 1, N, K, R, BT, BITS)
    mbarrier.wait(full.index(done % S), done // S & 1)
    fence_async_shared()
    own = held_w.index(done % S).slice(2 * part * R, 2 * R)
    own_u = held_u.index(done % S).slice(2 * part * R, 2 * R)
    low_a, high_a = _operands(own, own_u, lane, table, low_now, high_now, R, BITS, OPERAND)
    for b in range(BLOCKS):
        slot = (done + b) % S
        x = held_x.index(slot).slice(0, BT).permute((1, 0))
        low_sums = warpgroup_mma(low_a, x, low_acc, is_async=True)
        high_sums = warpgroup_mma(high_a, x, high_acc, is_async=True)
        following = done + gl.minimum(b + 1, BLOCKS - 1)
        mbarrier.wait(full.index(following % S), following // S & 1)
        fence_async_shared()  # here, since it waits for loads of the thread that are under way: scales' are not yet
        own = held_w.index(following % S).slice(2 * part * R, 2 * R)
        own_u = held_u.index(following % S).slice(2 * part * R, 2 * R)
        low_next, high_next = _operands(own, own_u, lane, table, low_later, high_later, R, BITS, OPERAND)
        low_later = _beside(scales, expert, tile, b + 2, N, K, R, BT, BITS)
        high_later = _beside(scales, expert, tile + R, b + 2, N, K, R, BT, BITS)
        # the operands are among what is waited for: else their registers would be free before
        low_acc, high_acc, _, _, low_a, high_a = warpgroup_mma_wait(
            0, deps=[low_sums, high_sums, low_a, high_a, low_next, high_next]
        )
        mbarrier.arrive(empty.index(slot))
    if BITS == 8 or BITS > 31:
        row = expert * N + tile * 16 + r
        low_acc = low_acc * row_factors(scales, table, row, BITS)[:, None]
        high_acc = high_acc * row_factors(scales, table, row + 16 * R, BITS)[:, None]
    _store(low_acc, 0, sources, start, count, tile, weights, out, N, R, BT, GATE)
    _store(high_acc, 0, sources, start, count, tile + R, weights, out, N, R, BT, GATE)


@gluon.jit
def _multiply(
    part: gl.constexpr, held_x, held_w, held_u, full, empty, sources, experts, starts, counts, scales, table, weights,
    out, groups, N: gl.constexpr, K: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """2 R of every tile's 4 R row tiles."""
    TILES: gl.constexpr = N // 64 // R
    lane = gl.inline_asm_elementwise(_LANE, "=r,r", [groups], dtype=gl.int32, is_pure=True, pack=1)
    done = 0
    for work in range(gl.program_id(0), groups * TILES, gl.num_programs(0)):
        group = work // TILES
        count = gl.load(counts + group)
        if count > 0:
            expert = gl.load(experts + group)
            start = gl.load(starts + group)
            tile = (work % TILES * 2 + part) * (2 * R)
            if count > BT // 2:
                _tile(
                    part, held_x, held_w, held_u, full, empty, lane, sources, start, count, expert, tile, done, scales,
                    table, weights, out, N, K, R, BT, S, GATE, BITS,
                )  # fmt: skip
            else:
                _tile(
                    part, held_x, held_w, held_u, full, empty, lane, sources, start, count, expert, tile, done, scales,
                    table, weights, out, N, K, R, BT // 2, S, GATE, BITS,
                )  # fmt: skip
            done += K // 64


@gluon.jit
def _rows(x, sources, first, start, count, C: gl.constexpr, K: gl.constexpr, BT: gl.constexpr, GATE: gl.constexpr):
    """Where the first columns of BT tokens from `first` on are, and which of them there are."""
    ROWS: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    t = first + gl.arange(0, BT, layout=gl.SliceLayout(1, ROWS))
    live = t < count
    pair = gl.load(sources + start + t, mask=live, other=0)
    row = (pair // C if GATE else pair).to(gl.int64)
    return x + row[:, None] * K + gl.arange(0, 64, layout=gl.SliceLayout(0, ROWS))[None, :], live[:, None]


@gluon.jit
def _ask(
    x, words, upper, held_x, held_w, held_u, full, empty, sources, experts, starts, counts, groups,
    N: gl.constexpr, K: gl.constexpr, C: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Activations and weights of tile after tile, as soon as there is room."""
    TILES: gl.constexpr = N // 64 // R
    WORDS: gl.constexpr = 64 * (BITS & 31)
    done = 0
    for work in range(gl.program_id(0), groups * TILES, gl.num_programs(0)):
        group = work // TILES
        count = gl.load(counts + group)
        if count > 0:
            start = gl.load(starts + group)
            low, low_live = _rows(x, sources, 0, start, count, C, K, BT // 2, GATE)
            high, high_live = _rows(x, sources, BT // 2, start, count, C, K, BT // 2, GATE)
            row = gl.load(experts + group) * (N // 16) + work % TILES * (4 * R)
            for b in range(K // 64):
                slot = (done + b) % S
                mbarrier.wait(empty.index(slot), (done + b) // S & 1 ^ 1)
                mbarrier.expect(full.index(slot), 4 * R * 2 * WORDS)
                tma.async_copy_global_to_shared(words, [row, b * WORDS], full.index(slot), held_w.index(slot))
                if _more(BITS):
                    at = b * WORDS + 256
                    tma.async_copy_global_to_shared(upper, [row, at], full.index(slot), held_u.index(slot))
                held = held_x.index(slot)
                async_copy.async_copy_global_to_shared(held.slice(0, BT // 2), low + b * 64, low_live)
                if count > BT // 2:
                    async_copy.async_copy_global_to_shared(held.slice(BT // 2, BT // 2), high + b * 64, high_live)
                async_copy.mbarrier_arrive(full.index(slot), increment_count=False)
            done += K // 64


_LANE = gl.constexpr("{\n.reg .u32 a;\nmov.u32 a, %laneid;\nshl.b32 $0, a, 2;\n}")
_FILL = gl.constexpr(_fill_assembly(128).replace("bar.sync 0;", "bar.sync 0, 128;"))
"""`units.prepare_table`, where the block has more warps than those that fill the table."""


@gluon.jit(do_not_specialize=["groups"])
def hopper_experts_kernel(
    x, words, upper, sources, experts, starts, counts, scales, table, weights, out, groups,
    N: gl.constexpr, K: gl.constexpr, C: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr, ASM: gl.constexpr,
):  # fmt: skip
    """Grid (as many blocks as there are multiprocessors): as `prefill.experts_kernel`, with a descriptor of words
    [E N/16, K bits] in tiles of [4 R, 64 bits]; of 5 and 6 bits one of [4 R, 256], and one of the upper bits'."""
    held_x = gl.allocate_shared_memory(x.dtype.element_ty, [S, BT, 64], words.layout)
    MORE: gl.constexpr = _more(BITS)
    held_w = gl.allocate_shared_memory(gl.int16, [S, 4 * R, 64 * ((BITS & 31) - MORE)], words.layout)
    held_u = held_w
    if MORE:
        held_u = gl.allocate_shared_memory(gl.int16, [S, 4 * R, 64 * MORE], upper.layout)
    full = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [S, 1], mbarrier.MBarrierLayout())
    for s in gl.static_range(S):
        mbarrier.init(full.index(s), 1 + 32 * ASKING)
        mbarrier.init(empty.index(s), 2)
    if BITS == 4 or (BITS >> 15) & 1:
        address = table.to(gl.uint64, bitcast=True)
        gl.inline_asm_elementwise(_FILL, "=r,l", [address], dtype=gl.int32, is_pure=False, pack=1)
    gl.warp_specialize(
        [
            (
                _multiply,
                (0, held_x, held_w, held_u, full, empty, sources, experts, starts, counts, scales, table, weights, out,
                 groups, N, K, R, BT, S, GATE, BITS),
            ),
            (
                _multiply,
                (1, held_x, held_w, held_u, full, empty, sources, experts, starts, counts, scales, table, weights, out,
                 groups, N, K, R, BT, S, GATE, BITS),
            ),
            (
                _ask,
                (x, words, upper, held_x, held_w, held_u, full, empty, sources, experts, starts, counts, groups, N, K,
                 C, R, BT, S, GATE, BITS),
            ),
        ],
        [4, ASKING], [232, 40],
    )  # fmt: skip


def suits(x: Tensor, *weights: FragmentWeight) -> bool:
    """Whether `experts_product` computes this, and here."""
    return launch.is_hopper(x) and all(
        weight.bits in STAGES and weight.columns >= 128 and weight.copies_in(ROW_TILES) for weight in weights
    )


def described(weight: FragmentWeight) -> tuple[Any, Any]:
    """What the copy engine is told of a weight's words, and of the upper bits of codes of 5 and 6."""
    flat = weight.words.view(-1, weight.columns * weight.bits)
    wide = int(_more(weight.bits))
    words = TensorDescriptor.from_tensor(flat, [ROW_TILES, 64 * (weight.bits - wide)], LAYOUT)
    return words, TensorDescriptor.from_tensor(flat, [ROW_TILES, 64 * wide], LAYOUT) if wide else words


def experts_product(
    x: Tensor, pairs: Tensor, weights: Tensor, groups: Groups, gate_up: FragmentWeight, down: FragmentWeight,
    inner: Tensor, parts: Tensor,
    *, chosen: int,
) -> None:  # fmt: skip
    """As `prefill.experts_product`, in groups of at most TOKENS."""
    for source, weight, out in ((x, gate_up, inner), (inner, down, parts)):
        launch.start(
            hopper_experts_kernel, (launch.multiprocessors(x),), source, *described(weight), pairs, groups.expert,
            groups.start, groups.count, weight.scales, weight.table, weights, out, len(groups.count), N=weight.rows,
            K=weight.columns, C=chosen, R=ROW_TILES // 4, BT=TOKENS, S=STAGES[weight.bits], GATE=weight is gate_up,
            BITS=weight.kind, ASM=True, num_warps=4,
        )  # fmt: skip
