"""Many tokens a row: chunks are prepared at once, then the state passes over them one after another.

A block has some columns of one head's state through all chunks of a row; what it multiplies is fp16, what it sums fp32.
Axis letters as in `chunks`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.delta.chunks import (
    CHUNK,
    LEVELS,
    Chunks,
    ChunkScratch,
    chunk_of,
    prepare_kernel,
    solve_kernel,
)
from engine.model.kernels.delta.memory import DeltaMemory, DeltaWeights, Kept, Rows
from engine.model.kernels.delta.pieces import gated, new_input
from engine.model.kernels.delta.step import delta_step_reference
from engine.model.kernels.device import launch
from engine.model.kernels.device.plane import place_of
from engine.model.kernels.device.units import release_next, wait_for_previous


@triton.jit
def scan_kernel(
    queries, keys, values, decays, solved, scores, starts, counts, slots, state, found, kept, places, scale,
    KH: tl.constexpr, VH: tl.constexpr, D: tl.constexpr, L: tl.constexpr, BV: tl.constexpr, STAGES: tl.constexpr,
    KEEP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (D / BV, VH, rows): outputs of all chunks of a row and its slot's new state. With KEEP the state before the
    row's last chunk goes to its place in `kept`, if that is not negative."""
    release_next(PDL)
    head = tl.program_id(1)
    row = tl.program_id(2)
    group = head // (VH // KH)
    i = tl.arange(0, L)
    d = tl.arange(0, D)
    v = tl.program_id(0) * BV + tl.arange(0, BV)
    start = tl.load(starts + row)
    end = start + tl.cdiv(tl.load(counts + row), L)
    place = (tl.load(slots + row).to(tl.int64) * VH + head) * D * D + v[None, :] * D + d[:, None]
    if KEEP:
        keep_at = tl.load(places + row)
    if start < end:
        held = tl.load(state + place)
        wait_for_previous(PDL)
        whole = i[:, None] * D + d[None, :]
        some = i[:, None] * D + v[None, :]
        square = i[:, None] * L + i[None, :]
        first_key = start.to(tl.int64) * KH + group
        first_cell = start.to(tl.int64) * VH + head
        for chunk in tl.range(0, end - start, num_stages=STAGES):
            keyed = (first_key + chunk * KH) * L * D
            cell = first_cell + chunk * VH
            k = tl.load(keys + keyed + whole)
            q = tl.load(queries + keyed + whole)
            wanted = tl.load(values + cell * L * D + some).to(tl.float32)
            inverse = tl.load(solved + cell * L * L + square)
            score = tl.load(scores + cell * L * L + square)
            decay = tl.load(decays + cell * L + i)
            last = tl.load(decays + cell * L + L - 1)
            shrink = tl.exp(decay)[:, None]
            if KEEP:  # noqa: SIM102 - a constant, and a value of the device
                if (chunk == end - start - 1) & (keep_at >= 0):
                    tl.store(kept + (keep_at.to(tl.int64) * VH + head) * D * D + v[None, :] * D + d[:, None], held)
            half = held.to(tl.float16)
            left = wanted - tl.dot(k, half) * shrink
            change = tl.dot(inverse, left.to(tl.float16))
            told = tl.dot(q, half) * shrink
            told = tl.dot(score, change.to(tl.float16), told)
            tl.store(found + cell * L * D + some, (told * scale).to(tl.float16))
            change = change * tl.exp(last - decay)[:, None]
            held = tl.dot(tl.trans(k), change.to(tl.float16), held * tl.exp(last))
        tl.store(state + place, held)


