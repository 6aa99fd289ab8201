"""The experts' products of many tokens where a warp multiplies alone, in Gluon: cards from the A100 to before Hopper.

Each of four warps decodes two of every eight row tiles into operands, which no other warp needs; tokens and words come
by asynchronous copies, some turns ahead. Axis letters as in prefill.py.
"""

from __future__ import annotations

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.units import _fill_assembly
from engine.model.kernels.products.prefill_hopper import _operand, _rows, _store
from engine.model.kernels.routing.groups import Groups

TOKENS = 64
"""Tokens of a tile; where a group has no more than half of them, half are multiplied."""
ROW_TILES = 8
STAGES = 3
"""Turns of 64 columns that have room: with the table two blocks of 4 bits fit a multiprocessor of an A100."""
BITS = 4
"""Of weights in 8 and 16 bits it was not measured."""
LEAST = 32
"""Tokens of a group from which on this is used."""
_FILL = gl.constexpr(_fill_assembly(128))


@gluon.jit
def _ask(
    held_x, held_w, slot, at, live, words, b, R: gl.constexpr, BLOCKS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """One turn's tokens and words, or nothing where there is no such turn: a group of copies in any case."""
    if b < BLOCKS:
        async_copy.async_copy_global_to_shared(held_x.index(slot), at + b * 64, live)
        async_copy.async_copy_global_to_shared(held_w.index(slot), words + b * (64 * BITS))
    async_copy.commit_group()


@gluon.jit
def _scale(row_scales, b, BLOCKS: gl.constexpr):
    """Each row's scale in block b of the columns, or in the last."""
    return gl.load(row_scales + gl.minimum(b, BLOCKS - 1) * 16)


@gluon.jit
def _tile(
    held_x, held_w, lane, x, sources, start, count, expert, tile, words, scales, table, weights, out,
    N: gl.constexpr, K: gl.constexpr, C: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """R row tiles of one expert for BT tokens."""
    BLOCKS: gl.constexpr = K // 64
    MMA: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [4, 1], [16, 8])
    OPERAND: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    OTHER: gl.constexpr = gl.DotOperandLayout(1, MMA, 2)
    WORDS: gl.constexpr = gl.BlockedLayout([1, 8], [1, 32], [4, 1], [1, 0])
    at, live = _rows(x, sources, 0, start, count, C, K, BT, GATE)
    unit = expert * (N // 16) + tile + gl.arange(0, R, layout=gl.SliceLayout(1, WORDS))
    column = gl.arange(0, 64 * BITS, layout=gl.SliceLayout(0, WORDS))
    own = words + unit.to(gl.int64)[:, None] * (BLOCKS * 64 * BITS) + column[None, :]
    for s in gl.static_range(S - 1):
        _ask(held_x, held_w, s, at, live, own, s, R, BLOCKS, BITS)
    r = gl.arange(0, 16 * R, layout=gl.SliceLayout(1, MMA))
    row_scales = scales + (expert * (N // 16) + tile + r // 16) * (BLOCKS * 16) + r % 16
    now = _scale(row_scales, 0, BLOCKS)
    later = _scale(row_scales, 1, BLOCKS)
    acc = gl.zeros([16 * R, BT], gl.float32, layout=MMA)
    for b in range(BLOCKS):
        async_copy.wait_group(S - 2)
        _ask(held_x, held_w, (b + S - 1) % S, at, live, own, b + S - 1, R, BLOCKS, BITS)
        w = held_w.index(b % S).load(WORDS)
        a = _operand(w, w, (now, 0), lane, table, R, BITS, OPERAND)
        now = later
        later = _scale(row_scales, b + 2, BLOCKS)
        acc = mma_v2(a, held_x.index(b % S).permute((1, 0)).load(OTHER), acc)
    async_copy.wait_group(0)
    _store(acc, 0, sources, start, count, tile, weights, out, N, R, BT, GATE)


@gluon.jit
def ampere_experts_kernel(
    x, sources, experts, starts, counts, words, scales, table, weights, out,
    N: gl.constexpr, K: gl.constexpr, C: gl.constexpr, R: gl.constexpr, BT: gl.constexpr, S: gl.constexpr,
    GATE: gl.constexpr, BITS: gl.constexpr, ASM: gl.constexpr,
):  # fmt: skip
    """Grid (N/16/R, G): as `prefill.experts_kernel`."""
    group = gl.program_id(1)
    count = gl.load(counts + group)
    if count > 0:
        address = table.to(gl.uint64, bitcast=True)
        lane = gl.inline_asm_elementwise(_FILL, "=r,l", [address], dtype=gl.int32, is_pure=False, pack=1)
        start = gl.load(starts + group)
        expert = gl.load(experts + group)
        tile = gl.program_id(0) * R
        PLACES: gl.constexpr = gl.SwizzledSharedLayout(8, 1, 8, [1, 0])
        STRAIGHT: gl.constexpr = gl.SwizzledSharedLayout(8, 1, 1, [1, 0])
        held_w = gl.allocate_shared_memory(gl.int16, [S, R, 64 * BITS], STRAIGHT)
        if count > BT // 2:
            held = gl.allocate_shared_memory(x.dtype.element_ty, [S, BT, 64], PLACES)
            _tile(
                held, held_w, lane, x, sources, start, count, expert, tile, words, scales, table, weights, out,
                N, K, C, R, BT, S, GATE, BITS,
            )  # fmt: skip
        else:
            few = gl.allocate_shared_memory(x.dtype.element_ty, [S, BT // 2, 64], PLACES)
            _tile(
                few, held_w, lane, x, sources, start, count, expert, tile, words, scales, table, weights, out,
                N, K, C, R, BT // 2, S, GATE, BITS,
            )  # fmt: skip


def suits(x: Tensor, *weights: FragmentWeight) -> bool:
    """Whether `experts_product` computes this, and here."""
    return launch.is_ampere(x) and all(
        weight.kind == BITS and weight.columns >= 64 * STAGES and weight.copies_in(ROW_TILES) for weight in weights
    )


def experts_product(
    x: Tensor, pairs: Tensor, weights: Tensor, groups: Groups, gate_up: FragmentWeight, down: FragmentWeight,
    inner: Tensor, parts: Tensor,
    *, chosen: int,
) -> None:  # fmt: skip
    """As `prefill.experts_product`, in groups of at most TOKENS."""
    for source, weight, out in ((x, gate_up, inner), (inner, down, parts)):
        launch.start(
            ampere_experts_kernel, (weight.rows // 16 // ROW_TILES, len(groups.count)), source, pairs, groups.expert,
            groups.start, groups.count, weight.words, weight.scales, weight.table, weights, out, N=weight.rows,
            K=weight.columns, C=chosen, R=ROW_TILES, BT=TOKENS, S=STAGES, GATE=weight is gate_up,
            BITS=BITS, ASM=True, num_warps=4,
        )  # fmt: skip
