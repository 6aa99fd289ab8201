"""Rotary positions, the cache's new entries and attention of a few tokens, in one launch.

What a row's cache held before the step is read from it; what the step's own tokens add is made from their products by
whoever needs it and never read back, so that no block waits for another. Axis letters as in `kernels.attention`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.attention.attend_one import turned
from engine.model.kernels.attention.attention import Cache, HeadNorm, Scratch, Step, hand_in, splits, turn
from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous

OWN = 16
"""The step's own tokens that a block makes entries of: as many as a product takes, and more than there can be."""
_FETCH = tl.constexpr(
    "{\n.reg .pred p;\n.reg .u32 t;\nmov.u32 t, %tid.x;\nsetp.eq.u32 p, t, 0;\nsetp.gt.and.s32 p, $3, 0, p;\n"
    "@p cp.async.bulk.prefetch.L2.global [$1], $3;\n@p cp.async.bulk.prefetch.L2.global [$2], $3;\nmov.u32 $0, 0;\n}"
)


@triton.jit
def _fetch(keys, values, count, D: tl.constexpr, PDL: tl.constexpr):
    """Ask the second-level cache for `count` keys and values; where there is no dependent launch, nothing hides it."""
    if PDL > 0:
        first = keys.to(tl.uint64, bitcast=True)
        second = values.to(tl.uint64, bitcast=True)
        tl.inline_asm_elementwise(
            _FETCH, "=r,l,l,r", [first, second, count * (2 * D)], dtype=tl.int32, is_pure=False, pack=1
        )  # fmt: skip


@triton.jit
def _floor(slots, positions, token, slot, position, T: tl.constexpr):
    """Position of the first token that the row has in this step."""
    j = tl.arange(0, triton.next_power_of_2(T))
    mates = (tl.load(slots + j, mask=j < T, other=-1) == slot) & (j <= token)
    return tl.min(tl.where(mates, tl.load(positions + j, mask=j < T, other=0), position))


