"""A prompt cut into chunks of 64 tokens: what each chunk needs before the state comes by.

Two launches over all chunks at once: convolution, norms and gates; then of every chunk and head the inverse of the
unit lower triangular matrix that says how its tokens' changes depend on each other (WY form), and the products of its
queries with its keys. Both are at most 1 in size, so they are held in fp16. The inverse is built by doubling: with D
the inverse of the diagonal blocks of some size and O what lies beside them, that of the blocks of twice the size is
D - D O D, where nothing cancels that does not in substitution. Axis letters as in `memory`; N chunks, 64 L.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.delta.memory import DeltaMemory
from engine.model.kernels.delta.pieces import L2_EPS, gates_of, kept_input, new_input, silu_of
from engine.model.kernels.device.units import release_next, wait_for_previous

CHUNK = 64
LEVELS = CHUNK.bit_length() - 2
"""Doublings from blocks of two tokens to a chunk."""


class Chunks(NamedTuple):
    """Which row each chunk is of. A row's chunks stand together; those behind its last token are idle."""

    row: Tensor
    """int32 [N]."""
    starts: Tensor
    """int32 [R + 1]: a row's first chunk."""


class ChunkScratch(NamedTuple):
    """What chunks are made into. Tokens behind a row's last one are zeros that change nothing."""

    queries: Tensor
    """fp16 [N, KH, L, D]."""
    keys: Tensor
    """fp16 [N, KH, L, D]."""
    values: Tensor
    """fp16 [N, VH, L, D]."""
    decay: Tensor
    """fp32 [N, VH, L]: the decay's logarithm since the chunk's begin."""
    beta: Tensor
    """fp32 [N, VH, L]."""
    solved: Tensor
    """fp16 [N, VH, L, L]: the inverse, with its columns times beta."""
    scores: Tensor
    """fp16 [N, VH, L, L]: queries times keys, decayed, up to the own one."""
    found: Tensor
    """fp16 [N, VH, L, D]: outputs before their norm."""


