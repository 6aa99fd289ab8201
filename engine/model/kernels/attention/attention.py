"""Rotary positions, the KV cache's writes, and attention of a few tokens over long caches.

Every token of a step has a slot and a position; it sees the cache of its slot up to and including its own position, so
several tokens of one row (drafts, forced runs) need nothing special. The cache is fp16 [blocks, K, B, D], or codes of 8
bits (`entries`), for keys and for values; a table says which blocks a slot has. Axis letters: T tokens, N query heads,
K key/value heads, G = N / K, D head size, B positions of a block, M blocks that a slot can have.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.cpu import kv_codes
from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention.entries import (
    coding,
    exponents_of,
    largest,
    load_powers,
    narrowed,
    part_of,
    widened,
)
from engine.model.kernels.delta.spans import Spans
from engine.model.kernels.device import launch
from engine.model.kernels.device.plane import place_of, plane_order
from engine.model.kernels.device.units import release_next, wait_for_previous

SPLITS = 32
"""Blocks that may share one token's cache; short caches use fewer (`launch.attention_shape`)."""


class Cache(NamedTuple):
    """One layer's keys and values, fp16 [blocks, K, B, D], or uint8 [blocks, K, B (D + 1)]: B D codes, B exponents."""

    keys: Tensor
    values: Tensor
    table: Tensor
    """int32 [slots, M]: positions i B and on of a slot lie in its i-th block."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """K, B and D."""
        if self.in_codes:
            return self.keys.shape[1], BLOCK, self.keys.shape[2] // BLOCK - 1
        _, kv_heads, size, dim = self.keys.shape
        return kv_heads, size, dim

    @property
    def in_codes(self) -> bool:
        return self.keys.dim() == 3

    def entries(self, slot: int, length: int) -> tuple[Tensor, Tensor]:
        """A slot's first keys and values, fp32 [K, length, D]. For the references."""
        blocks = self.table[slot, : -(-length // self.sizes[1])].long()
        keys, values = (self._read(part[blocks]).transpose(0, 1).flatten(1, 2) for part in (self.keys, self.values))
        return keys[:, :length], values[:, :length]

    def write(self, slots: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keys and values [T, K, D] of slots and positions [T]. For the references."""
        _, size, dim = self.sizes
        blocks, rows = self.table[slots, positions // size].long(), positions % size
        for part, value in ((self.keys, keys), (self.values, values)):
            if part.dim() == 4:
                part[blocks, :, rows] = value.to(part.dtype)
                continue
            codes, exponents = kv_codes.encode(value.half())
            _codes_of(part, dim)[blocks, :, rows] = codes
            part[..., size * dim :][blocks, :, rows] = exponents

    def _read(self, part: Tensor) -> Tensor:
        """fp32 [blocks, K, B, D]."""
        _, size, dim = self.sizes
        return part.float() if part.dim() == 4 else kv_codes.decode(_codes_of(part, dim), part[..., size * dim :])


def _codes_of(part: Tensor, dim: int) -> Tensor:
    return part[..., : BLOCK * dim].unflatten(-1, (BLOCK, dim))


class HeadNorm(NamedTuple):
    """What is applied per head: gains [D] of the q and k norms and the bias [(N + 2K) D] where the model has them."""

    query: Tensor | None
    key: Tensor | None
    bias: Tensor | None
    eps: float


class Step(NamedTuple):
    """What the tokens of a step are; int32 [T] on the device, but for `live`."""

    tokens: Tensor
    """-1 stands for the id that the slot sampled last."""
    slots: Tensor
    positions: Tensor
    live: Tensor
    """int32 [1]: tokens at and after it are padding; they write nothing and go nowhere."""
    spans: Spans | None = None
    """The same by rows, where a layer keeps a state."""
    far: bool = False
    """Whether a few tokens' caches are long (`attend_few.are_long`)."""


class Scratch(NamedTuple):
    """Partial results of split attention."""

    acc: Tensor
    """fp32 [T splits, K, GP, D] at its largest, GP = G rounded up to a power of two."""
    stats: Tensor
    """fp32 [T splits, K, 2, GP]: maxima and sums."""
    arrived: Tensor
    """int32 [T, K], zero between launches."""


def make_scratch(tokens: int, heads: int, kv_heads: int, head_dim: int, device: torch.device) -> Scratch:
    group = triton.next_power_of_2(heads // kv_heads)
    cells = max(count * splits(count, kv_heads) for count in range(1, tokens + 1))
    return Scratch(
        torch.empty(cells, kv_heads, group, head_dim, device=device),
        torch.empty(cells, kv_heads, 2, group, device=device),
        torch.zeros(tokens, kv_heads, dtype=torch.int32, device=device),
    )


def splits(tokens: int, kv_heads: int) -> int:
    """The most blocks that share one head's cache of one token in a step of `tokens`: a power of two down to 8, from 32
    on, or 64 where two heads alone would leave half of a card idle."""
    most = SPLITS if kv_heads > 2 else 2 * SPLITS
    return max(8, min(most, 1 << max(1, most * 4 // tokens).bit_length() - 1))


@triton.jit
def rope_kernel(
    qkv, bias, q_gain, k_gain, cosine, sine, slots, positions, live, query, keys, values, table, M, eps,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, BH: tl.constexpr, NORM: tl.constexpr,
    BIAS: tl.constexpr, PARTS: tl.constexpr, LD: tl.constexpr, CODES: tl.constexpr, TB: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (ceil(T/TB), (N + 2 KH) / BH), BH heads of one kind of TB tokens a block. qkv fp32 [T, PARTS, (N + 2 KH) D],
    summed over its parts, which are LD apart; query fp16 [T, N D]."""
    HALF: tl.constexpr = D // 2
    first = tl.program_id(1) * BH
    release_next(PDL)
    h = tl.arange(0, BH)
    i = tl.arange(0, HALF)
    count = tl.load(live)
    token = tl.program_id(0).to(tl.int64) * TB
    if TB > 1:
        token += tl.arange(0, TB)
    alive = token < count
    if TB > 1:
        token = tl.maximum(tl.minimum(token, count - 1), 0)  # read in the place of padding
    position = tl.load(positions + token)
    block = tl.load(table + tl.load(slots + token) * M + position // B)
    if TB == 1:
        cos = tl.load(cosine + position * HALF + i)[None, :]
        sin = tl.load(sine + position * HALF + i)[None, :]
    else:
        cos = tl.load(cosine + position[:, None] * HALF + i[None, :])[:, None, :]
        sin = tl.load(sine + position[:, None] * HALF + i[None, :])[:, None, :]
        token = token[:, None, None]
        alive = alive[:, None, None]
        position = position[:, None, None]
        block = block[:, None, None]
    at = (first + h)[:, None] * D + i[None, :]
    wait_for_previous(PDL)
    row = qkv + token * PARTS * LD + at
    a = tl.load(row)
    b = tl.load(row + HALF)
    for part in tl.static_range(1, PARTS):
        a += tl.load(row + part * LD)
        b += tl.load(row + part * LD + HALF)
    if BIAS:
        a += tl.load(bias + at).to(tl.float32)
        b += tl.load(bias + at + HALF).to(tl.float32)
    if first < N + KH:
        if NORM:
            gain = q_gain if first < N else k_gain
            AXIS: tl.constexpr = len(a.shape) - 1
            total = tl.sum(a * a, axis=AXIS, keep_dims=True) + tl.sum(b * b, axis=AXIS, keep_dims=True)
            inverse = 1.0 / tl.sqrt(total / D + eps)
            a = a * inverse * tl.load(gain + i).to(tl.float32)[None, :]
            b = b * inverse * tl.load(gain + HALF + i).to(tl.float32)[None, :]
        turned = a * cos - b * sin
        b = b * cos + a * sin
        a = turned
    keep = alive & (at >= 0)
    a = a.to(tl.float16)
    b = b.to(tl.float16)
    if first < N:
        tl.store(query + token * N * D + at, a, mask=keep)
        tl.store(query + token * N * D + at + HALF, b, mask=keep)
    else:
        entries = keys if first < N + KH else values
        place = part_of(block, ((first - N) % KH + h)[:, None], KH, D, B, CODES)
        out = entries + place + position % B * D + i[None, :]
        if CODES:
            exponents = exponents_of(tl.maximum(largest(a), largest(b)))
            tl.store(entries + place + B * D + position % B, exponents, mask=alive & (h >= 0)[:, None])
            kept_a = narrowed(a, exponents)
            kept_b = narrowed(b, exponents)
        else:
            kept_a = a
            kept_b = b
        tl.store(out, kept_a, mask=keep)
        tl.store(out + HALF, kept_b, mask=keep)


def rope(qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, query: Tensor, cache: Cache) -> None:
    """query fp16 [T, N D] and the cache entries of the step's tokens, from qkv fp32 [T, (N + 2K) D], or from parts of
    it [T, S, (N + 2K) D] that are summed; either may be the first columns of something wider.

    turns: cos and sin, fp32 [positions, D/2].
    """
    kv_heads, size, dim = cache.sizes
    heads = query.shape[1] // dim
    flags = launch.options(qkv, "rope")
    flags.pop("ASM")
    together = launch.chunk(math.gcd(heads, kv_heads), 4)
    tokens = 4 if len(qkv) > 256 else 1
    rope_kernel[(-(-len(qkv) // tokens), (heads + 2 * kv_heads) // together)](
        qkv, qkv if norm.bias is None else norm.bias, qkv if norm.query is None else norm.query,
        qkv if norm.key is None else norm.key,
        *turns, step.slots, step.positions, step.live, query, *cache, cache.table.shape[1], norm.eps,
        N=heads, KH=kv_heads, D=dim, B=size, BH=together, NORM=norm.query is not None, BIAS=norm.bias is not None,
        PARTS=1 if qkv.dim() == 2 else qkv.shape[1], LD=qkv.stride(-2), CODES=coding(cache.keys), TB=tokens,
        num_warps=tokens, **flags,
    )  # fmt: skip


def rope_reference(
    qkv: Tensor, norm: HeadNorm, turns: tuple[Tensor, Tensor], step: Step, query: Tensor, cache: Cache
) -> None:
    kv_heads, _, dim = cache.sizes
    heads = query.shape[1] // dim
    qkv = qkv if qkv.dim() == 2 else qkv.sum(1)
    value = qkv if norm.bias is None else qkv + norm.bias.float()
    q, k, v = value.view(len(qkv), -1, dim).split([heads, kv_heads, kv_heads], 1)
    count = int(step.live[0])
    slots, positions = step.slots[:count].long(), step.positions[:count].long()
    cos, sin = (table[step.positions.long()].unsqueeze(1) for table in turns)
    q, k = (_turned(_head_norm(part, gain, norm.eps), cos, sin) for part, gain in ((q, norm.query), (k, norm.key)))
    query.copy_(q.reshape(len(qkv), -1))
    cache.write(slots, positions, k[:count], v[:count])


def _head_norm(value: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    if gain is None:
        return value
    return value * torch.rsqrt(value.square().mean(-1, keepdim=True) + eps) * gain.float()


def _turned(value: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = value.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


@triton.jit
def join_parts(acc_parts, stat_parts, cell, active, J: tl.constexpr, GP: tl.constexpr, D: tl.constexpr):
    """fp32 [GP, D]: the softmax average of all `active` blocks' partial results, J of them on their way at once."""
    g = tl.arange(0, GP)
    d = tl.arange(0, D)
    best = tl.full([GP], -float("inf"), tl.float32)
    total = tl.zeros([GP], tl.float32)
    acc = tl.zeros([GP, D], tl.float32)
    for first in tl.range(0, active, J, num_stages=1):
        found = ()
        for j in tl.static_range(J):
            here = first + j < active
            stat = stat_parts + (cell + first + j) * 2 * GP + g
            part = acc_parts + ((cell + first + j) * GP + g)[:, None] * D + d[None, :]
            m = tl.load(stat, mask=(g < GP) & here, other=-float("inf"), cache_modifier=".cg")
            s = tl.load(stat + GP, mask=(g < GP) & here, other=0.0, cache_modifier=".cg")
            a = tl.load(part, mask=(g < GP)[:, None] & here, other=0.0, cache_modifier=".cg")
            found = found + ((m, s, a),)  # noqa: RUF005 - Triton knows no unpacking
        for j in tl.static_range(J):
            m, s, a = found[j]
            top = tl.maximum(best, m)
            mine = tl.exp2(m - top)
            shrink = tl.exp2(best - top)
            total = total * shrink + s * mine
            acc = acc * shrink[:, None] + a * mine[:, None]
            best = top
    return acc / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit
def hand_in(
    best, total, acc, acc_parts, stat_parts, arrived, out, token, kv, split, active, N: tl.constexpr,
    KH: tl.constexpr, D: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, MP: tl.constexpr, SP: tl.constexpr,
    J: tl.constexpr, PLANE: tl.constexpr = False,
):  # fmt: skip
    """A block's part of a token's attention; the last to arrive joins them in out of 16 bits [T, N D]."""
    g = tl.arange(0, MP)
    d = tl.arange(0, D)
    if active == 1:
        column = (kv * G + g)[:, None] * D + d[None, :]
        if PLANE:
            column = place_of(column)
        o = out + token * N * D + column
        tl.store(o, (acc / total[:, None]).to(out.dtype.element_ty), mask=(g < G)[:, None])
    else:
        cell = (token * KH + kv) * SP
        part = cell + split
        keep = g < GP
        tl.store(acc_parts + (part * GP + g)[:, None] * D + d[None, :], acc, mask=keep[:, None])
        tl.store(stat_parts + part * 2 * GP + g, best, mask=keep)
        tl.store(stat_parts + part * 2 * GP + GP + g, total, mask=keep)
        tl.debug_barrier()
        if tl.atomic_add(arrived + token * KH + kv, 1, sem="acq_rel") == active - 1:
            joined = join_parts(acc_parts, stat_parts, cell, active, J, GP, D)
            tl.store(arrived + token * KH + kv, 0)
            h = tl.arange(0, GP)
            n = (kv * G + h)[:, None] * D + d[None, :]
            if PLANE:
                n = place_of(n)
            tl.store(out + token * N * D + n, joined.to(out.dtype.element_ty), mask=(h < G)[:, None])


@triton.jit
def attention_kernel(
    query, keys, values, table, slots, positions, live, acc_parts, stat_parts, arrived, out, M, scale,
    N: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, G: tl.constexpr, GP: tl.constexpr,
    MP: tl.constexpr, BK: tl.constexpr, SP: tl.constexpr, LEAST: tl.constexpr, J: tl.constexpr, PLANE: tl.constexpr,
    CODES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, KH, SP). Each block takes a stretch of keys; the last to arrive joins them. out of 16 bits [T, N D],
    with PLANE in plane order. BK divides B, so that the keys of a turn lie in one block of the cache."""
    token = tl.program_id(0)
    kv = tl.program_id(1)
    split = tl.program_id(2)
    release_next(PDL)
    length = tl.load(positions + token) + 1
    blocks = table + tl.load(slots + token) * M
    stretch = tl.cdiv(tl.cdiv(length, tl.minimum(SP, tl.cdiv(length, LEAST))), BK) * BK
    active = tl.cdiv(length, stretch)
    begin = split * stretch
    alive = token < tl.load(live)
    block = tl.load(blocks + begin // B, mask=begin < length, other=0)
    wait_for_previous(PDL)
    if (begin < length) & alive:
        g = tl.arange(0, MP)
        d = tl.arange(0, D)
        q = tl.load(query + (token * N + kv * G + g)[:, None] * D + d[None, :], mask=(g < G)[:, None], other=0.0)
        best = tl.full([MP], -float("inf"), tl.float32)
        total = tl.zeros([MP], tl.float32)
        acc = tl.zeros([MP, D], tl.float32)
        end = tl.minimum(begin + stretch, length)
        i = tl.arange(0, BK)[:, None]
        for at in tl.range(begin, end, BK):
            s = at + tl.arange(0, BK)
            inside = (s < end)[:, None]
            part = part_of(block, kv, KH, D, B, CODES)
            place = part + (at % B + i) * D + d[None, :]
            block = tl.load(blocks + (at + BK) // B, mask=at + BK < end, other=0)
            k = widened(tl.load(keys + place, mask=inside, other=0), CODES)
            v = widened(tl.load(values + place, mask=inside, other=0), CODES)
            score = tl.dot(q, tl.trans(k))
            if CODES:
                factor, lift, weight = load_powers(keys, values, part, at, end, scale, D, B, BK, CODES)
                score = score * factor + lift
            score = score * scale
            score = tl.where((s < end)[None, :], score, -float("inf"))
            top = tl.maximum(best, tl.max(score, axis=1))
            p = tl.exp2(score - top[:, None])
            shrink = tl.exp2(best - top)
            acc = acc * shrink[:, None] + tl.dot(p.to(tl.float16), v)
            if CODES:
                p = p * weight
            total = total * shrink + tl.sum(p, axis=1)
            best = top
        hand_in(
            best, total, acc, acc_parts, stat_parts, arrived, out, token, kv, split, active, N, KH, D, G, GP, MP, SP, J,
            PLANE,
        )  # fmt: skip


def attention(query: Tensor, cache: Cache, step: Step, scratch: Scratch, out: Tensor, *, plane: bool = False) -> None:
    """out of 16 bits [T, N D]: softmax attention of query [T, N D] over each token's slot, positions 0..its own; with
    `plane` in plane order."""
    kv_heads, size, dim = cache.sizes
    tokens, heads = query.shape[0], query.shape[1] // dim
    group = heads // kv_heads
    padded = scratch.acc.shape[2]
    attention_kernel[(tokens, kv_heads, splits(tokens, kv_heads))](
        query, *cache, step.slots, step.positions, step.live, scratch.acc, scratch.stats, scratch.arrived, out,
        cache.table.shape[1],
        dim**-0.5 * 1.4426950408889634, N=heads, KH=kv_heads, D=dim, B=size, G=group, GP=padded, MP=max(16, padded),
        SP=splits(tokens, kv_heads), PLANE=plane, CODES=coding(cache.keys), num_warps=4,
        **launch.attention_shape(tokens),
        **launch.dependent(query),
    )  # fmt: skip


def attention_reference(
    query: Tensor, cache: Cache, step: Step, scratch: Scratch, out: Tensor, *, plane: bool = False
) -> None:
    kv_heads, _, dim = cache.sizes
    order = plane_order(query.shape[1], query.device) if plane else slice(None)
    for token in range(int(step.live[0])):
        slot, length = int(step.slots[token]), int(step.positions[token]) + 1
        q = query[token].float().view(kv_heads, -1, dim)
        k, v = cache.entries(slot, length)
        weights = (q @ k.transpose(-1, -2) * dim**-0.5).softmax(-1)
        out[token] = (weights @ v).reshape(-1)[order].to(out.dtype)
