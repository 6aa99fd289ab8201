"""Attention of many tokens on Hopper, in Gluon: one warp asks for keys and values, two groups of four multiply.

Each group has half of a tile's queries and goes its own way, so that one multiplies while the other is at its softmax;
within a group the next scores and the last sums are under way together.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

KEYS = 128
"""Keys of a turn."""
STAGES = 2
"""Turns of keys, and of values, that have room."""
LAYOUT = gl.NVMMASharedLayout(128, 16, 2)


def described(query: Tensor, keys: Tensor, values: Tensor, dim: int, tile: int) -> tuple[Any, Any, Any]:
    """What the copy engine is told of query [T, N D] and of keys and values [..., D]."""
    return (
        TensorDescriptor.from_tensor(query, [tile // 2, dim], LAYOUT),
        TensorDescriptor.from_tensor(keys.view(-1, dim), [KEYS, dim], LAYOUT),
        TensorDescriptor.from_tensor(values.view(-1, dim), [KEYS, dim], LAYOUT),
    )


@gluon.jit
def _softmax(score, tile, begin, best, total, scale, ROWS: gl.constexpr, BK: gl.constexpr, MMA: gl.constexpr):
    """Maxima and sums after one tile more, its weights, and what shrinks sums of tiles before. `begin`: the first
    query's position."""
    if (tile + 1) * BK > begin + 1:
        s = tile * BK + gl.arange(0, BK, layout=gl.SliceLayout(0, MMA))
        i = gl.arange(0, ROWS, layout=gl.SliceLayout(1, MMA))
        score = gl.where(s[None, :] <= begin + i[:, None], score, -float("inf"))
    top = gl.maximum(best, gl.max(score, axis=1) * scale)
    p = gl.exp2(score * scale - top[:, None])
    shrink = gl.exp2(best - top)
    total = total * shrink + gl.sum(p, axis=1)
    return top, total, p.to(gl.float16), shrink


