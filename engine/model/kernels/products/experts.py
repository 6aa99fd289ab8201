"""The experts' products over the chosen experts' fragment units alone: nothing is gathered or copied but tokens.

One token, or two: one block per weight tile and chosen expert; the down kernel requests its weights before the gate/up
kernel has ended. Several tokens: `kernels.strips`. Axis letters as in `router`; I inner size.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight, unfragment
from engine.model.kernels.device.sums import leave_sums, sums_of
from engine.model.kernels.device.units import (
    HALF_SCALE,
    decode,
    load_units,
    plane_products,
    prepare_table,
    release_next,
    row_factors,
    row_unit,
    unit_products,
    wait_for_previous,
)
from engine.model.kernels.products.ordered import groups_of, ordered_chosen, ordered_pairs
from engine.model.kernels.routing.choice import choose, choose_experts, expert_of, experts_of, route_logits
from engine.model.kernels.routing.router import Pairs


@triton.jit
def gate_up_one_kernel(
    x, logits, ids, weights, words, scales, table, inner,
    I: tl.constexpr, K: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, CP: tl.constexpr,
    NORM_TOPK: tl.constexpr, GIVEN: tl.constexpr, AHEAD: tl.constexpr, T: tl.constexpr, TILES: tl.constexpr,
    BITS: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (2I/16/TILES, C, T), each token alone: inner fp16 [T, C, I] = route weight * silu(gate) * up / 64. Every
    block finds the experts by the router's logits [T, E]; GIVEN they are in ids and weights [T, C]. A block's warps
    share its tiles as in `linear.linear_kernel`."""
    SHARING: tl.constexpr = WARPS // TILES
    TURNS: tl.constexpr = K // 64 // SHARING
    tile = tl.program_id(0) * TILES
    slot = tl.program_id(1)
    if T > 1:
        x += tl.program_id(2) * K
        logits += tl.program_id(2) * E
        inner += tl.program_id(2) * C * I
        slot += tl.program_id(2) * C * GIVEN
    lane = prepare_table(table, WARPS, BITS, ASM)
    warp = tl.arange(0, WARPS)
    place = (row_unit(WARPS, 8) % SHARING * (TURNS * 64))[:, None] + tl.arange(0, 32)[None, :]
    wait_for_previous(PDL)
    release_next(PDL)  # after the wait: the next kernel reads the logits without waiting for us
    if GIVEN:
        expert = tl.maximum(tl.load(ids + slot), 0)  # that of padding is told as -1
    else:
        choice = choose_experts(logits, E, EP, C, ASM)
        expert = expert_of(choice, slot, EP, ASM)
    unit = (expert.to(tl.int64) * (2 * I // 16) + tile) * (K // 64) + warp * TURNS
    held = ()
    for c in tl.static_range(AHEAD):
        held = held + (load_units(words, scales, unit, WARPS, BITS, c, TURNS & -TURNS),)  # noqa: RUF005 - Triton knows no unpacking
    row = tl.arange(0, 8 * TILES)
    if BITS == 8 or BITS > 31:
        n = expert * (2 * I) + tile * 16 + row // 8 * 16 + row % 8
        gate_factors = row_factors(scales, table, n, BITS)
        up_factors = row_factors(scales, table, n + 8, BITS)
    if GIVEN:
        weight = tl.load(weights + slot) / HALF_SCALE
    else:
        mine, others = route_logits(choice, expert, logits, E, EP, C, CP, NORM_TOPK, ASM)
        weight = 1.0 / tl.sum(tl.exp(others - mine)) / HALF_SCALE
    acc = tl.zeros([WARPS, 16, 8], tl.float32)
    for c in tl.static_range(TURNS):
        xa = tl.load(x + place + c * 64)
        xb = tl.load(x + place + (c * 64 + 32))
        w0, w1, w2, w3, s = held[c]
        if c + AHEAD < TURNS:
            held = held + (load_units(words, scales, unit, WARPS, BITS, c + AHEAD, TURNS & -TURNS),)  # noqa: RUF005 - Triton knows no unpacking
        acc += unit_products(w0, w1, w2, w3, s, xa, xb, lane, table, WARPS, 8, BITS, ASM)
    leave_sums(acc, WARPS, 1, ASM)
    gate = sums_of(acc, row // 8 * 16 + row % 8, WARPS, SHARING, 1, ASM)
    up = sums_of(acc, row // 8 * 16 + row % 8 + 8, WARPS, SHARING, 1, ASM)
    if BITS == 8 or BITS > 31:
        gate = gate * gate_factors
        up = up * up_factors
    value = gate * tl.sigmoid(gate) * up * weight
    tl.store(inner + tl.program_id(1) * I + tile * 8 + row, value.to(tl.float16))


@triton.jit
def _down_units(
    words, scales, table, choice, ids, tile, c: tl.constexpr, N: tl.constexpr, BLOCKS: tl.constexpr,
    TURNS: tl.constexpr, EP: tl.constexpr, GIVEN: tl.constexpr, WARPS: tl.constexpr, BITS: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """Words and scales, those of rows in them, of every warp's unit c of the chosen experts' joined columns. Blocks
    have scales of rows, too, in other tools' formats."""
    ALONE: tl.constexpr = BLOCKS % TURNS == 0  # a warp's units are one expert's
    FIRST: tl.constexpr = 0 if ALONE else c
    STEP: tl.constexpr = c if ALONE else 0
    j = tl.arange(0, WARPS) * TURNS + FIRST
    experts = tl.maximum(tl.load(ids + j // BLOCKS), 0) if GIVEN else experts_of(choice, j // BLOCKS, EP, ASM)
    unit = (experts.to(tl.int64) * (N // 16) + tile) * BLOCKS + j % BLOCKS
    w0, w1, w2, w3, s = load_units(words, scales, unit, WARPS, BITS, STEP, TURNS & -TURNS if ALONE else 1)
    if BITS == 8 or BITS > 31:
        f = row_factors(scales, table, (experts * N)[:, None] + tile * 16 + tl.arange(0, 16)[None, :], BITS)
        s = s * f if (BITS >> 16) & 1 else f
    return w0, w1, w2, w3, s


@triton.jit
def down_one_kernel(
    inner, logits, ids, words, scales, table, out, half,
    N: tl.constexpr, I: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, GIVEN: tl.constexpr,
    AHEAD: tl.constexpr, EARLY: tl.constexpr, T: tl.constexpr, BITS: tl.constexpr, WARPS: tl.constexpr,
    ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16, T), each token alone: out fp32 [T, N] += sum over experts of W_e inner_e * 64; half = fp16(out /
    64). A warp takes a stretch of the experts' joined columns."""
    BLOCKS: tl.constexpr = I // 64
    TURNS: tl.constexpr = C * BLOCKS // WARPS
    tile = tl.program_id(0)
    if T > 1:
        inner += tl.program_id(1) * C * I
        logits += tl.program_id(1) * E
        ids += tl.program_id(1) * C * GIVEN
        out += tl.program_id(1) * N
        half += tl.program_id(1) * N
    release_next(PDL)
    place = (row_unit(WARPS, 8) * (TURNS * 64))[:, None] + tl.arange(0, 32)[None, :]
    row = tl.arange(0, 16)
    n = tile * 16 + row
    choice = tile if GIVEN else choose_experts(logits, E, EP, C, ASM)
    held = ()
    for c in tl.static_range(AHEAD):  # requested before the wait
        held = held + (_down_units(  # noqa: RUF005 - Triton knows no unpacking
            words, scales, table, choice, ids, tile, c, N, BLOCKS, TURNS, EP, GIVEN, WARPS, BITS, ASM
        ),)  # fmt: skip
    lane = prepare_table(table, WARPS, BITS, ASM)
    ready = ()
    for c in tl.static_range(EARLY):
        w0, w1, w2, w3, s = held[c]
        ready = ready + (decode(w0, w1, w2, w3, lane, table, WARPS, BITS, ASM),)  # noqa: RUF005 - Triton knows no unpacking
    wait_for_previous(PDL)
    before = tl.load(out + n)
    acc = tl.zeros([WARPS, 16, 8], tl.float32)
    for c in tl.static_range(TURNS):
        xa = tl.load(inner + place + c * 64)
        xb = tl.load(inner + place + (c * 64 + 32))
        w0, w1, w2, w3, s = held[c]
        if c + AHEAD < TURNS:
            held = held + (_down_units(  # noqa: RUF005 - Triton knows no unpacking
                words, scales, table, choice, ids, tile, c + AHEAD, N, BLOCKS, TURNS, EP, GIVEN, WARPS, BITS, ASM
            ),)  # fmt: skip
        if c < EARLY:
            a0, a1, a2, a3 = ready[c]
        else:
            a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, WARPS, BITS, ASM)
        part = plane_products(a0, a1, a2, a3, s, xa, xb, WARPS, 8, BITS)
        if (BITS == 8 or BITS > 31) and ((BITS >> 16) & 1) == 0:
            part = part * s[:, :, None]
        acc += part
    leave_sums(acc, WARPS, 1, ASM)
    result = sums_of(acc, row, WARPS, WARPS, 1, ASM) * HALF_SCALE + before
    tl.store(out + n, result)
    tl.store(half + n, (result / HALF_SCALE).to(tl.float16))


def experts_one(
    x: Tensor,
    logits: Tensor,
    gate_up: FragmentWeight,
    down: FragmentWeight,
    inner: Tensor,
    out: Tensor,
    half: Tensor,
    *,
    chosen: int,
    norm_topk: bool,
    pairs: Pairs | None = None,
) -> None:
    """out fp32 [T, H] += mixture of experts of x fp16 [T, H], chosen by the router's logits fp32 [T, E], or before and
    told by `pairs`; half = fp16(out / 64); inner fp16 [T C, I] is scratch. Each token reads its experts alone. Experts
    with orders of their own take each pair as a token of one expert."""
    width, (tokens, experts) = down.columns, logits.shape
    kind = "one" if tokens == 1 else "two"
    ids, weights, each = logits, logits, chosen
    if pairs is not None:
        ids, weights = pairs.ids, pairs.weights
        x, each = ordered_pairs(x, gate_up, pairs.order, groups_of(pairs), chosen, plane=False)
    elif gate_up.order is not None:
        ids, weights, x = ordered_chosen(x, logits, gate_up.order, chosen=chosen, norm_topk=norm_topk)
        each = 1
    alone = tokens * chosen // each
    shared = {"E": experts, "EP": triton.next_power_of_2(experts), "GIVEN": ids is not logits}
    up = launch.lone("gate_up_one", gate_up.columns // 64, gate_up.bits, tiles=gate_up.rows // 16)
    gate_up_one_kernel[(gate_up.rows // 16 // up["TILES"], each, alone)](
        x, logits, ids, weights, gate_up.words, gate_up.scales, gate_up.table, inner,
        I=width, K=gate_up.columns, CP=triton.next_power_of_2(each), NORM_TOPK=norm_topk,
        BITS=gate_up.kind, C=each, T=alone, **up, **shared, **launch.options(x),
    )  # fmt: skip
    down_one_kernel[(down.rows // 16, tokens)](
        inner, logits, ids, down.words, down.scales, down.table, out, half, N=down.rows, I=width, C=chosen, T=tokens,
        BITS=down.kind, **shared,
        **launch.lone(f"down_{kind}", chosen * width // 64, "numbers" if down.numbers else down.bits),
        **launch.options(x, f"down_{kind} {down.bits}"),
    )  # fmt: skip


@triton.jit
def combine_kernel(
    parts, out, half, gain, normed, live, eps, H: tl.constexpr, HP: tl.constexpr, C: tl.constexpr, PDL: tl.constexpr
):
    """Grid (T): out fp32 [T, H] += the token's C parts in order; half = fp16(out / 64); normed = fp16(norm(out) *
    gain)."""
    token = tl.program_id(0)
    release_next(PDL)
    h = tl.arange(0, HP)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    value = tl.load(out + token * H + h, mask=h < H, other=0.0)
    if token < tl.load(live):
        for c in tl.static_range(C):
            value += tl.load(parts + (token * C + c) * H + h, mask=h < H, other=0.0)
    tl.store(out + token * H + h, value, mask=h < H)
    tl.store(half + token * H + h, (value / HALF_SCALE).to(tl.float16), mask=h < H)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    tl.store(normed + token * H + h, value.to(tl.float16), mask=h < H)


def combine(
    parts: Tensor, out: Tensor, half: Tensor, gain: Tensor, normed: Tensor, live: Tensor, *, chosen: int, eps: float
) -> None:
    """out fp32 [T, H] += parts of the first live[0] tokens; half and normed as the next layer needs them."""
    tokens, hidden = out.shape
    flags = launch.options(out, "combine_few")
    flags.pop("ASM")
    combine_kernel[(tokens,)](
        parts,
        out,
        half,
        gain,
        normed,
        live,
        eps,
        H=hidden,
        HP=triton.next_power_of_2(hidden),
        C=chosen,
        num_warps=8,
        **flags,
    )


def combine_reference(
    parts: Tensor, out: Tensor, half: Tensor, gain: Tensor, normed: Tensor, live: Tensor, *, chosen: int, eps: float
) -> None:
    count = int(live[0])
    out[:count] += parts.view(-1, chosen, out.shape[1])[:count].sum(1)
    half.copy_(out / 64.0)
    normed.copy_(out * torch.rsqrt(out.square().mean(-1, keepdim=True) + eps) * gain.float())


def pair_products_reference(
    x: Tensor, ids: Tensor, weights: Tensor, gate_up: FragmentWeight, down: FragmentWeight
) -> Tensor:
    """fp32 [T, C, H]: every chosen expert's output, route weight applied, inner activations rounded as the kernels
    do."""
    result = x.new_zeros((*ids.shape, down.rows), dtype=torch.float32)
    up, back = unfragment(gate_up), unfragment(down)
    for token, row in enumerate(ids.tolist()):
        for place, expert in enumerate(row):
            both = (up[expert] @ x[token].float()).view(-1, 2, 8)
            gate, value = both[:, 0].reshape(-1), both[:, 1].reshape(-1)
            inner = torch.nn.functional.silu(gate) * value * (weights[token, place] / 64.0)
            result[token, place] = back[expert] @ inner.to(x.dtype).float() * 64.0
    return result


def experts_one_reference(
    x: Tensor,
    logits: Tensor,
    gate_up: FragmentWeight,
    down: FragmentWeight,
    inner: Tensor,
    out: Tensor,
    half: Tensor,
    *,
    chosen: int,
    norm_topk: bool,
    pairs: Pairs | None = None,
) -> None:
    shape = len(x), chosen
    found = choose(logits, chosen, norm_topk) if pairs is None else (
        pairs.ids.clamp(min=0).view(shape), pairs.weights.view(shape)
    )  # fmt: skip
    out += pair_products_reference(x, *found, gate_up, down).sum(1)
    half.copy_(out / 64.0)