@triton.jit
def _own_entries(
    rows, bias, gain, cosine, sine, s, position, head, eps, N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr,
    LD: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Both halves of the keys and the values of the positions `s` up to the token's own, the products of which are at
    `rows`, those of the row's earlier tokens before them."""
    own = (s <= position)[:, None]
    i = tl.arange(0, D // 2)[None, :]
    d = tl.arange(0, D)[None, :]
    at = rows + ((s - position) * LD)[:, None]
    cos = tl.load(cosine + s[:, None] * (D // 2) + i, mask=own, other=0.0)
    sin = tl.load(sine + s[:, None] * (D // 2) + i, mask=own, other=0.0)
    place = (s * 0 + (N + head) * D)[:, None]
    first, second = turned(at + place, bias, gain, place, own, cos, sin, eps, D, NORM, BIAS)
    place += KH * D
    value = tl.load(at + place + d, mask=own, other=0.0)
    if BIAS:
        value += tl.load(bias + place + d, mask=own, other=0.0).to(tl.float32)
    return first, second, value.to(tl.float16)


@triton.jit
def attend_few_kernel(
    qkv, bias, q_gain, k_gain, cosine, sine, slots, positions, live, keys, values, table, acc_parts, stat_parts,
    arrived, out, M, eps, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, GP: tl.constexpr,
    MP: tl.constexpr, BK: tl.constexpr, SP: tl.constexpr, LEAST: tl.constexpr, J: tl.constexpr, T: tl.constexpr,
    R: tl.constexpr, LD: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, KH, SP). qkv fp32 [T, (N + 2 KH) D], rows LD apart; out fp16 [T, N D]. Each block takes a stretch of the
    cache, the last one the step's own tokens too; whoever arrives last joins them. BK divides B, so that the keys of a
    turn lie in one block of the cache."""
    HALF: tl.constexpr = D // 2
    token = tl.program_id(0)
    kv = tl.program_id(1)
    split = tl.program_id(2)
    release_next(PDL)
    position = tl.load(positions + token)
    slot = tl.load(slots + token)
    floor = _floor(slots, positions, token, slot, position, T)
    blocks = table + slot * M
    length = tl.maximum(floor, 1)
    stretch = tl.cdiv(tl.cdiv(length, tl.minimum(SP, tl.cdiv(length, LEAST))), BK) * BK
    active = tl.cdiv(length, stretch)
    begin = split * stretch
    block = tl.load(blocks + begin // B, mask=begin < length, other=0)
    if (begin < length) & (token < tl.load(live)):
        i = tl.arange(0, HALF)[None, :]
        d = tl.arange(0, D)[None, :]
        end = tl.minimum(begin + stretch, floor)
        place = ((block.to(tl.int64) * KH + kv) * B + begin % B) * D
        _fetch(keys + place, values + place, tl.minimum(tl.minimum(end - begin, B - begin % B), LEAST), D, PDL)
        wait_for_previous(PDL)
        g = tl.arange(0, MP)
        rows = qkv + token * LD
        heads = ((kv * G + g) * D)[:, None]
        cos = tl.load(cosine + position * HALF + i)
        sin = tl.load(sine + position * HALF + i)
        qa, qb = turned(rows + heads, bias, q_gain, heads, (g < G)[:, None], cos, sin, eps, D, NORM, BIAS)
        best = tl.full([MP], -float("inf"), tl.float32)
        total = tl.zeros([MP], tl.float32)
        acc = tl.zeros([MP, D], tl.float32)
        for at in tl.range(begin, end, BK):
            s = at + tl.arange(0, BK)
            inside = (s < end)[:, None]
            entry = ((block.to(tl.int64) * KH + kv) * B + at % B + tl.arange(0, BK))[:, None] * D
            block = tl.load(blocks + (at + BK) // B, mask=at + BK < end, other=0)
            first = tl.load(keys + entry + i, mask=inside, other=0.0)
            second = tl.load(keys + entry + HALF + i, mask=inside, other=0.0)
            value = tl.load(values + entry + d, mask=inside, other=0.0)
            best, total, acc = turn(qa, qb, first, second, value, s < end, best, total, acc, scale)
        if split == active - 1:
            own = floor + tl.arange(0, R)
            ka, kb, new = _own_entries(
                rows, bias, k_gain, cosine, sine, own, position, kv, eps, N, KH, D, LD, NORM, BIAS
            )  # fmt: skip
            mine = (own == position)[:, None]
            last = tl.load(blocks + position // B).to(tl.int64)
            there = ((last * KH + kv) * B + position % B + own * 0)[:, None] * D
            tl.store(keys + there + i, ka, mask=mine)
            tl.store(keys + there + HALF + i, kb, mask=mine)
            tl.store(values + there + d, new, mask=mine)
            best, total, acc = turn(qa, qb, ka, kb, new, own <= position, best, total, acc, scale)
        hand_in(
            best, total, acc, acc_parts, stat_parts, arrived, out, token, kv, split, active, N, KH, D, G, GP, MP, SP, J
        )  # fmt: skip


def attend_few(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch,
    query: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """`attend_one` of T tokens: out fp16 [T, N D] and their cache entries, from qkv fp32 [T, (N + 2K) D]. A row's
    tokens follow one another, in the order of their positions."""
    _, kv_heads, size, dim = cache.keys.shape
    tokens, heads = out.shape[0], out.shape[1] // dim
    padded = scratch.acc.shape[2]
    attend_few_kernel[(tokens, kv_heads, splits(tokens))](
        qkv, qkv if norm.bias is None else norm.bias, qkv if norm.query is None else norm.query,
        qkv if norm.key is None else norm.key, *turns, step.slots, step.positions, step.live, *cache, scratch.acc,
        scratch.stats, scratch.arrived, out, cache.table.shape[1], norm.eps, dim**-0.5 * 1.4426950408889634,
        N=heads, KH=kv_heads, D=dim, B=size, G=heads // kv_heads, GP=padded, MP=max(16, padded), SP=splits(tokens),
        T=tokens, R=OWN, LD=qkv.stride(0), NORM=norm.query is not None, BIAS=norm.bias is not None, **launch.ATTEND_FEW,
        **launch.dependent(qkv, "attend_few"),
    )  # fmt: skip
