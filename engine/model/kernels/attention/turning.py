"""What kernels that attend few tokens make of their products: positions of a row's first token, heads turned."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def floor_of(slots, positions, token, slot, position, T: tl.constexpr):
    """Position of the first token that the row has in this step."""
    j = tl.arange(0, triton.next_power_of_2(T))
    mates = (tl.load(slots + j, mask=j < T, other=-1) == slot) & (j <= token)
    return tl.min(tl.where(mates, tl.load(positions + j, mask=j < T, other=0), position))


@triton.jit
def shared_out(floor, SP: tl.constexpr, LEAST: tl.constexpr, BK: tl.constexpr):
    """Positions of the cache that one block has, and how many blocks there are with that of the step's own tokens."""
    length = tl.maximum(floor, 1)
    stretch = tl.cdiv(tl.cdiv(length, tl.minimum(SP, tl.cdiv(length, LEAST))), BK) * BK
    return stretch, 1 + tl.cdiv(floor, stretch)


@triton.jit
def halves(at, i, keep, D: tl.constexpr):
    """Columns i [1, D/2] of both halves, fp32, of heads that begin at `at` [M, 1]."""
    return tl.load(at + i, mask=keep, other=0.0), tl.load(at + D // 2 + i, mask=keep, other=0.0)


@triton.jit
def turned(a, b, bias, gain, place, i, keep, cos, sin, eps, D: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr):
    """Both halves of heads, fp16: bias (that of a head at `place` [M, 1]), norm and rotation applied."""
    if BIAS:
        first, second = halves(bias + place, i, keep, D)
        a += first.to(tl.float32)
        b += second.to(tl.float32)
    if NORM:
        inverse = (1.0 / tl.sqrt((tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)) / D + eps))[:, None]
        first, second = gain
        a = a * inverse * first
        b = b * inverse * second
    return (a * cos - b * sin).to(tl.float16), (b * cos + a * sin).to(tl.float16)


@triton.jit
def gains(gain, i, D: tl.constexpr):
    """Columns i [1, D/2] of both halves of a norm's gain, fp32."""
    return tl.load(gain + i).to(tl.float32), tl.load(gain + D // 2 + i).to(tl.float32)


@triton.jit
def own_entries(
    rows, own, position, kv, i, d, keep, N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, LD: tl.constexpr
):
    """Of the step's own tokens, at positions `own`: where a key lies in its row [M, 1], both halves of the keys and the
    values, fp32. `rows` is the row of the token at `position`."""
    mate = rows + ((own - position) * LD)[:, None]
    key = (own * 0 + (N + kv) * D)[:, None]
    raw_a, raw_b = halves(mate + key, i, keep, D)
    return key, raw_a, raw_b, tl.load(mate + key + KH * D + d, mask=keep, other=0.0)


@triton.jit
def own_values(raw, bias, key, d, keep, KH: tl.constexpr, D: tl.constexpr, BIAS: tl.constexpr):
    """The values, fp16: bias applied."""
    if BIAS:
        raw += tl.load(bias + key + KH * D + d, mask=keep, other=0.0).to(tl.float32)
    return raw.to(tl.float16)
