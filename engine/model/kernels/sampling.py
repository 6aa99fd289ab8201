"""Mask and sample on the device: repetition penalty, token bitmask, temperature, top-k, top-p, min-p, one uniform a
row.

Nothing is sorted. A row is cut into chunks, one block each; one pass applies penalty, mask and temperature and leaves
each
chunk's maximum and sum. Top-k and top-p look for a threshold: eight passes add up what lies in 16 bins of the current
stretch of keys, four bits a pass, so that the threshold is exact to the last bit; sums are joined as 64-bit integers,
so
their order cannot matter. Two last passes sum what is kept by chunk and walk to the uniform number in id order.
Specification: `engine.model.sampling`. Axis letters: R rows, V logits width, W = ceil(V / 32), M chunks of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.interfaces import SampleInputs
from engine.model.kernels import launch
from engine.model.kernels.units import release_next, wait_for_previous
from engine.model.sampling import sample_rows, unpack_bitmask

CHUNK: tl.constexpr = tl.constexpr(4096)
PARTS: tl.constexpr = tl.constexpr(12)
"""fp32 per chunk: 0 maximum, 1 sum, 2 argmax; free 3 maximum, 4 sum, 5 sum of p*l, 6 argmax; legal 7 maximum, 8 sum,
9 sum of p*l; 10 kept, 11 ties. Sums are of e^(l - the chunk's maximum), but for `kept`, which is of e^(l - the
row's)."""
PASSES = 8
FIXED: tl.constexpr = tl.constexpr(1099511627776.0)
"""Weights are joined as integers of 2^-40."""
LAST_KEY: tl.constexpr = tl.constexpr(2139095040)
"""The bits of +inf: the key of an illegal token. A key is the fp32 bits of (row maximum - value), so it orders."""


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
    bins: Tensor
    """int64 [2, PASSES, R, 16]."""
    state: Tensor
    """int64 [2, PASSES, R, 4]: lowest key of the pass's stretch, weight before it, target."""
    ids: Tensor
    """int32 [R]."""
    facts: Tensor
    """fp32 [R, 8]: raw and constrained logprob, mass, free entropy, entropy, free argmax, whether it is legal."""


def make_buffers(rows: int, vocab: int, device: torch.device) -> SampleBuffers:
    chunks = -(-vocab // CHUNK.value)

    def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(size, dtype=dtype, device=device)

    return SampleBuffers(
        zeros(5, rows), zeros(4, rows, dtype=torch.int32), zeros(rows, -(-vocab // 32), dtype=torch.int32),
        zeros(rows, vocab),
        zeros(rows, chunks, PARTS.value), zeros(2, PASSES, rows, 16, dtype=torch.int64),
        zeros(2, PASSES, rows, 4, dtype=torch.int64), zeros(rows, dtype=torch.int32), zeros(rows, 8),
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
    bins,
    V,
    W,
    RS,
    FACTS: tl.constexpr,
    M: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (R, M). RS: stride of a parameter in `floats` and `integers`, and the row count of `bins`."""
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
    if temperature > 0:
        value = value / temperature
    value = tl.where(legal, value, -float("inf"))
    tl.store(work + at, value, mask=i < V)
    top = tl.max(value, axis=0)
    base = parts + (row * M + chunk) * PARTS
    tl.store(base, top)
    tl.store(base + 1, tl.sum(tl.exp(value - tl.where(top == -float("inf"), 0.0, top))))
    tl.store(base + 2, (chunk * CHUNK + tl.argmax(value, axis=0, tie_break_left=True)).to(tl.float32))
    if FACTS:
        _store_sums(base + 3, raw)
        tl.store(base + 6, (chunk * CHUNK + tl.argmax(raw, axis=0, tie_break_left=True)).to(tl.float32))
        _store_sums(base + 7, tl.where(legal, raw, -float("inf")))
    for q in tl.range(chunk, 16, M):
        tl.store(bins + (q * RS + row) * 16 + tl.arange(0, 16), tl.zeros([16], tl.int64))


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
def _row_top(parts, row, M: tl.constexpr, MP: tl.constexpr):
    """The row's maximum after mask and temperature."""
    m = tl.arange(0, MP)
    return tl.max(tl.load(parts + (row * M + m) * PARTS, mask=m < M, other=-float("inf")), axis=0)


@triton.jit
def _advance(state, bins, row, floats, integers, RS, STAGE: tl.constexpr, FIRST: tl.constexpr, number):
    """The stretch of pass `number` (FIRST: it is pass 1), from the sums of the pass before: lowest key, weight before
    it, target, weight of the
    bin it is. Past every weight the lowest key is LAST_KEY."""
    j = tl.arange(0, 16)
    sums = tl.load(bins + ((STAGE * 8 + number - 1) * RS + row) * 16 + j)
    low = tl.zeros([], tl.int64)
    before = tl.zeros([], tl.int64)
    if not FIRST:
        old = state + ((STAGE * 8 + number - 1) * RS + row) * 4
        low = tl.load(old)
        before = tl.load(old + 1)
        target = tl.load(old + 2)
    elif STAGE == 0:
        target = tl.load(integers + row).to(tl.int64)
    else:
        target = tl.maximum((tl.load(floats + RS + row).to(tl.float64) * tl.sum(sums).to(tl.float64)).to(tl.int64), 1)
    reached = before + tl.cumsum(sums, axis=0)
    found = tl.sum((reached < target).to(tl.int32), axis=0)
    inside = tl.minimum(found, 15)
    here = tl.sum(tl.where(j == inside, sums, 0), axis=0)
    skipped = tl.sum(tl.where(j < inside, sums, 0), axis=0)
    low = tl.where((found == 16) | (low >= LAST_KEY), LAST_KEY, low + (inside.to(tl.int64) << (4 * (8 - number))))
    return low, before + skipped, target, here


@triton.jit
def _top_k_limit(state, bins, row, floats, integers, RS, active):
    """Key of the k-th token, how many of its ties stay, how many there are; LAST_KEY without top-k."""
    key = tl.full([], LAST_KEY, tl.int64)
    ties = tl.zeros([], tl.int64)
    total = tl.full([], 1, tl.int64)
    if active:
        key, before, target, total = _advance(state, bins, row, floats, integers, RS, 0, False, 8)
        ties = target - before
        total = tl.maximum(total, 1)
    return key, ties, total


@triton.jit(do_not_specialize=["number"])
def search_kernel(
    work, floats, integers, parts, bins, state, V, RS, number,
    STAGE: tl.constexpr, START: tl.constexpr, M: tl.constexpr, MP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (R, M). Stage 0 counts (top-k), stage 1 weighs what top-k left (top-p). Pass `number` of 0..7; START says
    whether it is 0, 1 or a later one."""
    row = tl.program_id(0)
    chunk = tl.program_id(1)
    release_next(PDL)
    top_k = tl.load(integers + row)
    counts = (top_k > 0) & (top_k < V)
    wanted = (tl.load(floats + row) > 0) & (counts if STAGE == 0 else tl.load(floats + RS + row) < 1.0)
    wait_for_previous(PDL)
    if wanted:
        low = tl.zeros([], tl.int64)
        if START > 0:
            low, before, target, _ = _advance(state, bins, row, floats, integers, RS, STAGE, START == 1, number)
            if chunk == 0:
                new = state + ((STAGE * 8 + number) * RS + row) * 4
                tl.store(new, low)
                tl.store(new + 1, before)
                tl.store(new + 2, target)
        top = _row_top(parts, row, M, MP)
        if STAGE == 1:
            limit, ties, total = _top_k_limit(state, bins, row, floats, integers, RS, counts)
        i = chunk * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(work + row.to(tl.int64) * V + i, mask=i < V, other=-float("inf"))
        key = (top - value).to(tl.int32, bitcast=True)
        weight = tl.full([CHUNK], 1.0, tl.float32)
        if STAGE == 1:
            share = tl.where(key == limit, ties.to(tl.float32) / total.to(tl.float32), 1.0)
            weight = tl.where(key <= limit, tl.exp(value - top) * share, 0.0)
        weight = tl.where(key < LAST_KEY, weight, 0.0)
        place = (key - low.to(tl.int32)) >> (4 * (7 - number))
        at = bins + ((STAGE * 8 + number) * RS + row) * 16
        for j in tl.static_range(16):
            inside = tl.sum(tl.where(place == j, weight, 0.0), axis=0)
            if inside > 0:
                tl.atomic_add(
                    at + j, (inside * FIXED).to(tl.int64) if STAGE == 1 else inside.to(tl.int64), sem="relaxed"
                )


@triton.jit
def _kept_limit(state, bins, row, floats, integers, V, RS, FILTERED: tl.constexpr):
    """Everything with a key under the first result is kept, and as many of its ties as the second says."""
    top_k = tl.load(integers + row)
    counts = (top_k > 0) & (top_k < V)
    key = tl.full([], LAST_KEY, tl.int64)
    ties = tl.zeros([], tl.int64)
    if FILTERED:
        key, ties, _ = _top_k_limit(state, bins, row, floats, integers, RS, counts)
        if tl.load(floats + RS + row) < 1.0:
            at, before, target, _ = _advance(state, bins, row, floats, integers, RS, 1, False, 8)
            distance = at.to(tl.int32).to(tl.float32, bitcast=True)
            each = tl.maximum((tl.exp(-distance) * FIXED).to(tl.int64), 1)
            need = (target - before + each - 1) // each
            ties = tl.where(at < key, need, tl.minimum(need, ties))
            key = tl.minimum(at, key)
    return key, ties


@triton.jit
def _kept(value, top, least, key, inside):
    """Weights of tokens that are surely kept, and which are ties at the threshold. An illegal token is neither."""
    bits = (top - value).to(tl.int32, bitcast=True)
    p = tl.exp(value - top)
    fine = inside & (bits < LAST_KEY) & (p >= least)
    return tl.where(fine & (bits < key), p, 0.0), fine & (bits == key)


@triton.jit
def keep_kernel(
    work, floats, integers, parts, bins, state, V, RS, M: tl.constexpr, MP: tl.constexpr, PDL: tl.constexpr
):
    """Grid (R, M): how much weight each chunk keeps, and how many ties of the threshold it holds."""
    row = tl.program_id(0)
    chunk = tl.program_id(1)
    release_next(PDL)
    least = tl.load(floats + 2 * RS + row)
    wait_for_previous(PDL)
    if tl.load(floats + row) > 0:
        top = _row_top(parts, row, M, MP)
        key, _ = _kept_limit(state, bins, row, floats, integers, V, RS, True)
        i = chunk * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(work + row.to(tl.int64) * V + i, mask=i < V, other=-float("inf"))
        p, tie = _kept(value, top, least, key, i < V)
        tl.store(parts + (row * M + chunk) * PARTS + 10, tl.sum(p))
        tl.store(parts + (row * M + chunk) * PARTS + 11, tl.sum(tie.to(tl.float32)))


@triton.jit
def draw_kernel(
    logits, work, floats, integers, parts, bins, state, last, ids, facts, V, RS,
    FILTERED: tl.constexpr, FACTS: tl.constexpr, M: tl.constexpr, MP: tl.constexpr, PDL: tl.constexpr,
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
        key, ties = _kept_limit(state, bins, row, floats, integers, V, RS, FILTERED)
        each = tl.exp(-key.to(tl.int32).to(tl.float32, bitcast=True)).to(tl.float64)
        if FILTERED:
            least = tl.load(floats + 2 * RS + row)
            found = tl.load(base + 11, mask=m < M, other=0.0).to(tl.int64)
            mass = tl.load(base + 10, mask=m < M, other=0.0).to(tl.float64)
            earlier = tl.cumsum(found, axis=0) - found
            mass += each * tl.minimum(tl.maximum(ties - earlier, 0), found).to(tl.float64)
        else:
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
        p, tie = _kept(value, top, least, key, i < V)
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
    stride, chunks = buffers.floats.shape[1], buffers.parts.shape[1]
    flags = launch.options(logits)
    flags.pop("ASM")
    shared = {"M": chunks, "MP": triton.next_power_of_2(chunks), **flags}
    f, n = buffers.floats, buffers.integers
    apply_kernel[(rows, chunks)](
        logits, f, n, buffers.bitmask, seen, buffers.work, buffers.parts, buffers.bins, vocab,
        buffers.bitmask.shape[1], stride,
        FACTS=facts, M=chunks, num_warps=8, **flags,
    )  # fmt: skip
    for stage in stages:
        for number in range(PASSES):
            search_kernel[(rows, chunks)](
                buffers.work, f, n, buffers.parts, buffers.bins, buffers.state, vocab, stride, number, STAGE=stage,
                START=min(number, 2),
                num_warps=8, **shared,
            )  # fmt: skip
    if filtered:
        keep_kernel[(rows, chunks)](
            buffers.work, f, n, buffers.parts, buffers.bins, buffers.state, vocab, stride, num_warps=8, **shared
        )
    draw_kernel[(rows,)](
        logits, buffers.work, f, n, buffers.parts, buffers.bins, buffers.state, last, buffers.ids, buffers.facts,
        vocab, stride,
        FILTERED=filtered, FACTS=facts, num_warps=8, **shared,
    )  # fmt: skip


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
    """The specification of `sample`: row by row through `engine.model.sampling`, parameters out of the buffers."""
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