def make_chunks(counts: list[int], device: torch.device) -> Chunks:
    """For rows of so many tokens."""
    numbers = [-(-count // CHUNK) for count in counts]
    row = [index for index, number in enumerate(numbers) for _ in range(number)]
    starts = [sum(numbers[:index]) for index in range(len(counts) + 1)]
    return Chunks(*(torch.tensor(part, dtype=torch.int32, device=device) for part in (row, starts)))


def make_chunk_scratch(chunks: int, memory: DeltaMemory) -> ChunkScratch:
    keys, values, size = memory.heads
    wide = {"dtype": torch.float16, "device": memory.state.device}
    flat = {"dtype": torch.float32, "device": memory.state.device}
    return ChunkScratch(
        torch.empty(chunks, keys, CHUNK, size, **wide), torch.empty(chunks, keys, CHUNK, size, **wide),
        torch.empty(chunks, values, CHUNK, size, **wide), torch.empty(chunks, values, CHUNK, **flat),
        torch.empty(chunks, values, CHUNK, **flat), torch.empty(chunks, values, CHUNK, CHUNK, **wide),
        torch.empty(chunks, values, CHUNK, CHUNK, **wide), torch.empty(chunks, values, CHUNK, size, **wide),
    )  # fmt: skip


@triton.jit
def chunk_of(rows, starts, firsts, counts, slots, positions, chunk, L: tl.constexpr):
    """A chunk's first token, how many it has, its slot, its first position, and how many of its row come before."""
    row = tl.load(rows + chunk)
    before = (chunk - tl.load(starts + row)) * L
    left = tl.load(counts + row) - before
    return tl.load(firsts + row) + before, left, tl.load(slots + row), tl.load(positions + row) + before, before


@triton.jit
def prepare_kernel(
    projected, ba, taps, rate, bias, rows, starts, firsts, counts, slots, positions, inputs, gates, queries, keys,
    values, decays, betas, stride, ba_stride,
    KH: tl.constexpr, VH: tl.constexpr, D: tl.constexpr, P: tl.constexpr, L: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (2 KH + VH, N): one head's channels of a chunk; those of values bring its gates, which are kept."""
    C: tl.constexpr = (2 * KH + VH) * D
    release_next(PDL)
    part = tl.program_id(0)
    chunk = tl.program_id(1)
    first, left, slot, position, before = chunk_of(rows, starts, firsts, counts, slots, positions, chunk, L)
    i = tl.arange(0, L)
    d = tl.arange(0, D)
    channel = part * D + d
    wait_for_previous(PDL)
    if left > 0:
        mixed = tl.zeros([L, D], tl.float32)
        for tap in tl.static_range(4):
            ahead = i + tap - 3
            alive = i < left
            new = alive & (before + ahead >= 0)
            at = (first + ahead).to(tl.int64) * stride
            value = new_input(projected, at[:, None] + channel[None, :], new[:, None])
            if before == 0:
                old = alive & (ahead < 0)
                place = position + ahead[:, None]
                value += kept_input(inputs, slot, place, channel[None, :], old[:, None], C, P)
            mixed += value * tl.load(taps + tap * C + channel).to(tl.float32)[None, :]
        mixed = silu_of(mixed)
        tile = i[:, None] * D + d[None, :]
        if part < 2 * KH:
            mixed = mixed * tl.rsqrt(tl.sum(mixed * mixed, axis=1) + L2_EPS)[:, None]
            if part < KH:
                out = queries + (chunk.to(tl.int64) * KH + part) * L * D
            else:
                out = keys + (chunk.to(tl.int64) * KH + part - KH) * L * D
            tl.store(out + tile, mixed.to(tl.float16))
        else:
            head = part - 2 * KH
            cell = chunk.to(tl.int64) * VH + head
            tl.store(values + cell * L * D + tile, mixed.to(tl.float16))
            alive = i < left
            at = (first + i).to(tl.int64) * ba_stride + head
            b = tl.load(ba + at, mask=alive, other=0.0).to(tl.float32)
            a = tl.load(ba + at + VH, mask=alive, other=0.0).to(tl.float32)
            decay, beta = gates_of(b, a, tl.load(rate + head), tl.load(bias + head))
            ring = (slot.to(tl.int64) * P + (position + i) % P) * 2 * VH + head
            kept = alive & (i >= left - P)
            tl.store(gates + ring, decay, mask=kept)
            tl.store(gates + ring + VH, beta, mask=kept)
            tl.store(decays + cell * L + i, tl.cumsum(tl.where(alive, decay, 0.0), axis=0))
            tl.store(betas + cell * L + i, tl.where(alive, beta, 0.0))


@triton.jit
def solve_kernel(
    queries, keys, decays, betas, solved, scores, rows, starts, firsts, counts, slots, positions,
    KH: tl.constexpr, VH: tl.constexpr, D: tl.constexpr, L: tl.constexpr, LEVELS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (KH, N): `solved` and `scores` of the value heads of one key head. L is 2 ** (LEVELS + 1)."""
    release_next(PDL)
    group = tl.program_id(0)
    chunk = tl.program_id(1).to(tl.int64)
    i = tl.arange(0, L)
    d = tl.arange(0, D)
    place = (chunk * KH + group) * L * D + i[:, None] * D + d[None, :]
    row = i[:, None]
    column = i[None, :]
    square = row * L + column
    wait_for_previous(PDL)
    _, left, _, _, _ = chunk_of(rows, starts, firsts, counts, slots, positions, chunk, L)
    if left > 0:
        k = tl.load(keys + place)
        alike = tl.dot(k, tl.trans(k))
        asked = tl.dot(tl.load(queries + place), tl.trans(k))
        for h in tl.static_range(VH // KH):
            cell = chunk * VH + group * (VH // KH) + h
            decay = tl.load(decays + cell * L + i)
            beta = tl.load(betas + cell * L + i)
            between = tl.exp(tl.where(row >= column, decay[:, None] - decay[None, :], -float("inf")))
            tl.store(scores + cell * L * L + square, (asked * between).to(tl.float16))
            below = tl.where(row > column, alike * between * beta[:, None], 0.0)
            side = (row // 2 == column // 2) & (row != column)
            inverse = tl.where(row == column, 1.0, 0.0) - tl.where(side, below, 0.0)
            for level in tl.static_range(LEVELS):
                side = (row // (4 << level) == column // (4 << level)) & (row // (2 << level) != column // (2 << level))
                half = inverse.to(tl.float16)
                step = tl.dot(half, tl.where(side, below, 0.0).to(tl.float16))
                inverse -= tl.dot(step.to(tl.float16), half)
            tl.store(solved + cell * L * L + square, (inverse * beta[None, :]).to(tl.float16))
