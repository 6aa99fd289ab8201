"""Attention of many tokens: query tiles of one row over that row's cache, without the score matrix.

The online softmax is FlashAttention's (arXiv 2205.14135). Axis letters: T tokens, N heads, D head size.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.attention import tile_attention_hopper
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.attention.entries import coding, part_of
from engine.model.kernels.attention.expanding import expand, wide_of
from engine.model.kernels.device import launch
from engine.model.kernels.device.plane import place_of, plane_order

QUERY_TILE = 128


class Tiles(NamedTuple):
    """Query tiles: consecutive tokens of one row. int32 [tiles] each."""

    first: Tensor
    count: Tensor


@triton.jit
def tile_attention_kernel(
    query, keys, values, table, slots, positions, firsts, counts, out, M, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, BQ: tl.constexpr,
    BK: tl.constexpr,
):  # fmt: skip
    """Grid (N, tiles). out of 16 bits [T, N D] in plane order. BK divides B: see `attention.attention_kernel`."""
    tile = tl.num_programs(1) - 1 - tl.program_id(1)  # a row's last tiles have the most keys: they begin first
    head = tl.program_id(0)
    count = tl.load(counts + tile)
    if count > 0:
        first = tl.load(firsts + tile)
        begin = tl.load(positions + first)
        blocks = table + tl.load(slots + first) * M
        block = tl.load(blocks)
        i = tl.arange(0, BQ)
        d = tl.arange(0, D)
        row = (first + i).to(tl.int64)
        q = tl.load(query + row[:, None] * (N * D) + head * D + d[None, :], mask=(i < count)[:, None], other=0.0)
        best = tl.full([BQ], -float("inf"), tl.float32)
        total = tl.zeros([BQ], tl.float32)
        acc = tl.zeros([BQ, D], tl.float32)
        end = begin + count
        j = tl.arange(0, BK)[:, None]
        for at in tl.range(0, end, BK):
            s = at + tl.arange(0, BK)
            inside = (s < end)[:, None]
            place = part_of(block, head // G, KH, D, B, 0) + (at % B + j) * D + d[None, :]
            block = tl.load(blocks + (at + BK) // B, mask=at + BK < end, other=0)
            k = tl.load(keys + place, mask=inside, other=0)
            v = tl.load(values + place, mask=inside, other=0)
            score = tl.dot(q, tl.trans(k))
            if at + BK > begin:
                score = tl.where(s[None, :] <= begin + i[:, None], score, -float("inf"))
            top = tl.maximum(best, tl.max(score, axis=1) * scale)
            p = tl.exp2(score * scale - top[:, None])
            shrink = tl.exp2(best - top)
            total = total * shrink + tl.sum(p, axis=1)
            acc = tl.dot(p.to(tl.float16), v, acc * shrink[:, None])
            best = top
        column = place_of(head * D + d)
        tl.store(
            out + row[:, None] * (N * D) + column[None, :],
            (acc / total[:, None]).to(out.dtype.element_ty),
            mask=(i < count)[:, None],
        )


def tile_attention(
    query: Tensor, cache: Cache, step: Step, tiles: Tiles, out: Tensor, wide: Cache | None = None
) -> None:
    """out of 16 bits [T, N D] in plane order: each token over its slot up to its own position. Codes are first made
    fp16 in `wide` (`expanding.wide_of`; made anew where it is not given)."""
    if coding(cache.keys):
        wide = wide or wide_of(cache)
        expand(cache, step, *tiles, wide)
        cache = wide
    kv_heads, size, dim = cache.sizes
    heads = query.shape[1] // dim
    rest = (cache.table, step.slots, step.positions, *tiles, out, cache.table.shape[1], dim**-0.5 * 1.4426950408889634)
    sizes = {"N": heads, "KH": kv_heads, "D": dim, "B": size, "G": heads // kv_heads, "BQ": QUERY_TILE}
    grid = (heads, len(tiles.first))
    if launch.is_hopper(query) and dim == 128 and size % tile_attention_hopper.KEYS == 0:
        tile_attention_hopper.hopper_attention_kernel[grid](
            *tile_attention_hopper.described(query, cache.keys, cache.values, dim, QUERY_TILE), *rest, **sizes,
            BK=tile_attention_hopper.KEYS, S=tile_attention_hopper.STAGES, num_warps=4,
        )  # fmt: skip
        return
    tile_attention_kernel[grid](
        query, cache.keys, cache.values, *rest, **sizes, BK=64, num_warps=8,
        num_stages=launch.stages(query, dim),
    )  # fmt: skip


def tile_attention_reference(
    query: Tensor, cache: Cache, step: Step, tiles: Tiles, out: Tensor, wide: Cache | None = None
) -> None:
    kv_heads, _, dim = cache.sizes
    order = plane_order(query.shape[1], query.device)
    for first, count in zip(tiles.first.tolist(), tiles.count.tolist(), strict=True):
        for token in range(first, first + count):
            slot, length = int(step.slots[token]), int(step.positions[token]) + 1
            q = query[token].float().view(kv_heads, -1, dim)
            k, v = cache.entries(slot, length)
            mixed = (q @ k.transpose(-1, -2) * dim**-0.5).softmax(-1) @ v
            out[token] = mixed.reshape(-1)[order].to(out.dtype)