@triton.jit
def finish_kernel(
    projected, gain, rows, starts, firsts, counts, slots, positions, inputs, found, out, stride, eps,
    KH: tl.constexpr, VH: tl.constexpr, D: tl.constexpr, P: tl.constexpr, L: tl.constexpr, PLANE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (VH, N): one head's outputs of a chunk, normed and gated; inputs of the ring's last positions are kept."""
    C: tl.constexpr = (2 * KH + VH) * D
    release_next(PDL)
    head = tl.program_id(0)
    chunk = tl.program_id(1)
    first, left, slot, position, _ = chunk_of(rows, starts, firsts, counts, slots, positions, chunk, L)
    i = tl.arange(0, L)
    d = tl.arange(0, D)
    alive = (i < left)[:, None]
    row = (first + i).to(tl.int64)[:, None]
    gate = tl.load(projected + row * stride + C + head * D + d[None, :], mask=alive, other=0.0).to(tl.float32)
    column = head * D + d
    if PLANE:
        column = place_of(column)
    wait_for_previous(PDL)
    if left > 0:
        tile = (chunk.to(tl.int64) * VH + head) * L * D + i[:, None] * D + d[None, :]
        value = tl.load(found + tile).to(tl.float32)
        inverse = tl.rsqrt(tl.sum(value * value, axis=1) / D + eps)[:, None]
        made = gated(value, inverse, tl.load(gain + d).to(tl.float32)[None, :], gate)
        tl.store(out + row * VH * D + column[None, :], made.to(tl.float16), mask=alive)
        kept = alive & (i >= left - P)[:, None]
        if left <= P + L:
            ring = (slot.to(tl.int64) * P + (position + i) % P)[:, None] * C
            for part in tl.static_range(3):
                if part == 2 or head < KH:
                    channel = (part * KH + head) * D + d[None, :]
                    new = new_input(projected, row * stride + channel, kept)
                    tl.store(inputs + ring + channel, new.to(tl.float16), mask=kept)


def delta_chunk(
    projected: Tensor, ba: Tensor, weights: DeltaWeights, rows: Rows, chunks: Chunks, memory: DeltaMemory,
    scratch: ChunkScratch, out: Tensor, *, plane: bool = False, kept: Kept | None = None,
) -> None:  # fmt: skip
    """As `step.delta_step`, for rows of any number of tokens, with matrix products: not the same bits. A row that has a
    place in `kept` leaves the state before its last chunk there.

    Operands are rounded to fp16 (2^-12 of each on average): outputs are some 5e-4 from `recurrence` in the 2-norm, a
    state 3e-4.
    """
    keys, values, size = memory.heads
    number, flags = len(chunks.row), launch.dependent(projected, "delta_chunk")
    shape = {"KH": keys, "VH": values, "D": size, "L": CHUNK, **flags}
    ring = {"P": memory.inputs.shape[1], **shape}
    queries, keyed, valued, decay, beta, solved, scores, found = scratch
    prepare_kernel[(2 * keys + values, number)](
        projected, ba, weights.taps, weights.rate, weights.bias, *chunks, *rows, memory.inputs, memory.gates, queries,
        keyed, valued, decay, beta, projected.stride(0), ba.stride(0), **launch.DELTA_TILES, **ring,
    )  # fmt: skip
    solve_kernel[(keys, number)](
        queries, keyed, decay, beta, solved, scores, *chunks, *rows, LEVELS=LEVELS, **launch.DELTA_SOLVE, **shape
    )
    scan = dict(launch.DELTA_SCAN)
    width = min(scan.pop("BV"), size)
    scan_kernel[(size // width, values, len(rows.count))](
        queries, keyed, valued, decay, solved, scores, chunks.starts, rows.count, rows.slots, memory.state, found,
        memory.state if kept is None else kept.states, rows.count if kept is None else kept.places, size**-0.5,
        KEEP=kept is not None, BV=width, STAGES=launch.stages(projected), **scan, **shape,
    )  # fmt: skip
    finish_kernel[(values, number)](
        projected, weights.gain, *chunks, *rows, memory.inputs, found, out, projected.stride(0), weights.eps,
        PLANE=plane, **launch.DELTA_TILES, **ring,
    )  # fmt: skip


def delta_chunk_reference(
    projected: Tensor, ba: Tensor, weights: DeltaWeights, rows: Rows, chunks: Chunks, memory: DeltaMemory,
    scratch: ChunkScratch, out: Tensor, *, plane: bool = False, kept: Kept | None = None,
) -> None:  # fmt: skip
    if kept is not None:
        before = (rows.count - 1).clamp(min=0) // CHUNK * CHUNK
        delta_step_reference(projected, ba, weights, rows._replace(count=before), memory, out, plane=plane)
        for slot, place in zip(rows.slots.tolist(), kept.places.tolist(), strict=True):
            if place >= 0:
                kept.states[place] = memory.state[slot]
        rows = Rows(rows.first + before, rows.count - before, rows.slots, rows.positions + before)
    delta_step_reference(projected, ba, weights, rows, memory, out, plane=plane)
