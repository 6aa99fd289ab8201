"""What `attend_few` does by warps that walk the cache by themselves (`walking`): over codes, and over long caches."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.attention.attention import Cache, HeadNorm, Scratch, Step
from engine.model.kernels.attention.entries import coding, exponents_of, largest, narrowed, part_of, widened
from engine.model.kernels.attention.joining import hand_in, take_part
from engine.model.kernels.attention.turning import floor_of, gains, halves, own_entries, own_values, shared_out, turned
from engine.model.kernels.attention.walking import (
    beginning,
    gathered,
    key_order,
    key_plane,
    load_entries,
    turn,
    value_order,
    value_plane,
)
from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous


@triton.jit
def _kept(entries, place, value, exponents, mine, CODES: tl.constexpr):
    """Store of `value` fp16 [R, C] the row that is `mine` [R, 1], as codes with exponents [R, 1]; gives what readers
    will find of all of them, `widened`."""
    if CODES:
        codes = narrowed(value, exponents)
        tl.store(entries + place, codes, mask=mine)
        value = widened(codes, CODES)
    else:
        tl.store(entries + place, value, mask=mine)
    return value


@triton.jit
def _for_all(matrix, W: tl.constexpr):
    """[W, M, C]: the same for every warp."""
    return tl.broadcast_to(matrix[None, :, :], [W, matrix.shape[0], matrix.shape[1]])


@triton.jit
def walk_few_kernel(
    qkv, bias, q_gain, k_gain, cosine, sine, slots, positions, live, keys, values, table, acc_parts, stat_parts,
    arrived, out, M, eps, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, GP: tl.constexpr,
    HP: tl.constexpr, SP: tl.constexpr, LEAST: tl.constexpr, J: tl.constexpr, T: tl.constexpr, LD: tl.constexpr,
    NORM: tl.constexpr, BIAS: tl.constexpr, CODES: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, KH, 1 + SP). qkv fp32 [T, (N + 2 KH) D], rows LD apart; out fp16 [T, N D]. The first block has the
    step's own tokens, each of the others a stretch of the cache, whose first entries it asks for before the wait. The
    positions of a turn divide B, so that they lie in one block of the cache."""
    HALF: tl.constexpr = D // 2
    BK: tl.constexpr = 16 * WARPS
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
        i = key_order(D, CODES)[None, :]
        d = value_order(D, CODES)[None, :]
        cos = tl.load(cosine + position * HALF + i)
        sin = tl.load(sine + position * HALF + i)
        own = floor + tl.arange(0, 16)
        mates = ((own <= position) & (split == 0))[:, None]
        own_cos = tl.load(cosine + own[:, None] * HALF + i, mask=mates, other=0.0)
        own_sin = tl.load(sine + own[:, None] * HALF + i, mask=mates, other=0.0)
        query_gains = gains(q_gain, i, D)
        own_gains = gains(k_gain, i, D)
        ahead = load_entries(keys, values, block, kv, begin, end, KH, D, B, WARPS, CODES)
        block = tl.load(blocks + (begin + BK) // B, mask=begin + BK < end, other=0)
        wait_for_previous(PDL)
        due = take_part(arrived + token * KH + kv, active, ASM)
        rows = qkv + token * LD
        g = (kv * G + tl.arange(0, HP))[:, None] * D
        inside = (tl.arange(0, HP) < G)[:, None]
        query_a, query_b = halves(rows + g, i, inside, D)
        # asked for before the query is turned, where the block has any: the two do not wait for each other
        key, raw_a, raw_b, raw_value = own_entries(rows, own, position, kv, i, d, mates, N, KH, D, LD)
        qa, qb = turned(query_a, query_b, bias, query_gains, g, i, inside, cos, sin, eps, D, NORM, BIAS)
        qa = tl.trans(qa)
        qb = tl.trans(qb)
        if split > 0:
            place = tl.arange(0, WARPS)[:, None] * 16 + tl.arange(0, 16)[None, :]
            so_far = beginning(D, HP, WARPS)
            all_a = _for_all(qa, WARPS)
            all_b = _for_all(qb, WARPS)
            for at in tl.range(begin, end, BK, num_stages=1):
                first, second, value, of_keys, of_values = ahead
                ahead = load_entries(keys, values, block, kv, at + BK, end, KH, D, B, WARPS, CODES)
                block = tl.load(blocks + (at + 2 * BK) // B, mask=at + 2 * BK < end, other=0)
                so_far = turn(
                    all_a, all_b, key_plane(first, D, WARPS, CODES, ASM), key_plane(second, D, WARPS, CODES, ASM),
                    value_plane(value, D, WARPS, CODES, ASM), of_keys, of_values, at + place < end, so_far, scale,
                    CODES,
                )  # fmt: skip
            best, total, acc = gathered(so_far, D, HP, CODES)
        else:
            ka, kb = turned(raw_a, raw_b, bias, own_gains, key, i, mates, own_cos, own_sin, eps, D, NORM, BIAS)
            new = own_values(raw_value, bias, key, d, mates, KH, D, BIAS)
            mine = (own == position)[:, None]
            part = part_of(tl.load(blocks + position // B), kv, KH, D, B, CODES)
            there = part + (position % B + own * 0)[:, None] * D
            key_exponents = 0
            value_exponents = 0
            if CODES:
                key_exponents = exponents_of(tl.maximum(largest(ka), largest(kb)))
                value_exponents = exponents_of(largest(new))
                beside = part + B * D + (position % B + own * 0)[:, None]
                tl.store(keys + beside, key_exponents, mask=mine)
                tl.store(values + beside, value_exponents, mask=mine)
            ka = _kept(keys, there + i, ka, key_exponents, mine, CODES)
            kb = _kept(keys, there + HALF + i, kb, key_exponents, mine, CODES)
            new = _kept(values, there + d, new, value_exponents, mine, CODES)
            if CODES:
                key_exponents = tl.reshape(key_exponents, [1, 16])
                value_exponents = tl.reshape(value_exponents, [1, 16])
            alone = turn(
                _for_all(qa, 1), _for_all(qb, 1), _for_all(ka, 1), _for_all(kb, 1), _for_all(tl.trans(new), 1),
                key_exponents, value_exponents, own[None, :] <= position, beginning(D, HP, 1), scale, CODES,
            )  # fmt: skip
            best, total, acc = gathered(alone, D, HP, CODES)
        hand_in(
            best, total, acc, acc_parts, stat_parts, arrived, due, out, token, kv, split, active, N, KH, D, G, GP, HP,
            1 + SP, J, WARPS, ASM,
        )  # fmt: skip


def walk_few(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, cache: Cache, scratch: Scratch, out: Tensor
) -> None:  # fmt: skip
    """As `attend_few`."""
    kv_heads, size, dim = cache.sizes
    tokens, heads = out.shape[0], out.shape[1] // dim
    padded, codes = scratch.acc.shape[2], coding(cache.keys)
    shape = launch.walking_shape(qkv, tokens, kv_heads, codes > 0, step.far, scratch.acc.shape[0] // tokens - 1)
    walk_few_kernel[(tokens, kv_heads, 1 + shape["SP"])](
        qkv, qkv if norm.bias is None else norm.bias, qkv if norm.query is None else norm.query,
        qkv if norm.key is None else norm.key, *turns, step.slots, step.positions, step.live, *cache, scratch.acc,
        scratch.stats, scratch.arrived, out, cache.table.shape[1], norm.eps, dim**-0.5 * 1.4426950408889634,
        N=heads, KH=kv_heads, D=dim, B=size, G=heads // kv_heads, GP=padded, HP=max(8, padded), T=tokens,
        LD=qkv.stride(0), NORM=norm.query is not None, BIAS=norm.bias is not None, CODES=codes, **shape,
        **launch.options(qkv, "attend_few"),
    )  # fmt: skip
