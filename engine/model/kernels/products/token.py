"""The ends of the network: a token's embedding into the residual stream, the final norm, and the head for one token.

Axis letters: T tokens, R rows that want logits, H hidden size, V logits width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.units import HALF_SCALE, release_next, wait_for_previous


@triton.jit
def embed_kernel(
    tokens, slots, last, table, gain, out, half, normed, eps, H: tl.constexpr, HP: tl.constexpr, PDL: tl.constexpr
):
    """Grid (T). A negative token stands for the id its slot sampled last."""
    row = tl.program_id(0)
    release_next(PDL)
    h = tl.arange(0, HP)
    wait_for_previous(PDL)
    token = tl.load(tokens + row).to(tl.int64)
    if token < 0:
        token = tl.load(last + tl.load(slots + row)).to(tl.int64)
    value = tl.load(table + token * H + h, mask=h < H, other=0.0).to(tl.float32)
    tl.store(out + row * H + h, value, mask=h < H)
    tl.store(half + row * H + h, (value / HALF_SCALE).to(tl.float16), mask=h < H)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    tl.store(normed + row * H + h, value.to(tl.float16), mask=h < H)


def embed(
    tokens: Tensor,
    slots: Tensor,
    last: Tensor,
    table: Tensor,
    gain: Tensor,
    out: Tensor,
    half: Tensor,
    normed: Tensor,
    *,
    eps: float,
) -> None:
    """out fp32 [T, H] = table[token], half = fp16(out / 64), normed = fp16(norm(out) * gain); token -1 is
    last[slot]."""
    hidden = table.shape[1]
    flags = launch.options(out)
    flags.pop("ASM")
    embed_kernel[(tokens.shape[0],)](
        tokens,
        slots,
        last,
        table,
        gain,
        out,
        half,
        normed,
        eps,
        H=hidden,
        HP=triton.next_power_of_2(hidden),
        num_warps=4,
        **flags,
    )


def embed_reference(
    tokens: Tensor,
    slots: Tensor,
    last: Tensor,
    table: Tensor,
    gain: Tensor,
    out: Tensor,
    half: Tensor,
    normed: Tensor,
    *,
    eps: float,
) -> None:
    ids = torch.where(tokens < 0, last[slots.long()], tokens).long()
    out.copy_(table[ids].float())
    half.copy_(out / 64.0)
    normed.copy_(out * torch.rsqrt(out.square().mean(-1, keepdim=True) + eps) * gain.float())


@triton.jit
def final_norm_kernel(x, wanted, gain, out, eps, H: tl.constexpr, HP: tl.constexpr, PDL: tl.constexpr):
    """Grid (R): out [R, H] = norm(x[wanted[r]]) * gain."""
    row = tl.program_id(0)
    release_next(PDL)
    h = tl.arange(0, HP)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    value = tl.load(x + tl.load(wanted + row) * H + h, mask=h < H, other=0.0)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    tl.store(out + row * H + h, value.to(out.dtype.element_ty), mask=h < H)


def final_norm(x: Tensor, wanted: Tensor, gain: Tensor, out: Tensor, *, eps: float) -> None:
    """out [R, H] (fp16 or bf16) = norm(x[wanted]) * gain; x fp32 [T, H], wanted int32 [R]."""
    hidden = x.shape[1]
    flags = launch.options(x)
    flags.pop("ASM")
    final_norm_kernel[(wanted.shape[0],)](
        x, wanted, gain, out, eps, H=hidden, HP=triton.next_power_of_2(hidden), num_warps=8, **flags
    )


def final_norm_reference(x: Tensor, wanted: Tensor, gain: Tensor, out: Tensor, *, eps: float) -> None:
    value = x[wanted.long()]
    out.copy_(value * torch.rsqrt(value.square().mean(-1, keepdim=True) + eps) * gain.float())


@triton.jit
def head_kernel(x, weight, logits, V, K: tl.constexpr, KP: tl.constexpr, BN: tl.constexpr, PDL: tl.constexpr):
    """Grid (ceil(V/BN)), one row: logits fp32 [V] = weight [V, K] x [K]."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.arange(0, KP)
    release_next(PDL)
    inside = (n < V)[:, None] & (k < K)[None, :]
    at = weight + n[:, None].to(tl.int64) * K + k[None, :]
    w = tl.load(at, mask=inside, other=0.0, eviction_policy="evict_first")
    wait_for_previous(PDL)
    value = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
    tl.store(logits + n, tl.sum(w.to(tl.float32) * value[None, :], axis=1), mask=n < V)


def head(x: Tensor, weight: Tensor, logits: Tensor) -> None:
    """logits fp32 [R, V] = x [R, K] weight^T, 16-bit weight in its own dtype; one row by our kernel, more by cuBLAS."""
    if x.shape[0] > 1:
        if x.is_cuda:
            torch.mm(x, weight.t(), out_dtype=torch.float32, out=logits)
        else:
            logits.copy_(x.float() @ weight.float().t())
        return
    rows, columns = weight.shape
    flags = launch.options(x)
    flags.pop("ASM")
    head_kernel[(triton.cdiv(rows, 8),)](
        x, weight, logits, rows, K=columns, KP=triton.next_power_of_2(columns), BN=8, num_warps=4, **flags
    )


def head_reference(x: Tensor, weight: Tensor, logits: Tensor) -> None:
    logits.copy_(x.float() @ weight.float().t())
