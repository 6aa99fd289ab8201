"""How kernels are launched here: inline assembly and dependent launch where the device has them.

Knows the device's capability and whether Triton interprets. Knows no kernel.
"""

from __future__ import annotations

import ctypes
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


def attention_stages(capability: tuple[int, int]) -> int:
    """Pipeline depth of the prefill's attention: cards with 100 KiB of shared memory a block hold one stage."""
    return 1 if capability in ((8, 6), (8, 9)) else 3


def stages(tensor: Tensor) -> int:
    """`attention_stages` of the tensor's device; 1 where nothing is pipelined."""
    return attention_stages(_capability(tensor.device.index or 0)) if tensor.is_cuda else 1


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
TILES: dict[str, int] = {"gate_up_many": 4, "down_many": 8}
"""Weight tiles that one block of these kernels walks over."""
PRODUCT: dict[int, tuple[int, int, int]] = {16: (8, 8, 3), 32: (8, 8, 3), 64: (4, 4, 3), 128: (8, 8, 3)}
"""Prefill products, by tokens of a block: row tiles, warps, pipeline stages."""


def tuned(kernel: str, blocks: int) -> dict[str, int]:
    """Launch constants of a kernel whose sum runs over `blocks` units."""
    warps, most = TUNING[kernel]
    return {"B": chunk(blocks, most), "WARPS": warps, "num_warps": warps}


_MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""
_opted_in: set[Any] = set()


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel whose static table and Triton's own shared memory together may pass 48 KiB.

    Triton asks the driver for more than 48 KiB by its own count alone, which leaves the table out; so we ask, once per
    compiled kernel. Costs a set look-up a launch.
    """
    key = (kernel, tuple(sorted((name, value) for name, value in constants.items())))
    if constants["ASM"] and key not in _opted_in:
        compiled = kernel.warmup(*arguments, grid=grid, **constants)
        if compiled is None:
            return  # kernels are being collected, not launched
        compiled._init_handles()
        status = ctypes.CDLL("libcuda.so.1").cuFuncSetAttribute(
            ctypes.c_void_p(compiled.function), _MAX_DYNAMIC_SHARED, compiled.metadata.shared
        )
        assert status == 0, f"the driver refused {compiled.metadata.shared} bytes of shared memory: {status}"
        _opted_in.add(key)
    kernel[grid](*arguments, **constants)