@gluon.jit
def _multiply(
    part: gl.constexpr, queries, held_keys, held_values, full, empty, asked, out, first, count, begin, last, head,
    scale, N: gl.constexpr, D: gl.constexpr, BQ: gl.constexpr, BK: gl.constexpr, S: gl.constexpr,
):  # fmt: skip
    """Half of a tile's queries over all keys."""
    ROWS: gl.constexpr = BQ // 2
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BK, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, OUT, 2)
    STORED: gl.constexpr = gl.BlockedLayout([1, 8], [256 // D, D // 8], [4, 1], [1, 0])
    own = begin + part * ROWS
    q = queries.index(part)
    nothing = gl.zeros([ROWS, BK], gl.float32, layout=MMA)
    best = gl.full([ROWS], -float("inf"), gl.float32, layout=gl.SliceLayout(1, MMA))
    total = gl.zeros([ROWS], gl.float32, layout=gl.SliceLayout(1, MMA))
    acc = gl.zeros([ROWS, D], gl.float32, layout=OUT)
    mbarrier.wait(asked, 0)
    mbarrier.wait(full.index(0), 0)
    score = warpgroup_mma(q, held_keys.index(0).permute((1, 0)), nothing, use_acc=False, is_async=True)
    score = warpgroup_mma_wait(0, deps=[score])
    mbarrier.arrive(empty.index(0))
    best, total, p, _ = _softmax(score, 0, own, best, total, scale, ROWS, BK, MMA)
    p = gl.convert_layout(p, WEIGHTS)
    for j in range(last):
        k = (j + 1) % S
        v = j % S
        mbarrier.wait(full.index(k), (j + 1) // S & 1)
        score = warpgroup_mma(q, held_keys.index(k).permute((1, 0)), nothing, use_acc=False, is_async=True)
        mbarrier.wait(full.index(S + v), j // S & 1)
        sums = warpgroup_mma(p, held_values.index(v), acc, is_async=True)
        score = warpgroup_mma_wait(1, deps=[score])
        mbarrier.arrive(empty.index(k))
        best, total, p, shrink = _softmax(score, j + 1, own, best, total, scale, ROWS, BK, MMA)
        p = gl.convert_layout(p, WEIGHTS)
        shrink = gl.convert_layout(shrink, gl.SliceLayout(1, OUT))
        acc, p, shrink, total = warpgroup_mma_wait(0, deps=[sums, p, shrink, total])  # not before the softmax
        mbarrier.arrive(empty.index(S + v))
        acc = acc * shrink[:, None]
    mbarrier.wait(full.index(S + last % S), last // S & 1)
    sums = warpgroup_mma(p, held_values.index(last % S), acc, is_async=True)
    acc = warpgroup_mma_wait(0, deps=[sums])
    acc = (acc / gl.convert_layout(total, gl.SliceLayout(1, OUT))[:, None]).to(out.dtype.element_ty)
    acc = gl.reshape(acc, [ROWS, D // 64, 2, 4, 2, 2, 2])
    acc = gl.reshape(gl.permute(acc, [0, 1, 2, 4, 5, 3, 6]), [ROWS, D])  # plane order
    acc = gl.convert_layout(acc, STORED)
    i = part * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, STORED))
    d = gl.arange(0, D, layout=gl.SliceLayout(0, STORED))
    row = (first + i).to(gl.int64)
    gl.store(out + row[:, None] * (N * D) + head * D + d[None, :], acc, mask=(i < count)[:, None])


@gluon.jit
def _ask(
    queries, held_keys, held_values, full, empty, asked, query, keys, values, blocks, first, last, head,
    KH: gl.constexpr, D: gl.constexpr, B: gl.constexpr, G: gl.constexpr, BQ: gl.constexpr, BK: gl.constexpr,
    S: gl.constexpr,
):  # fmt: skip
    """Queries once, then keys and values of every tile as soon as there is room."""
    mbarrier.expect(asked, BQ * D * 2)
    tma.async_copy_global_to_shared(query, [first, head * D], asked, queries.index(0))
    tma.async_copy_global_to_shared(query, [first + BQ // 2, head * D], asked, queries.index(1))
    for j in range(last + 1):
        place = (gl.load(blocks + j * BK // B) * KH + head // G) * B + j * BK % B
        slot = j % S
        mbarrier.wait(empty.index(slot), j // S & 1 ^ 1)
        mbarrier.expect(full.index(slot), BK * D * 2)
        tma.async_copy_global_to_shared(keys, [place, 0], full.index(slot), held_keys.index(slot))
        mbarrier.wait(empty.index(S + slot), j // S & 1 ^ 1)
        mbarrier.expect(full.index(S + slot), BK * D * 2)
        tma.async_copy_global_to_shared(values, [place, 0], full.index(S + slot), held_values.index(slot))


@gluon.jit
def hopper_attention_kernel(
    query, keys, values, table, slots, positions, firsts, counts, out, M, scale,
    N: gl.constexpr, KH: gl.constexpr, D: gl.constexpr, B: gl.constexpr, G: gl.constexpr, BQ: gl.constexpr,
    BK: gl.constexpr, S: gl.constexpr,
):  # fmt: skip
    """As `tile_attention.tile_attention_kernel`, with descriptors of query [T, N D] in tiles of [BQ/2, D] and of keys
    and values [blocks KH B, D] in tiles of [BK, D]."""
    tile = gl.num_programs(1) - 1 - gl.program_id(1)  # a row's last tiles have the most keys: they begin first
    head = gl.program_id(0)
    count = gl.load(counts + tile)
    if count > 0:
        first = gl.load(firsts + tile)
        begin = gl.load(positions + first)
        blocks = table + gl.load(slots + first) * M
        last = (begin + count - 1) // BK
        queries = gl.allocate_shared_memory(gl.float16, [2, BQ // 2, D], query.layout)
        held_keys = gl.allocate_shared_memory(gl.float16, [S, BK, D], keys.layout)
        held_values = gl.allocate_shared_memory(gl.float16, [S, BK, D], values.layout)
        full = gl.allocate_shared_memory(gl.int64, [2 * S, 1], mbarrier.MBarrierLayout())
        empty = gl.allocate_shared_memory(gl.int64, [2 * S, 1], mbarrier.MBarrierLayout())
        asked = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
        mbarrier.init(asked, 1)
        for s in gl.static_range(2 * S):
            mbarrier.init(full.index(s), 1)
            mbarrier.init(empty.index(s), 2)
        gl.warp_specialize(
            [
                (
                    _multiply,
                    (0, queries, held_keys, held_values, full, empty, asked, out, first, count, begin, last, head,
                     scale, N, D, BQ, BK, S),
                ),
                (
                    _multiply,
                    (1, queries, held_keys, held_values, full, empty, asked, out, first, count, begin, last, head,
                     scale, N, D, BQ, BK, S),
                ),
                (
                    _ask,
                    (queries, held_keys, held_values, full, empty, asked, query, keys, values, blocks, first, last,
                     head, KH, D, B, G, BQ, BK, S),
                ),
            ],
            [4, 1], [240, 24],
        )  # fmt: skip
