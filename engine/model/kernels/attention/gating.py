"""The gate of gated attention: what a head reads, times the sigmoid of what its query came with.

Axis letters as in `kernels.attention`; S parts of a product.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.plane import place_of, plane_order
from engine.model.kernels.device.units import release_next, wait_for_previous


@triton.jit
def gate_kernel(
    mixed, gates, N: tl.constexpr, LD: tl.constexpr, PARTS: tl.constexpr, BN: tl.constexpr, PLANE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid (T, N / BN). gates fp32 [T, PARTS, N], summed over parts, which are LD apart."""
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    release_next(PDL)
    wait_for_previous(PDL)
    gate = tl.load(gates + token * PARTS * LD + n)
    for part in tl.static_range(1, PARTS):
        gate += tl.load(gates + (token * PARTS + part) * LD + n)
    column = n
    if PLANE:
        column = place_of(n)
    at = mixed + token * N + column
    tl.store(at, (tl.load(at).to(tl.float32) * tl.sigmoid(gate)).to(mixed.dtype.element_ty))


def gate(mixed: Tensor, gates: Tensor, *, plane: bool = False) -> None:
    """mixed of 16 bits [T, N D], in plane order or not, *= sigmoid(gates); gates fp32 [T, N D] or parts of it
    [T, S, N D], as columns of something wider."""
    tokens, width = mixed.shape
    block = launch.chunk(width, 1024)
    gate_kernel[(tokens, width // block)](
        mixed, gates, N=width, LD=gates.stride(-2), PARTS=1 if gates.dim() == 2 else gates.shape[1], BN=block,
        PLANE=plane, num_warps=4, **launch.dependent(mixed),
    )  # fmt: skip


def gate_reference(mixed: Tensor, gates: Tensor, *, plane: bool = False) -> None:
    value = (gates if gates.dim() == 2 else gates.sum(1)).sigmoid()
    mixed.mul_(value[:, plane_order(mixed.shape[1], mixed.device)] if plane else value)
