"""y = x W^T for few tokens, W in fragment units of 4, 8 or 16 bits; norm before it and residual after it fused.

One block computes 16 outputs for all tokens of its tile: all its weights are requested at once, before the wait for the
previous kernel, then decoded in registers. Bound by the bytes of W; x comes out of the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import Beside, FragmentWeight, unfragment
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


@triton.jit
def linear_kernel(
    x, gain, words, scales, table, out, half, T, eps,
    N: tl.constexpr, LD: tl.constexpr, K: tl.constexpr, B: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr,
    NORM: tl.constexpr, RESIDUAL: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr, WARPS: tl.constexpr,
    ASM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (N/16, ceil(T/BT)). x fp16 [T, K] (with NORM: the residual's half copy, T <= NORM); out fp32 [T, N],
    rows LD apart. The words of AHEAD turns of B units are requested before the wait, those of EARLY turns decoded."""
    BLOCKS: tl.constexpr = K // 64
    tile = tl.program_id(0)
    first = tl.program_id(1) * BT
    release_next(PDL)
    units = tl.arange(0, B)
    token = first + row_token(B, BT)
    live = (token < T)[:, None]
    at = x + token[:, None] * K + row_unit(B, BT)[:, None] * 64 + tl.arange(0, 32)[None, :]
    t = first + tl.arange(0, BT)
    keep = (t < T)[None, :]
    n = tile * 16 + tl.arange(0, 16)
    place = t[None, :] * LD + n[:, None]
    held = ()
    for c in tl.static_range(AHEAD):
        held = held + (load_units(words, scales, tile * BLOCKS + c * B + units, B, BITS),)  # noqa: RUF005 - Triton knows no unpacking
    lane = prepare_table(table, WARPS, BITS, ASM)
    ready = ()
    for c in tl.static_range(EARLY):
        w0, w1, w2, w3, s = held[c]
        ready = ready + (decode(w0, w1, w2, w3, lane, table, B, BITS, ASM),)  # noqa: RUF005 - Triton knows no unpacking
    wait_for_previous(PDL)
    whole = ()
    for row in tl.static_range(NORM):
        k = tl.arange(0, triton.next_power_of_2(K))
        whole = whole + (tl.load(x + row * K + k, mask=k < K, other=0.0).to(tl.float32),)  # noqa: RUF005 - Triton knows no unpacking
    if RESIDUAL:
        before = tl.load(out + place, mask=keep, other=0.0)
    sums = tl.zeros([B, 16, BT], tl.float32)
    for c in tl.static_range(BLOCKS // B):
        xa = tl.load(at + c * B * 64, mask=live, other=0.0)
        xb = tl.load(at + c * B * 64 + 32, mask=live, other=0.0)
        if NORM:
            g = gain + c * B * 64 + row_unit(B, BT)[:, None] * 64 + tl.arange(0, 32)[None, :]
            xa = xa * tl.load(g, mask=live, other=0.0)
            xb = xb * tl.load(g + 32, mask=live, other=0.0)
        w0, w1, w2, w3, s = held[c]
        if c + AHEAD < BLOCKS // B:
            held = held + (load_units(words, scales, tile * BLOCKS + (c + AHEAD) * B + units, B, BITS),)  # noqa: RUF005 - Triton knows no unpacking
        if c < EARLY:
            a0, a1, a2, a3 = ready[c]
        else:
            a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, B, BITS, ASM)
        sums += plane_products(a0, a1, a2, a3, s, xa, xb, B, BT, BITS)
    acc = tl.sum(sums, axis=0)
    for row in tl.static_range(NORM):  # the residual's half copy is divided by HALF_SCALE: its rms undoes that too
        value = whole[row] * HALF_SCALE
        inverse = HALF_SCALE / tl.sqrt(tl.sum(value * value) / K + eps)
        if NORM == 1:
            acc = acc * inverse
        else:
            acc = acc * tl.where(t == row, inverse, 1.0)[None, :]
    if BITS == 8 or BITS > 31:
        acc = acc * row_factors(scales, table, n, BITS)[:, None]
    if RESIDUAL:
        acc += before
        tl.store(half + place, (acc / HALF_SCALE).to(tl.float16), mask=keep)
    tl.store(out + place, acc, mask=keep)


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

    x: fp16 [T, K]; with `gain` fp16 [K] the half copy of one or two tokens' residual, normalised on the way in.
    """
    if isinstance(weight, Beside):
        for part, own in weight.slices():
            linear(x, part, out[:, own], gain=gain, half=None if half is None else half[:, own], eps=eps)
        return
    tokens = x.shape[0]
    token_tile = 8 if tokens <= 8 else 16
    kind = ("linear_wide" if weight.columns >= 4096 and tokens <= 8 else "linear") + ("" if tokens == 1 else "_few")
    grid = (weight.rows // 16, -(-tokens // token_tile))
    linear_kernel[grid](
        x, x if gain is None else gain, weight.words, weight.scales, weight.table, out, out if half is None else half,
        tokens, eps,
        N=weight.rows, LD=out.stride(0), K=weight.columns, BT=token_tile, BITS=weight.kind,
        NORM=0 if gain is None else tokens, RESIDUAL=half is not None,
        **launch.tuned(kind, weight.columns // 64, weight.bits, pairs=weight.pairs),
        **launch.options(x, f"{kind} {weight.bits}"),
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
