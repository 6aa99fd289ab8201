"""Codes of 8 bits as fp16, a layer at a time, for prefills: a tile of queries reads them often enough.

Axis letters as in `kernels.attention`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.attention.entries import coding, part_of, power_of, widened


@triton.jit
def _expand(codes, wide, block, kv, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, CODES: tl.constexpr):
    i = tl.arange(0, B)[:, None]
    at = i * D + tl.arange(0, D)[None, :]
    part = codes + part_of(block, kv, KH, D, B, CODES)
    scale = tl.exp2(power_of(tl.load(part + B * D + i), CODES))
    value = widened(tl.load(part + at), CODES).to(tl.float32) * scale
    tl.store(wide + part_of(block, kv, KH, D, B, 0) + at, value.to(tl.float16))


@triton.jit
def expand_kernel(
    keys, values, wide_keys, wide_values, table, slots, positions, firsts, counts, M,
    KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, CODES: tl.constexpr,
):  # fmt: skip
    """Grid (M, tiles, KH): a head's part of a block of the row whose last tile that is; codes uint8, wide fp16."""
    place = tl.program_id(0)
    tile = tl.program_id(1)
    kv = tl.program_id(2)
    first = tl.load(firsts + tile)
    count = tl.load(counts + tile)
    slot = tl.load(slots + first)
    more = tile + 1 < tl.num_programs(1)
    following = tl.load(firsts + tile + 1, mask=more, other=0)
    more = more & (tl.load(counts + tile + 1, mask=more, other=0) > 0)
    last = tl.load(slots + following, mask=more, other=-1) != slot
    if (count > 0) & last & (place * B < tl.load(positions + first) + count):
        block = tl.load(table + slot * M + place)
        _expand(keys, wide_keys, block, kv, KH, D, B, CODES)
        _expand(values, wide_values, block, kv, KH, D, B, CODES)


def wide_of(cache: Cache) -> Cache:
    """Room for a layer in fp16, under the same numbers of blocks."""
    kv_heads, size, dim = cache.sizes
    shape = 2, cache.keys.shape[0], kv_heads, size, dim
    return Cache(*torch.empty(shape, dtype=torch.float16, device=cache.keys.device), cache.table)


def expand(cache: Cache, step: Step, firsts: torch.Tensor, counts: torch.Tensor, wide: Cache) -> None:
    """What the rows of those tiles have in the cache so far, into `wide`."""
    kv_heads, size, dim = cache.sizes
    expand_kernel[(cache.table.shape[1], len(firsts), kv_heads)](
        cache.keys, cache.values, wide.keys, wide.values, cache.table, step.slots, step.positions, firsts, counts,
        cache.table.shape[1], KH=kv_heads, D=dim, B=size, CODES=coding(cache.keys), num_warps=8,
    )  # fmt: skip
