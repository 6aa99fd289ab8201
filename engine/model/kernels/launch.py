"""How kernels are launched here: inline assembly and dependent launch where the device has them.

Knows the device's capability and whether Triton interprets. Knows no kernel.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter (on a CPU, one block after another)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def options(tensor: Tensor) -> dict[str, Any]:
    """The constexprs ASM and PDL, and the launch attribute that PDL needs."""
    if not tensor.is_cuda:
        return {"ASM": False, "PDL": False}
    dependent = _capability(tensor.device.index or 0) >= (9, 0)
    return {"ASM": True, "PDL": dependent, "launch_pdl": dependent}


def chunk(blocks: int, most: int) -> int:
    """The largest power of two that divides `blocks`, at most `most`."""
    return min(blocks & -blocks, most)


TUNING: dict[str, tuple[int, int]] = {
    "linear_wide": (4, 64),
    "linear": (4, 32),
    "linear_many": (4, 32),
    "gate_up_one": (4, 32),
    "down_one": (8, 32),
    "gate_up_many": (4, 32),
    "down_many": (4, 4),
}
"""Warps, and units in flight, of each kernel; measured on an H100 (docs/performance.md)."""
TILES: dict[str, int] = {"gate_up_many": 8, "down_many": 16}
"""Weight tiles that one block of these kernels walks over."""


def tuned(kernel: str, blocks: int) -> dict[str, int]:
    """Launch constants of a kernel whose sum runs over `blocks` units."""
    warps, most = TUNING[kernel]
    return {"B": chunk(blocks, most), "WARPS": warps, "num_warps": warps}
