"""Rotary positions, the cache's new entry and attention of one token, in one launch.

A lone token's step is a chain of launches, each waiting for the one before. What the cache held before the step is
known, so every block requests its keys and values before it waits for the products; what the token adds to the cache is
turned by the block whose stretch ends with it and never read back. Axis letters as in `kernels.attention`.
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
    hand_in,
    rope_reference,
    splits,
    turn,
)
from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous

LEAST_HEAD = 32
"""The smallest head, since products take its halves, of 16 columns at least."""


@triton.jit
def _place(block, kv, position, KH: tl.constexpr, B: tl.constexpr, D: tl.constexpr):
    """Where a position's entry lies in the cache."""
    return ((block.to(tl.int64) * KH + kv) * B + position % B) * D


@triton.jit
def _old_entries(keys, values, place, at, end, D: tl.constexpr, BK: tl.constexpr):
    """Both halves of the keys [BK, D/2] and the values [BK, D] of positions from `at` on that are before `end`; that of
    `at` lies at `place`."""
    inside = (at + tl.arange(0, BK) < end)[:, None]
    keys += place
    values += place
    row = tl.arange(0, BK)[:, None] * D
    i = tl.arange(0, D // 2)[None, :]
    first = tl.load(keys + row + i, mask=inside, other=0.0)
    second = tl.load(keys + row + D // 2 + i, mask=inside, other=0.0)
    value = tl.load(values + row + tl.arange(0, D)[None, :], mask=inside, other=0.0)
    return first, second, value


@triton.jit
def turned(at, bias, gain, place, keep, cos, sin, eps, D: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr):
    """Both halves, fp16, of heads that begin at `at` [M, 1] of the products: bias, norm and rotation applied."""
    i = tl.arange(0, D // 2)[None, :]
    a = tl.load(at + i, mask=keep, other=0.0)
    b = tl.load(at + D // 2 + i, mask=keep, other=0.0)
    if BIAS:
        a += tl.load(bias + place + i, mask=keep, other=0.0).to(tl.float32)
        b += tl.load(bias + place + D // 2 + i, mask=keep, other=0.0).to(tl.float32)
    if NORM:
        inverse = (1.0 / tl.sqrt((tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)) / D + eps))[:, None]
        a = a * inverse * tl.load(gain + i).to(tl.float32)
        b = b * inverse * tl.load(gain + D // 2 + i).to(tl.float32)
    return (a * cos - b * sin).to(tl.float16), (b * cos + a * sin).to(tl.float16)


@triton.jit
def attend_one_kernel(
    qkv, bias, q_gain, k_gain, cosine, sine, slots, positions, live, keys, values, table, acc_parts, stat_parts,
    arrived, out, M, eps, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, GP: tl.constexpr,
    MP: tl.constexpr, BK: tl.constexpr, SP: tl.constexpr, LEAST: tl.constexpr, J: tl.constexpr, NORM: tl.constexpr,
    BIAS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (KH, SP). qkv fp32 [(N + 2 KH) D]; out fp16 [N D]. Each block takes a stretch of keys; the last to arrive
    joins them. BK divides B, so that the keys of a turn lie in one block of the cache."""
    HALF: tl.constexpr = D // 2
    kv = tl.program_id(0)
    split = tl.program_id(1)
    release_next(PDL)
    position = tl.load(positions)
    length = position + 1
    blocks = table + tl.load(slots) * M
    stretch = tl.cdiv(tl.cdiv(length, tl.minimum(SP, tl.cdiv(length, LEAST))), BK) * BK
    active = tl.cdiv(length, stretch)
    begin = split * stretch
    if (begin < length) & (tl.load(live) > 0):
        g = tl.arange(0, MP)
        d = tl.arange(0, D)
        i = tl.arange(0, HALF)[None, :]
        cos = tl.load(cosine + position * HALF + i)
        sin = tl.load(sine + position * HALF + i)
        end = tl.minimum(begin + stretch, length)
        old = tl.minimum(end, position)
        ahead = _old_entries(keys, values, _place(tl.load(blocks + begin // B), kv, begin, KH, B, D), begin, old, D, BK)
        block = tl.load(blocks + (begin + BK) // B, mask=begin + BK < old, other=0)
        entry = _place(tl.load(blocks + position // B), kv, position, KH, B, D)
        wait_for_previous(PDL)
        place = ((kv * G + g) * D)[:, None]
        qa, qb = turned(qkv + place, bias, q_gain, place, (g < G)[:, None], cos, sin, eps, D, NORM, BIAS)
        one = tl.arange(0, 1)[:, None]
        place = one + (N + kv) * D
        ka, kb = turned(qkv + place, bias, k_gain, place, one == 0, cos, sin, eps, D, NORM, BIAS)
        place = (N + KH + kv) * D + d
        new = tl.load(qkv + place)
        if BIAS:
            new += tl.load(bias + place).to(tl.float32)
        new = new.to(tl.float16)
        if end == length:
            tl.store(keys + entry + i + one, ka)
            tl.store(keys + entry + HALF + i + one, kb)
            tl.store(values + entry + d, new)
        best = tl.full([MP], -float("inf"), tl.float32)
        total = tl.zeros([MP], tl.float32)
        acc = tl.zeros([MP, D], tl.float32)
        for at in tl.range(begin, end, BK, num_stages=1):
            first, second, value = ahead
            ahead = _old_entries(keys, values, _place(block, kv, at + BK, KH, B, D), at + BK, old, D, BK)
            block = tl.load(blocks + (at + 2 * BK) // B, mask=at + 2 * BK < old, other=0)
            s = at + tl.arange(0, BK)
            newest = (s == position)[:, None]
            first = tl.where(newest, ka, first)
            second = tl.where(newest, kb, second)
            value = tl.where(newest, new[None, :], value)
            best, total, acc = turn(qa, qb, first, second, value, s < end, best, total, acc, scale)
        hand_in(best, total, acc, acc_parts, stat_parts, arrived, out, 0, kv, split, active, N, KH, D, G, GP, MP, SP, J)


def attend_one(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch,
    query: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """out fp16 [1, N D] and the token's cache entry, from qkv fp32 [1, (N + 2K) D]. turns: cos and sin, fp32
    [positions, D/2]. `query` fp16 [1, N D] is scratch of the reference."""
    _, kv_heads, size, dim = cache.keys.shape
    heads = out.shape[1] // dim
    padded = scratch.acc.shape[2]
    attend_one_kernel[(kv_heads, splits(1))](
        qkv, qkv if norm.bias is None else norm.bias, qkv if norm.query is None else norm.query,
        qkv if norm.key is None else norm.key, *turns, step.slots, step.positions, step.live, *cache, scratch.acc,
        scratch.stats, scratch.arrived, out, cache.table.shape[1], norm.eps, dim**-0.5 * 1.4426950408889634,
        N=heads, KH=kv_heads, D=dim, B=size, G=heads // kv_heads, GP=padded, MP=max(16, padded), SP=splits(1),
        NORM=norm.query is not None, BIAS=norm.bias is not None, **launch.ATTEND_ONE,
        **launch.dependent(qkv, "attend_one"),
    )  # fmt: skip


def attend_one_reference(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch,
    query: Tensor, out: Tensor,
) -> None:  # fmt: skip
    rope_reference(qkv, norm, turns, step, query, cache)
    attention_reference(query, cache, step, scratch, out)
