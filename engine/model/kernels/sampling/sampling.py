"""Mask and sample on the device: repetition penalty, token bitmask, temperature, top-k, top-p, min-p, one uniform a
row.

Nothing is sorted. A row is cut into chunks, one block each; one pass applies penalty, mask and temperature and leaves
each chunk's maximum and sum. Top-k and top-p look for a threshold (`kernels.threshold`). Two last passes sum what is
kept by chunk and walk to the uniform number in id order. Specification: `engine.model.cpu.sampling`.
Axis letters: R rows, V logits width, W = ceil(V / 32), M chunks of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.interfaces import SampleInputs
from engine.model.cpu.sampling import sample_rows, unpack_bitmask
from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous
from engine.model.kernels.sampling.threshold import (
    BINS,
    CHUNK,
    LAST_KEY,
    LEVELS,
    PARTS,
    TAIL,
    Bins,
    cut,
    distance_of,
    keep_stretch,
    kept_stretch,
    key_of,
    last_stretch,
    make_bins,
    row_top,
    search_kernel,
    weight_of,
)

WARPS = 8


class SampleBuffers(NamedTuple):
    """Device memory of the sampler for up to R rows."""

    floats: Tensor
    """fp32 [5, R]: temperature, top_p, min_p, repetition penalty, uniform."""
    integers: Tensor
    """int32 [4, R]: top_k, slot, whether the row has a mask, whether its id becomes the slot's last."""
    bitmask: Tensor
    """int32 [R, W]."""
    work: Tensor
    """fp32 [R, V]: penalised, masked, scaled logits."""
    parts: Tensor
    """fp32 [R, M, PARTS]."""
    bins: Bins
    ids: Tensor
    """int32 [R], on the host where it is pinned: the kernel writes it there, which is sooner than a copy."""
    facts: Tensor
    """fp32 [R, 8]: raw and constrained logprob, mass, free entropy, entropy, free argmax, whether it is legal."""


