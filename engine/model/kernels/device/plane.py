"""The residual stream in plane order, the form in which the many-token products take their activations.

Of every 64 columns the B operand's come as column 16 plane + c, so whatever feeds a product is stored permuted:
`plane_order` says how. Axis letters: T tokens, H hidden size, C chosen experts per token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.units import release_next, wait_for_previous


def plane_order(columns: int, device: torch.device) -> Tensor:
    """int64 [columns]: which column stands at each place of the permuted form."""
    j = torch.arange(columns, device=device)
    inner = 32 * (j >> 5 & 1) + 8 * (j >> 1 & 3) + 4 * (j >> 4 & 1) + 2 * (j >> 3 & 1) + (j & 1)
    return j // 64 * 64 + inner


@triton.jit
def place_of(k):
    """Where column k stands in plane order."""
    return k // 64 * 64 + 16 * (2 * (k // 32 % 2) + k // 4 % 2) + 8 * (k // 2 % 2) + 2 * (k // 8 % 4) + k % 2


@triton.jit
def norm_kernel(x, gain, out, also, eps, H: tl.constexpr, HP: tl.constexpr, ALSO: tl.constexpr, PDL: tl.constexpr):
    """Grid (T): out of 16 bits [T, H] = norm(x) * gain, in plane order; with ALSO the same in `also`."""
    row = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, HP)
    wait_for_previous(PDL)
    release_next(PDL)
    value = tl.load(x + row * H + h, mask=h < H, other=0.0)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    tl.store(out + row * H + place_of(h), value.to(out.dtype.element_ty), mask=h < H)
    if ALSO:
        tl.store(also + row * H + place_of(h), value.to(also.dtype.element_ty), mask=h < H)


def norm(x: Tensor, gain: Tensor, out: Tensor, also: Tensor | None = None, *, eps: float) -> None:
    """out of 16 bits [T, H] = rms_norm(x fp32) * gain in plane order; the same in `also`, of another type."""
    tokens, hidden = x.shape
    norm_kernel[(tokens,)](
        x, gain, out, out if also is None else also, eps, H=hidden, HP=triton.next_power_of_2(hidden),
        ALSO=also is not None, num_warps=4, **launch.dependent(x),
    )  # fmt: skip


def norm_reference(x: Tensor, gain: Tensor, out: Tensor, also: Tensor | None = None, *, eps: float) -> None:
    value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    for found in (out,) if also is None else (out, also):
        found.copy_(value[:, plane_order(x.shape[1], x.device)])


@triton.jit
def combine_kernel(
    parts, x, gain, normed, live, eps, H: tl.constexpr, HP: tl.constexpr, C: tl.constexpr, PLANE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T): x fp32 [T, H] += the token's C parts in order; normed of 16 bits = norm(x) * gain, with PLANE in
    plane order."""
    token = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, HP)
    wait_for_previous(PDL)
    release_next(PDL)
    value = tl.load(x + token * H + h, mask=h < H, other=0.0)
    if token < tl.load(live):
        for c in tl.static_range(C):
            value += tl.load(parts + (token * C + c) * H + h, mask=h < H, other=0.0).to(tl.float32)
        tl.store(x + token * H + h, value, mask=h < H)
    g = tl.load(gain + h, mask=h < H, other=0.0).to(tl.float32)
    value = value / tl.sqrt(tl.sum(value * value) / H + eps) * g
    place = place_of(h) if PLANE else h
    tl.store(normed + token * H + place, value.to(normed.dtype.element_ty), mask=h < H)


def combine(
    parts: Tensor, x: Tensor, gain: Tensor, normed: Tensor, live: Tensor, *, chosen: int, eps: float,
    plane: bool = True,
) -> None:  # fmt: skip
    """x fp32 [T, H] += parts [T C, H] of the first live[0] tokens; normed as the next product takes it, in plane order
    or not."""
    tokens, hidden = x.shape
    combine_kernel[(tokens,)](
        parts,
        x,
        gain,
        normed,
        live,
        eps,
        H=hidden,
        HP=triton.next_power_of_2(hidden),
        C=chosen,
        PLANE=plane,
        num_warps=4,
        **launch.dependent(x),
    )


def combine_reference(
    parts: Tensor, x: Tensor, gain: Tensor, normed: Tensor, live: Tensor, *, chosen: int, eps: float,
    plane: bool = True,
) -> None:  # fmt: skip
    count = int(live[0])
    x[:count] += parts.view(-1, chosen, x.shape[1])[:count].sum(1, dtype=torch.float32)
    value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    normed.copy_(value[:, plane_order(x.shape[1], x.device)] if plane else value)
