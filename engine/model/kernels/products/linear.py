"""y = x W^T for few tokens, W in fragment units of 4, 8 or 16 bits; norm before it and residual after it fused.

One block computes 16 outputs for up to eight tokens: its weights are requested before the wait for the previous kernel,
then decoded in registers, and what its warps found is summed once (`kernels.sums`). x comes out of the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import Beside, FragmentWeight, unfragment
from engine.model.kernels.device.sums import leave_squares, leave_sums, squares, sums_of
from engine.model.kernels.device.units import (
    HALF_SCALE,
    decode,
    load_units,
    plane_products,
    prepare_table,
    release_next,
    row_factors,
    row_token,
    row_unit,
    wait_for_previous,
)
from engine.model.kernels.products.ordered import ordered


@triton.jit
def linear_kernel(
    x, gain, words, scales, table, out, half, T, eps,
    LD: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, COLUMNS: tl.constexpr, NORM: tl.constexpr,
    RESIDUAL: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16, ceil(T/8)). x fp16 [T, K] (with NORM: the residual's half copy, T = NORM); out fp32 [T, N], rows LD
    apart. A warp takes a stretch of the columns, a unit a turn; the words of AHEAD turns are requested before the wait,
    those of EARLY turns decoded. Columns of a product beyond T hold the last token again; COLUMNS is 1
    where T is."""
    TURNS: tl.constexpr = K // 64 // WARPS
    tile = tl.program_id(0)
    first = tl.program_id(1) * 8
    release_next(PDL)
    unit = tile * (K // 64) + tl.arange(0, WARPS) * TURNS
    column = (row_unit(WARPS, 8) * (TURNS * 64))[:, None] + tl.arange(0, 32)[None, :]
    at = x + column
    if COLUMNS > 1:
        at += tl.minimum(first + row_token(WARPS, 8), T - 1)[:, None] * K
    t = first + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, 16)[:, None]
    n = tile * 16 + row
    place = out + t * LD + n
    held = ()
    for c in tl.static_range(AHEAD):
        held = held + (load_units(words, scales, unit, WARPS, BITS, c, TURNS & -TURNS),)  # noqa: RUF005 - Triton knows no unpacking
    if BITS == 8 or BITS > 31:
        factors = row_factors(scales, table, n, BITS)
    lane = prepare_table(table, WARPS, BITS, ASM)
    ready = ()
    for c in tl.static_range(EARLY):
        w0, w1, w2, w3, s = held[c]
        ready = ready + (decode(w0, w1, w2, w3, lane, table, WARPS, BITS, ASM),)  # noqa: RUF005 - Triton knows no unpacking
    wait_for_previous(PDL)
    whole = ()
    for token in tl.static_range(NORM):
        k = tl.arange(0, triton.next_power_of_2(K))
        whole = whole + (tl.load(x + token * K + k, mask=k < K, other=0.0).to(tl.float32),)  # noqa: RUF005 - Triton knows no unpacking
    if RESIDUAL:
        before = tl.load(place, mask=t < T, other=0.0)
    acc = tl.zeros([WARPS, 16, 8], tl.float32)
    for c in tl.static_range(TURNS):
        xa = tl.load(at + c * 64)
        xb = tl.load(at + (c * 64 + 32))
        if NORM:
            xa = (xa * tl.load(gain + column + c * 64)).to(tl.float16)
            xb = (xb * tl.load(gain + column + (c * 64 + 32))).to(tl.float16)
        w0, w1, w2, w3, s = held[c]
        if c + AHEAD < TURNS:
            held = held + (load_units(words, scales, unit, WARPS, BITS, c + AHEAD, TURNS & -TURNS),)  # noqa: RUF005 - Triton knows no unpacking
        if c < EARLY:
            a0, a1, a2, a3 = ready[c]
        else:
            a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, WARPS, BITS, ASM)
        acc += plane_products(a0, a1, a2, a3, s, xa, xb, WARPS, 8, BITS)
    for token in tl.static_range(NORM):
        leave_squares(whole[token], token, WARPS, ASM)
    leave_sums(acc, WARPS, COLUMNS, ASM)
    total = sums_of(acc, row * COLUMNS + tl.arange(0, COLUMNS)[None, :], WARPS, WARPS, COLUMNS, ASM)
    for token in tl.static_range(NORM):  # the residual's half copy is divided by HALF_SCALE: its rms undoes that too
        square = squares(whole[token], t, token, WARPS, ASM) * (HALF_SCALE * HALF_SCALE)
        total = tl.where(t == token, total * (HALF_SCALE / tl.sqrt(square / K + eps)), total)
    if BITS == 8 or BITS > 31:
        total = total * factors
    if RESIDUAL:
        total += before
        tl.store(half + t * LD + n, (total / HALF_SCALE).to(tl.float16), mask=t < T)
    tl.store(place, total, mask=t < T)


def linear(
    x: Tensor,
    weight: FragmentWeight | Beside,
    out: Tensor,
    *,
    gain: Tensor | None = None,
    half: Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """out fp32 [T, N] = norm(x) W^T, or with `half` out += x W^T and half = fp16(out / 64).

    x: fp16 [T, K]; with `gain` [K] the half copy of one or two tokens' residual, normalised on the way in.
    """
    if isinstance(weight, Beside):
        for part, own in weight.slices():
            linear(x, part, out[:, own], gain=gain, half=None if half is None else half[:, own], eps=eps)
        return
    if weight.order is not None:
        x, gain = ordered(x, weight, gain, eps=eps, plane=False), None
    tokens = x.shape[0]
    kind = ("linear_wide" if weight.columns >= 4096 else "linear") + ("" if tokens == 1 else "_few")
    linear_kernel[(weight.rows // 16, -(-tokens // 8))](
        x, x if gain is None else gain, weight.words, weight.scales, weight.table, out, out if half is None else half,
        tokens, eps,
        LD=out.stride(0), K=weight.columns, BITS=weight.kind, COLUMNS=1 if tokens == 1 else 8,
        NORM=0 if gain is None else tokens, RESIDUAL=half is not None,
        **launch.lone(kind, weight.columns // 64, weight.bits), **launch.options(x, f"{kind} {weight.bits}"),
    )  # fmt: skip


def linear_reference(
    x: Tensor,
    weight: FragmentWeight | Beside,
    out: Tensor,
    *,
    gain: Tensor | None = None,
    half: Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """The specification of `linear`, in fp32 on dequantised weights."""
    value = x.float()
    inverse = 1.0
    if gain is not None:
        inverse = 64.0 * torch.rsqrt((value * 64.0).square().mean(-1, keepdim=True) + eps)
        value = (x * gain).float()
    result = value @ unfragment(weight).t() * inverse
    out.copy_(out + result if half is not None else result)
    if half is not None:
        half.copy_(out / 64.0)