def make_buffers(rows: int, vocab: int, device: torch.device, ids: Tensor) -> SampleBuffers:
    chunks = -(-vocab // CHUNK.value)

    def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(size, dtype=dtype, device=device)

    return SampleBuffers(
        zeros(5, rows), zeros(4, rows, dtype=torch.int32), zeros(rows, -(-vocab // 32), dtype=torch.int32),
        zeros(rows, vocab),
        zeros(rows, chunks, PARTS.value), make_bins(rows, chunks, device), ids, zeros(rows, 8),
    )  # fmt: skip


@triton.jit
def apply_kernel(
    logits,
    floats,
    integers,
    bitmask,
    seen,
    work,
    parts,
    sums,
    V,
    W,
    RS,
    FIRST: tl.constexpr,
    END: tl.constexpr,
    FACTS: tl.constexpr,
    M: tl.constexpr,
    ASM: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (R, M). RS: stride of a parameter in `floats` and `integers`, and the row count of `sums`, of which the
    histograms FIRST to END - 1 are emptied."""
    row = tl.program_id(0)
    chunk = tl.program_id(1)
    release_next(PDL)
    i = chunk * CHUNK + tl.arange(0, CHUNK)
    temperature = tl.load(floats + row)
    penalty = tl.load(floats + 3 * RS + row)
    slot = tl.load(integers + RS + row).to(tl.int64)
    masked = tl.load(integers + 2 * RS + row)
    at = row.to(tl.int64) * V + i
    word = tl.load(bitmask + row.to(tl.int64) * W + i // 32, mask=(i < V) & (masked != 0), other=-1)
    legal = (((word >> (i % 32)) & 1) != 0) & (i < V)
    wait_for_previous(PDL)
    raw = tl.load(logits + at, mask=i < V, other=-float("inf"))
    value = raw
    if penalty != 1.0:
        marks = tl.load(seen + slot * W + i // 32, mask=i < V, other=0)
        value = tl.where(((marks >> (i % 32)) & 1) != 0, tl.where(raw > 0, raw / penalty, raw * penalty), raw)
    if (temperature > 0) & (temperature != 1.0):
        value = value * (1.0 / temperature)
    value = tl.where(legal, value, -float("inf"))
    tl.store(work + at, value, mask=i < V)
    top = tl.max(value, axis=0)
    base = parts + (row * M + chunk) * PARTS
    tl.store(base, top)
    tl.store(base + 1, tl.sum(weight_of(tl.where(top == -float("inf"), 0.0, top) - value, ASM)))
    tl.store(base + 2, (chunk * CHUNK + tl.argmax(value, axis=0, tie_break_left=True)).to(tl.float32))
    if FACTS:
        _store_sums(base + 3, raw)
        tl.store(base + 6, (chunk * CHUNK + tl.argmax(raw, axis=0, tie_break_left=True)).to(tl.float32))
        _store_sums(base + 7, tl.where(legal, raw, -float("inf")))
    for q in tl.range(FIRST + chunk, END, M):
        tl.store(sums + (q * RS + row) * BINS + tl.arange(0, BINS), tl.zeros([BINS], tl.int64))


@triton.jit
def _store_sums(at, value):
    """Maximum, sum of e^(l - max), sum of e^(l - max) * (l - max)."""
    top = tl.max(value, axis=0)
    shift = value - tl.where(top == -float("inf"), 0.0, top)
    p = tl.exp(shift)
    tl.store(at, top)
    tl.store(at + 1, tl.sum(p))
    tl.store(at + 2, tl.sum(tl.where(p > 0, p * shift, 0.0)))


@triton.jit
def keep_kernel(
    work, floats, integers, parts, sums, state, tail, V, RS,
    PER: tl.constexpr, M: tl.constexpr, MP: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (R, ceil(M / PER)): how much weight each chunk keeps below the last 64 keys, and how many tokens have each
    of those."""
    row = tl.program_id(0)
    first = tl.program_id(1) * PER
    release_next(PDL)
    least = tl.load(floats + 2 * RS + row)
    wait_for_previous(PDL)
    if tl.load(floats + row) > 0:
        values = work + row.to(tl.int64) * V
        i = first * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(values + i, mask=i < V, other=-float("inf"))
        top = row_top(parts, row, M, MP)
        low, before, target, limit, ties = last_stretch(state, sums, row, floats, integers, V, RS)
        if first == 0:
            keep_stretch(state, row, RS, low, before, target, limit, ties)
        near = low.to(tl.int32)
        far = tl.minimum(near + TAIL, LAST_KEY)
        end = tl.minimum(first + PER, M)
        for chunk in tl.range(first, end):
            distance = top - value
            i += CHUNK
            value = tl.load(values + i, mask=(i < V) & (chunk + 1 < end), other=-float("inf"))
            key = key_of(distance)
            p = weight_of(distance, ASM)
            tl.store(parts + (row * M + chunk) * PARTS + 10, tl.sum(tl.where((key < near) & (p >= least), p, 0.0)))
            inside = (key >= near) & (key < far)
            at = tail + (row * M + chunk) * TAIL + tl.arange(0, TAIL)
            if tl.max(inside.to(tl.int32)) > 0:
                tl.store(at, tl.histogram(tl.where(inside, key - near, 0), TAIL, mask=inside))
            else:
                tl.store(at, tl.zeros([TAIL], tl.int32))


@triton.jit
def _kept(value, top, least, key, inside, ASM: tl.constexpr):
    """Weights of tokens that are surely kept, and which are ties at the threshold. An illegal token is neither."""
    place = key_of(top - value)
    p = weight_of(top - value, ASM)
    fine = inside & (place < LAST_KEY) & (p >= least)
    return tl.where(fine & (place < key), p, 0.0), fine & (place == key)


@triton.jit
def _kept_by_chunk(state, tail, base, row, weighed, RS, least, M: tl.constexpr, MP: tl.constexpr):
    """Threshold, how many of its ties stay, what one of them weighs; by chunk the ties and the weight of all others."""
    m = tl.arange(0, MP)
    j = tl.arange(0, TAIL)
    low, before, target, limit, ties = kept_stretch(state, row, RS)
    counts = tl.load(tail + (row * M + m[:, None]) * TAIL + j[None, :], mask=(m < M)[:, None], other=0)
    place, stay = cut(tl.sum(counts, axis=0), low, before, target, weighed, limit, ties)
    weight = tl.exp(-distance_of((low + j).to(tl.int32)))
    weight = tl.where((weight >= least) & (low < LAST_KEY), weight, 0.0)
    each = tl.sum(tl.where(j == place, weight, 0.0), axis=0)
    sure = tl.where(j < place, weight, 0.0)
    mass = tl.load(base + 10, mask=m < M, other=0.0) + tl.sum(counts.to(tl.float32) * sure[None, :], axis=1)
    found = tl.sum(tl.where((j == place)[None, :], counts, 0), axis=1)
    found = tl.where(each > 0, found, 0)
    return tl.minimum(low + place, LAST_KEY), stay, each.to(tl.float64), found.to(tl.int64), mass.to(tl.float64)


@triton.jit
def draw_kernel(
    logits, work, floats, integers, parts, state, tail, last, ids, facts, V, RS,
    FILTERED: tl.constexpr, FACTS: tl.constexpr, M: tl.constexpr, MP: tl.constexpr, ASM: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (R): walk to the uniform number, by chunks and then inside one; the id becomes the slot's last."""
    row = tl.program_id(0)
    release_next(PDL)
    m = tl.arange(0, MP)
    base = parts + (row * M + m) * PARTS
    temperature = tl.load(floats + row)
    wait_for_previous(PDL)
    tops = tl.load(base, mask=m < M, other=-float("inf"))
    top = tl.max(tops, axis=0)
    if temperature > 0:
        if FILTERED:
            least = tl.load(floats + 2 * RS + row)
            weighed = tl.load(floats + RS + row) < 1.0
            key, ties, each, found, mass = _kept_by_chunk(state, tail, base, row, weighed, RS, least, M, MP)
            earlier = tl.cumsum(found, axis=0) - found
            mass += each * tl.minimum(tl.maximum(ties - earlier, 0), found).to(tl.float64)
        else:
            key = tl.full([], LAST_KEY, tl.int64)
            ties = tl.zeros([], tl.int64)
            each = tl.zeros([], tl.float64)
            least = 0.0
            earlier = tl.zeros([MP], tl.int64)
            mass = (tl.load(base + 1, mask=m < M, other=0.0) * tl.exp(tops - top)).to(tl.float64)
        reached = tl.cumsum(mass, axis=0)
        goal = tl.load(floats + 4 * RS + row).to(tl.float64) * tl.sum(mass, axis=0)
        final = tl.max(tl.where(mass > 0, m, 0), axis=0)
        chunk = tl.minimum(tl.sum((reached <= goal).to(tl.int32), axis=0), final)
        ahead = tl.sum(tl.where(m < chunk, mass, 0.0), axis=0)
        left = ties - tl.sum(tl.where(m == chunk, earlier, 0), axis=0)
        i = chunk * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(work + row.to(tl.int64) * V + i, mask=i < V, other=-float("inf"))
        p, tie = _kept(value, top, least, key, i < V, ASM)
        rank = tl.cumsum(tie.to(tl.int32), axis=0) - 1
        weight = p.to(tl.float64) + tl.where(tie & (rank < left), each, 0.0)
        place = tl.sum((ahead + tl.cumsum(weight, axis=0) <= goal).to(tl.int32), axis=0)
        token = chunk * CHUNK + tl.minimum(place, tl.max(tl.where(weight > 0, tl.arange(0, CHUNK), 0), axis=0))
    else:
        best = tl.argmax(tops, axis=0, tie_break_left=True)
        token = tl.load(parts + (row * M + best) * PARTS + 2).to(tl.int32)
    tl.store(ids + row, token)
    if tl.load(integers + 3 * RS + row) != 0:
        tl.store(last + tl.load(integers + RS + row), token)
    if FACTS:
        _store_facts(logits + row.to(tl.int64) * V, base, m < M, token, facts + row * 8, m)


@triton.jit
def _store_facts(logits, base, inside, token, facts, m):
    free_top = tl.load(base + 3, mask=inside, other=-float("inf"))
    legal_top = tl.load(base + 7, mask=inside, other=-float("inf"))
    top = tl.max(free_top, axis=0)
    high = tl.max(legal_top, axis=0)
    free_log, free_entropy = _joined(base + 4, free_top, top, inside)
    legal_log, legal_entropy = _joined(base + 8, legal_top, high, inside)
    value = tl.load(logits + token)
    chunk = tl.argmax(free_top, axis=0, tie_break_left=True)
    favourite = tl.sum(tl.where(m == chunk, tl.load(base + 6, mask=inside, other=0.0), 0.0), axis=0)
    tl.store(facts, value - free_log)
    tl.store(facts + 1, value - legal_log)
    tl.store(facts + 2, tl.exp(legal_log - free_log))
    tl.store(facts + 3, free_entropy)
    tl.store(facts + 4, legal_entropy)
    tl.store(facts + 5, favourite)
    tl.store(facts + 6, (high == top).to(tl.float32))


@triton.jit
def _joined(base, tops, top, inside):
    """log of the sum of e^l, and the entropy, from chunk maxima and sums."""
    scale = tl.exp(tops - top)
    s = tl.load(base, mask=inside, other=0.0)
    weighted = tl.load(base + 1, mask=inside, other=0.0)
    total = tl.sum(s * scale, axis=0)
    shift = tl.where(inside & (s > 0), tops - top, 0.0)
    mean = tl.sum((weighted + s * shift) * scale, axis=0) / total
    return top + tl.log(total), tl.log(total) - mean


def sample(
    logits: Tensor,
    buffers: SampleBuffers,
    seen: Tensor,
    last: Tensor,
    *,
    stages: tuple[int, ...],
    filtered: bool,
    facts: bool,
) -> None:
    """ids[r] of every row of logits fp32 [R, V], and last[slot]. `stages`: 0 where a row has top-k, 1 where one has
    top-p; `filtered` where any row has top-k, top-p or min-p; `facts` also fills `facts`. seen: int32 [slots, W]."""
    rows, vocab = logits.shape
    stride = buffers.floats.shape[1]
    per, chunks = chunks_of_block(rows), buffers.parts.shape[1]
    one = {"M": chunks, "num_warps": WARPS, **launch.options(logits)}
    shared = {"MP": triton.next_power_of_2(chunks), **one}
    f, n, parts, work, bins = buffers.floats, buffers.integers, buffers.parts, buffers.work, buffers.bins
    histograms, walks = histograms_of(stages), (rows, -(-chunks // per))
    apply_kernel[(rows, chunks)](
        logits, f, n, buffers.bitmask, seen, work, parts, bins.sums, vocab, buffers.bitmask.shape[1], stride,
        FIRST=min(histograms, default=0), END=max(histograms, default=-1) + 1, FACTS=facts, **one,
    )  # fmt: skip
    for histogram in histograms:
        stage, level = divmod(histogram, LEVELS.value)
        search_kernel[walks](
            work, f, n, parts, bins.sums, bins.state, vocab, stride, STAGE=stage, LEVEL=level, LIMITED=0 in stages,
            PER=per, **shared,
        )  # fmt: skip
    if filtered:
        keep_kernel[walks](work, f, n, parts, bins.sums, bins.state, bins.tail, vocab, stride, PER=per, **shared)
    draw_kernel[(rows,)](
        logits, work, f, n, parts, bins.state, bins.tail, last, buffers.ids, buffers.facts, vocab, stride,
        FILTERED=filtered, FACTS=facts, **shared,
    )  # fmt: skip


def chunks_of_block(rows: int) -> int:
    """How many chunks a block of the search walks over: few rows are spread over the device; the blocks of many do what
    is done once a block less often. Measured on an H100."""
    return 1 if rows <= 2 else 2 if rows <= 8 else 4


def histograms_of(stages: tuple[int, ...]) -> list[int]:
    """The searches of a step, stage * LEVELS + level: two levels each, and top-k's third where top-p weighs its
    ties."""
    levels = {stage: 3 if stage == 0 and 1 in stages else 2 for stage in stages}
    return [stage * LEVELS.value + level for stage, count in levels.items() for level in range(count)]


def sample_reference(
    logits: Tensor,
    buffers: SampleBuffers,
    seen: Tensor,
    last: Tensor,
    *,
    stages: tuple[int, ...],
    filtered: bool,
    facts: bool,
) -> None:
    """The specification of `sample`: row by row through `engine.model.cpu.sampling`, parameters out of the buffers."""
    rows, vocab = logits.shape
    temperature, top_p, min_p, penalty, uniform = buffers.floats[:, :rows].tolist()
    top_k, slots, masked, writes = buffers.integers[:, :rows].tolist()
    for row in range(rows):
        marks = unpack_bitmask(seen[slots[row]].unsqueeze(0), vocab)[0].nonzero().squeeze(-1)
        inputs = SampleInputs(
            temperature=[temperature[row]], top_p=[top_p[row]], top_k=[top_k[row]], min_p=[min_p[row]],
            repetition_penalty=[penalty[row]], uniform=[uniform[row]], slots=[slots[row]], want_logprobs=int(facts),
            want_stats=facts,
        )  # fmt: skip
        if masked[row]:
            inputs.bitmask = buffers.bitmask[row : row + 1]
        found = sample_rows(logits[row : row + 1], inputs, [marks])
        buffers.ids[row] = found.token_ids[0]
        if writes[row]:
            last[slots[row]] = found.token_ids[0]
        if facts and found.logprob_raw and found.logprob and found.mass and found.entropy_free and found.entropy:
            assert found.argmax_free is not None
            assert found.argmax_legal is not None
            buffers.facts[row, :7] = torch.tensor(
                [found.logprob_raw[0], found.logprob[0], found.mass[0], found.entropy_free[0], found.entropy[0],
                 float(found.argmax_free[0]), float(found.argmax_legal[0])]
            )  # fmt: skip
