"""Where top-k and top-p cut: a search over keys by two histograms of 1,024 bins, split over a row's chunks.

A key is a token's distance from the row's maximum in 26 bits: exact from a distance of 1 on, in steps of 2^-23 below
it, so that it orders as the logits do; from 128 on (a weight of 0 in fp32) it is `LAST_KEY`. The first level's bins are
its upper 10 bits, the second level's the next 10; what is left are 64 keys, counted where the cut is used. Weights are
summed as integers of 2^-34, so their order cannot matter. On a device a block's histogram lies in shared memory and
costs two atomics there per token; where there is no inline assembly every token goes to the row's bins at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device.units import release_next, wait_for_previous

CHUNK: tl.constexpr = tl.constexpr(2048)
PARTS: tl.constexpr = tl.constexpr(11)
"""fp32 per chunk: 0 maximum, 1 sum, 2 argmax; free 3 maximum, 4 sum, 5 sum of p*l, 6 argmax; legal 7 maximum, 8 sum,
9 sum of p*l; 10 kept below the last 64 keys. Sums are of e^(l - the chunk's maximum), but for `kept`, which is of
e^(l - the row's)."""
BINS: tl.constexpr = tl.constexpr(1024)
TAIL: tl.constexpr = tl.constexpr(64)
LEVELS: tl.constexpr = tl.constexpr(3)
LAST_KEY: tl.constexpr = tl.constexpr(1 << 26)
STEPS: tl.constexpr = tl.constexpr(1 << 23)
ONE_BITS: tl.constexpr = tl.constexpr(0x3F800000)
HALF_BITS: tl.constexpr = tl.constexpr(17)
HALF_WEIGHT: tl.constexpr = tl.constexpr(131072.0)
"""A weight is an integer of 2^-34 in two halves of 17 bits: the sums of a block's fit into 32 bits."""
ROUND: tl.constexpr = tl.constexpr(8388608.0)
ROUND_BITS: tl.constexpr = tl.constexpr(0x4B000000)
ROUND_SIGNED: tl.constexpr = tl.constexpr(12582912.0)
ROUND_SIGNED_BITS: tl.constexpr = tl.constexpr(0x4B400000)
"""2^23 and 1.5 * 2^23, and their bits: added to a float that is small beside them, they leave its whole number."""
LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)

_CLEAR = tl.constexpr(
    ".shared .align 16 .b8 maskloop_bins[8192];\n"
    "{\n.reg .u32 a, z;\nmov.u32 z, 0;\nmov.u32 a, %tid.x;\nshl.b32 a, a, 4;\nmov.u32 $0, maskloop_bins;\n"
    "add.u32 a, a, $0;\nst.shared.v4.u32 [a], {z, z, z, z};\nst.shared.v4.u32 [a+4096], {z, z, z, z};\nbar.sync 0;\n}"
)
_ADD = tl.constexpr(
    "{\n.reg .u32 a;\n.reg .pred p;\nsetp.lt.s32 p, $1, 0;\nmov.u32 $0, 0;\n@p bra done;\nmov.u32 a, maskloop_bins;\n"
    "shl.b32 $0, $1, 2;\nadd.u32 a, a, $0;\nred.shared.add.u32 [a], $2;\nred.shared.add.u32 [a+4096], $3;\ndone:\n}"
)
_POWER = tl.constexpr("ex2.approx.ftz.f32 $0, $1;")
_MEET = tl.constexpr("bar.sync 0;\nmov.u32 $0, 0;")
_READ = tl.constexpr(
    "{\n.reg .u32 a, b;\nmov.u32 a, maskloop_bins;\nshl.b32 b, $1, 2;\nadd.u32 a, a, b;\nld.shared.u32 b, [a];\n"
    "ld.shared.u32 a, [a+4096];\nmul.wide.u32 $0, b, 131072;\n.reg .s64 l;\ncvt.s64.s32 l, a;\nadd.s64 $0, $0, l;\n}"
)


class Bins(NamedTuple):
    """Device memory of the search for up to R rows; stage 0 is top-k, stage 1 top-p, three levels each."""

    sums: Tensor
    """int64 [6, R, BINS]."""
    state: Tensor
    """int64 [6, R, 4]: lowest key of the level's stretch, weight before it, target; see `keep_stretch` for the last."""
    tail: Tensor
    """int32 [R, M, TAIL]: tokens of each of the last 64 keys, by chunk."""


def make_bins(rows: int, chunks: int, device: torch.device) -> Bins:
    size = {"dtype": torch.int64, "device": device}
    slots = 2 * LEVELS.value
    tail = torch.zeros(rows, chunks, TAIL.value, dtype=torch.int32, device=device)
    return Bins(torch.zeros(slots, rows, BINS.value, **size), torch.zeros(slots, rows, 4, **size), tail)  # type: ignore[arg-type]  # keywords


@triton.jit
def key_of(distance):
    """int32 key of a distance from the row's maximum, fp32, not negative. Adding 1 rounds a short one to its step."""
    near = (distance + 1.0).to(tl.int32, bitcast=True) - ONE_BITS
    far = distance.to(tl.int32, bitcast=True) - (ONE_BITS - STEPS)
    return tl.minimum(tl.where(distance < 1.0, near, far), LAST_KEY)


@triton.jit
def distance_of(key):
    """The distance that a key (int32) stands for."""
    far = (key + (ONE_BITS - STEPS)).to(tl.float32, bitcast=True)
    return tl.where(key < STEPS, key.to(tl.float32) / STEPS, far)


@triton.jit
def weight_of(distance, ASM: tl.constexpr):
    """e^-distance; what is no normal float is 0 on a device."""
    if ASM:
        weight = tl.inline_asm_elementwise(_POWER, "=f,f", [distance * -LOG2_E], dtype=tl.float32, is_pure=True, pack=1)
    else:
        weight = tl.exp(-distance)
    return weight


@triton.jit
def halves(weight):
    """A weight of 0 to 1 as whole numbers of 2^-17, and of 2^-34 that are left (-2^16 to 2^16). Rounded by adding what
    leaves no fraction: conversions are an eighth as fast."""
    scaled = weight * HALF_WEIGHT
    whole = scaled + ROUND
    rest = (scaled - (whole - ROUND)) * HALF_WEIGHT + ROUND_SIGNED
    return whole.to(tl.int32, bitcast=True) - ROUND_BITS, rest.to(tl.int32, bitcast=True) - ROUND_SIGNED_BITS


@triton.jit
def row_top(parts, row, M: tl.constexpr, MP: tl.constexpr):
    """The row's maximum after mask and temperature."""
    m = tl.arange(0, MP)
    return tl.max(tl.load(parts + (row * M + m) * PARTS, mask=m < M, other=-float("inf")), axis=0)


@triton.jit
def advance(state, sums, row, floats, integers, RS, STAGE: tl.constexpr, LEVEL: tl.constexpr):
    """After LEVEL has been summed: lowest key of the bin that reaches the target, weight before it, target, weight in
    it. Past every weight the lowest key is LAST_KEY."""
    COUNT: tl.constexpr = TAIL if LEVEL == 2 else BINS
    SHIFT: tl.constexpr = 0 if LEVEL == 2 else (6 if LEVEL == 1 else 16)
    at = (STAGE * LEVELS + LEVEL) * RS + row
    j = tl.arange(0, COUNT)
    found = tl.load(sums + at * BINS + j)
    low = tl.zeros([], tl.int64)
    before = tl.zeros([], tl.int64)
    if LEVEL > 0:
        low = tl.load(state + at * 4)
        before = tl.load(state + at * 4 + 1)
        target = tl.load(state + at * 4 + 2)
    elif STAGE == 0:
        target = tl.load(integers + row).to(tl.int64)
    else:
        target = tl.maximum((tl.load(floats + RS + row).to(tl.float64) * tl.sum(found).to(tl.float64)).to(tl.int64), 1)
    reached = before + tl.cumsum(found, axis=0)
    place = tl.sum((reached < target).to(tl.int32), axis=0)
    inside = tl.minimum(place, COUNT - 1)
    here = tl.sum(tl.where(j == inside, found, 0), axis=0)
    skipped = tl.sum(tl.where(j < inside, found, 0), axis=0)
    low = tl.where((place == COUNT) | (low >= LAST_KEY), LAST_KEY, low + (inside.to(tl.int64) << SHIFT))
    return low, before + skipped, target, here


@triton.jit
def top_k_limit(state, sums, row, floats, integers, RS, active):
    """Key of the k-th token, how many of its ties stay, how many there are; LAST_KEY without top-k."""
    key = tl.full([], LAST_KEY, tl.int64)
    ties = tl.zeros([], tl.int64)
    total = tl.full([], 1, tl.int64)
    if active:
        key, before, target, total = advance(state, sums, row, floats, integers, RS, 0, 2)
        ties = target - before
        total = tl.maximum(total, 1)
    return key, ties, total


@triton.jit
def _empty(ASM: tl.constexpr):
    """Clear the block's bins in shared memory."""
    if ASM:
        tl.inline_asm_elementwise(_CLEAR, "=r", [], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _add(at, place, high, low, ASM: tl.constexpr):
    """Add weights by place, -1 for none: to the block's bins, or to the row's at `at` where there is no assembly."""
    if ASM:
        tl.inline_asm_elementwise(_ADD, "=&r,r,r,r", [place, high, low], dtype=tl.int32, is_pure=False, pack=1)
    else:
        weight = (high.to(tl.int64) << HALF_BITS) + low.to(tl.int64)
        tl.atomic_add(at + place, weight, mask=place >= 0, sem="relaxed")


@triton.jit
def _hand_over(at, ASM: tl.constexpr):
    """Add the block's bins to the row's at `at`."""
    if ASM:
        j = tl.arange(0, BINS)
        tl.inline_asm_elementwise(_MEET, "=r", [], dtype=tl.int32, is_pure=False, pack=1)
        sums = tl.inline_asm_elementwise(_READ, "=&l,r", [j], dtype=tl.int64, is_pure=False, pack=1)
        tl.atomic_add(at + j, sums, mask=sums > 0, sem="relaxed")


@triton.jit
def search_kernel(
    work, floats, integers, parts, sums, state, V, RS,
    STAGE: tl.constexpr, LEVEL: tl.constexpr, LIMITED: tl.constexpr, PER: tl.constexpr,
    M: tl.constexpr, MP: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (R, ceil(M / PER)), eight warps. Stage 0 counts (top-k), stage 1 weighs what top-k left where the
    step is LIMITED by it (top-p)."""
    SHIFT: tl.constexpr = 0 if LEVEL == 2 else (6 if LEVEL == 1 else 16)
    WIDTH: tl.constexpr = (TAIL if LEVEL == 2 else BINS) << SHIFT
    row = tl.program_id(0)
    first = tl.program_id(1) * PER
    release_next(PDL)
    top_k = tl.load(integers + row)
    counts = (top_k > 0) & (top_k < V)
    wanted = (tl.load(floats + row) > 0) & (counts if STAGE == 0 else tl.load(floats + RS + row) < 1.0)
    wait_for_previous(PDL)
    if wanted:
        values = work + row.to(tl.int64) * V
        i = first * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(values + i, mask=i < V, other=-float("inf"))
        top = row_top(parts, row, M, MP)
        low = tl.zeros([], tl.int64)
        if LEVEL > 0:
            low, before, target, _ = advance(state, sums, row, floats, integers, RS, STAGE, LEVEL - 1)
            if first == 0:
                new = state + ((STAGE * LEVELS + LEVEL) * RS + row) * 4
                tl.store(new, low)
                tl.store(new + 1, before)
                tl.store(new + 2, target)
        if LIMITED and STAGE == 1:
            limit, ties, total = top_k_limit(state, sums, row, floats, integers, RS, counts)
        at = sums + ((STAGE * LEVELS + LEVEL) * RS + row) * BINS
        least = low.to(tl.int32)
        most = tl.minimum(least + WIDTH, LAST_KEY)
        _empty(ASM)
        for j in tl.range(1, PER + 1):
            distance = top - value
            i += CHUNK
            value = tl.load(values + i, mask=(i < V) & (j < PER), other=-float("inf"))
            key = key_of(distance)
            inside = (key >= least) & (key < most)
            if STAGE == 0:
                high = tl.zeros([CHUNK], tl.int32)
                rest = high + 1
            else:
                weight = weight_of(distance, ASM)
                if LIMITED:
                    weight = tl.where(key == limit, weight * (ties.to(tl.float32) / total.to(tl.float32)), weight)
                    inside = inside & (key <= limit)
                high, rest = halves(weight)
            _add(at, tl.where(inside, (key - least) >> SHIFT, -1), high, rest, ASM)
        _hand_over(at, ASM)


@triton.jit
def last_stretch(state, sums, row, floats, integers, V, RS):
    """The last 64 keys' lowest, the weight before them, the target, and top-k's limit and ties. LAST_KEY where nothing
    is cut."""
    top_k = tl.load(integers + row)
    counts = (top_k > 0) & (top_k < V)
    low = tl.full([], LAST_KEY, tl.int64)
    before = tl.zeros([], tl.int64)
    target = tl.zeros([], tl.int64)
    limit = tl.full([], LAST_KEY, tl.int64)
    ties = tl.zeros([], tl.int64)
    if tl.load(floats + RS + row) < 1.0:
        low, before, target, _ = advance(state, sums, row, floats, integers, RS, 1, 1)
        limit, ties, _ = top_k_limit(state, sums, row, floats, integers, RS, counts)
    elif counts:
        low, before, target, _ = advance(state, sums, row, floats, integers, RS, 0, 1)
    return low, before, target, limit, ties


@triton.jit
def keep_stretch(state, row, RS, low, before, target, limit, ties):
    """Note the result of `last_stretch` for the next kernel."""
    at = state + ((LEVELS + 2) * RS + row) * 4
    tl.store(at, low)
    tl.store(at + 1, before)
    tl.store(at + 2, target)
    tl.store(at + 3, limit)
    tl.store(state + (LEVELS * RS + row) * 4, ties)


@triton.jit
def kept_stretch(state, row, RS):
    """What `keep_stretch` noted: low, before, target, limit, ties."""
    at = state + ((LEVELS + 2) * RS + row) * 4
    ties = tl.load(state + (LEVELS * RS + row) * 4)
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3), ties


@triton.jit
def cut(total, low, before, target, weighed, limit, ties):
    """From how many tokens have each of the last keys (int32 [TAIL]): the place of the threshold among them, and how
    many of its tokens stay. Everything at a lower place stays."""
    j = tl.arange(0, TAIL)
    key = low + j
    high, rest = halves(tl.exp(-distance_of(key.to(tl.int32))))
    each = tl.maximum((high.to(tl.int64) << HALF_BITS) + rest.to(tl.int64), 1)
    each = tl.where(weighed, each, 1)
    stay = tl.where(key < limit, total.to(tl.int64), tl.where(key == limit, ties, 0))
    reached = before + tl.cumsum(stay * each, axis=0)
    place = tl.minimum(tl.sum((reached < target).to(tl.int32), axis=0), TAIL - 1)
    weight = tl.sum(tl.where(j == place, each, 0), axis=0)
    count = tl.sum(tl.where(j == place, stay, 0), axis=0)
    left = target - before - tl.sum(tl.where(j < place, stay * each, 0), axis=0)
    return place, tl.minimum(tl.maximum((left + weight - 1) // weight, 0), count)
