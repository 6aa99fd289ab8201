"""Rotary positions, the cache's new entries and attention of a few tokens, in one launch.

What a row's cache held before the step is known, so every block asks for its stretch of it before it waits for the
products. What the step's own tokens add is made from their products by whoever needs it and never read back, so that no
block waits for another: each token has a block for them alone. Axis letters as in `kernels.attention`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.attention.attention import (
    Cache,
    HeadNorm,
    Scratch,
    Step,
    attention_reference,
    rope_reference,
    splits,
)
from engine.model.kernels.attention.entries import coding, part_of
from engine.model.kernels.attention.joining import hand_in, take_part
from engine.model.kernels.attention.turning import floor_of, gains, halves, own_entries, own_values, shared_out, turned
from engine.model.kernels.attention.walk_few import walk_few
from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous

LEAST_HEAD = 32
"""The smallest head, since products take its halves, of 16 columns at least."""
FAR, FAR_IN_CODES = 80_000, 16_000
"""Positions that the heads of a step's tokens have together, as many as the longest cache has for each, from which on
warps that walk by themselves are faster than those that share a block's turns; over codes, eight than four."""
OWN = 16
"""The step's own tokens that a block makes entries of: as many as a product takes, and more than there can be."""


@triton.jit
def _entries(
    keys, values, block, kv, at, end, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    """Both halves of the keys [BK, D/2] and the values [BK, D] of positions from `at` on that are before `end`, in that
    block of the cache."""
    inside = (at + tl.arange(0, BK) < end)[:, None]
    place = part_of(block, kv, KH, D, B, 0) + (at % B + tl.arange(0, BK)[:, None]) * D
    i = tl.arange(0, D // 2)[None, :]
    first = tl.load(keys + place + i, mask=inside, other=0)
    second = tl.load(keys + place + D // 2 + i, mask=inside, other=0)
    value = tl.load(values + place + tl.arange(0, D)[None, :], mask=inside, other=0)
    return first, second, value


@triton.jit
def _turn(q_first, q_second, k_first, k_second, value, inside, best, total, acc, scale):
    """Maxima, sums and averages [MP], [MP], [MP, D] of a softmax after keys and values of BK positions more; heads come
    in halves."""
    score = tl.dot(q_second, tl.trans(k_second), tl.dot(q_first, tl.trans(k_first))) * scale
    score = tl.where(inside[None, :], score, -float("inf"))
    top = tl.maximum(best, tl.max(score, axis=1))
    p = tl.exp2(score - top[:, None])
    shrink = tl.exp2(best - top)
    total = total * shrink + tl.sum(p, axis=1)
    return top, total, acc * shrink[:, None] + tl.dot(p.to(tl.float16), value)


@triton.jit
def attend_few_kernel(
    qkv, bias, q_gain, k_gain, cosine, sine, slots, positions, live, keys, values, table, acc_parts, stat_parts,
    arrived, out, M, eps, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, GP: tl.constexpr,
    MP: tl.constexpr, BK: tl.constexpr, SP: tl.constexpr, LEAST: tl.constexpr, J: tl.constexpr, T: tl.constexpr,
    R: tl.constexpr, LD: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, KH, 1 + SP). qkv fp32 [T, (N + 2 KH) D], rows LD apart; out fp16 [T, N D]. The first block has the
    step's own tokens, each of the others a stretch of the cache, whose first keys and values are in registers before
    the wait. BK divides B, so that the keys of a turn lie in one block of the cache."""
    HALF: tl.constexpr = D // 2
    token = tl.program_id(0)
    kv = tl.program_id(1)
    split = tl.program_id(2)
    release_next(PDL)
    position = tl.load(positions + token)
    slot = tl.load(slots + token)
    floor = position
    if T > 1:
        floor = floor_of(slots, positions, token, slot, position, T)
    blocks = table + slot * M
    stretch, active = shared_out(floor, SP, LEAST, BK)
    if (split < active) & (token < tl.load(live)):
        begin = tl.where(split > 0, (split - 1) * stretch, floor)
        end = tl.minimum(begin + stretch, floor)
        block = tl.load(blocks + begin // B, mask=begin < end, other=0)
        i = tl.arange(0, HALF)[None, :]
        d = tl.arange(0, D)[None, :]
        cos = tl.load(cosine + position * HALF + i)
        sin = tl.load(sine + position * HALF + i)
        own = floor + tl.arange(0, R)
        mates = ((own <= position) & (split == 0))[:, None]
        own_cos = tl.load(cosine + own[:, None] * HALF + i, mask=mates, other=0.0)
        own_sin = tl.load(sine + own[:, None] * HALF + i, mask=mates, other=0.0)
        query_gains = gains(q_gain, i, D)
        own_gains = gains(k_gain, i, D)
        ahead = _entries(keys, values, block, kv, begin, end, KH, D, B, BK)
        block = tl.load(blocks + (begin + BK) // B, mask=begin + BK < end, other=0)
        wait_for_previous(PDL)
        due = take_part(arrived + token * KH + kv, active, ASM)
        rows = qkv + token * LD
        g = (kv * G + tl.arange(0, MP))[:, None] * D
        inside = (tl.arange(0, MP) < G)[:, None]
        query_a, query_b = halves(rows + g, i, inside, D)
        # asked for before the query is turned, where the block has any: the two do not wait for each other
        key, raw_a, raw_b, raw_value = own_entries(rows, own, position, kv, i, d, mates, N, KH, D, LD)
        qa, qb = turned(query_a, query_b, bias, query_gains, g, i, inside, cos, sin, eps, D, NORM, BIAS)
        best = tl.full([MP], -float("inf"), tl.float32)
        total = tl.zeros([MP], tl.float32)
        acc = tl.zeros([MP, D], tl.float32)
        for at in tl.range(begin, end, BK, num_stages=1):
            first, second, value = ahead
            ahead = _entries(keys, values, block, kv, at + BK, end, KH, D, B, BK)
            block = tl.load(blocks + (at + 2 * BK) // B, mask=at + 2 * BK < end, other=0)
            best, total, acc = _turn(
                qa, qb, first, second, value, at + tl.arange(0, BK) < end, best, total, acc, scale
            )  # fmt: skip
        if split == 0:
            ka, kb = turned(raw_a, raw_b, bias, own_gains, key, i, mates, own_cos, own_sin, eps, D, NORM, BIAS)
            new = own_values(raw_value, bias, key, d, mates, KH, D, BIAS)
            mine = (own == position)[:, None]
            part = part_of(tl.load(blocks + position // B), kv, KH, D, B, 0)
            there = part + (position % B + own * 0)[:, None] * D
            tl.store(keys + there + i, ka, mask=mine)
            tl.store(keys + there + HALF + i, kb, mask=mine)
            tl.store(values + there + d, new, mask=mine)
            best, total, acc = _turn(qa, qb, ka, kb, new, own <= position, best, total, acc, scale)
        hand_in(
            best, total, acc, acc_parts, stat_parts, arrived, due, out, token, kv, split, active, N, KH, D, G, GP, MP,
            1 + SP, J, WARPS, ASM,
        )  # fmt: skip


def are_long(tokens: int, cache: Cache, longest: int) -> bool:
    """Whether rows of up to so many positions are, for `Step.far`; larger heads have no other way."""
    kv_heads, _, dim = cache.sizes
    return dim <= 128 and tokens * kv_heads * longest > (FAR_IN_CODES if cache.in_codes else FAR)


def attend_few(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch,
    query: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """out fp16 [T, N D] and the tokens' cache entries, from qkv fp32 [T, (N + 2K) D]. A row's tokens follow one
    another, in the order of their positions. turns: cos and sin, fp32 [positions, D/2]. `query` fp16 [T, N D] is
    scratch of the reference."""
    kv_heads, size, dim = cache.sizes
    tokens, heads = out.shape[0], out.shape[1] // dim
    padded = scratch.acc.shape[2]
    if coding(cache.keys) or (step.far and tokens > 1):
        walk_few(qkv, norm, turns, step, cache, scratch, out)
        return
    shape = launch.few_attention(qkv, tokens, kv_heads, dim, splits(tokens, kv_heads))
    attend_few_kernel[(tokens, kv_heads, 1 + shape["SP"])](
        qkv, qkv if norm.bias is None else norm.bias, qkv if norm.query is None else norm.query,
        qkv if norm.key is None else norm.key, *turns, step.slots, step.positions, step.live, *cache, scratch.acc,
        scratch.stats, scratch.arrived, out, cache.table.shape[1], norm.eps, dim**-0.5 * 1.4426950408889634,
        N=heads, KH=kv_heads, D=dim, B=size, G=heads // kv_heads, GP=padded, MP=max(16, padded),
        T=tokens, R=OWN, LD=qkv.stride(0), NORM=norm.query is not None, BIAS=norm.bias is not None, **shape,
        **launch.options(qkv, "attend_few"),
    )  # fmt: skip


def attend_few_reference(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch,
    query: Tensor, out: Tensor,
) -> None:  # fmt: skip
    rope_reference(qkv, norm, turns, step, query, cache)
    attention_reference(query, cache, step, scratch, out)
