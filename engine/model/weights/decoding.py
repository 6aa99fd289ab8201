"""From stored codes and scales to fp32 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.weights.codebook import dynamic_map, pair_table
from engine.model.weights.coding import Coding

NESTED_BLOCK = 256
"""Absmax values that share one scale in nf4-dq."""
_SLICE_ELEMENTS = {"cpu": 1 << 18}
"""Elements quantised or dequantised at once: fits a CPU's cache; elsewhere 2^25, temporaries of about 0.7 GB."""


@dataclass(frozen=True, slots=True)
class NestedAbsmax:
    """What turns the uint8 absmax codes of nf4-dq into numbers: `dynamic_map[code] * absmax[i // 256] + offset`.

    `i` counts the codes of the whole tensor in memory order (all experts), as bitsandbytes does.
    """

    absmax: Tensor
    """fp32 [ceil(codes / 256)]."""
    offset: Tensor
    """fp32 []: the mean of the absmax values before they were quantised."""


def numbers_of(packed: Tensor, high: Tensor | None, coding: Coding, codebook: Tensor) -> Tensor:
    """What codes stand for, before zeros and scales: fp32."""
    if high is not None:
        bits = coding.bits - 4
        shifts = torch.arange(8 - bits, -1, -bits, dtype=torch.uint8, device=high.device)
        upper = (high.unsqueeze(-1) >> shifts & (1 << bits) - 1).view(len(high), -1)
        lower = torch.stack((packed >> 4, packed & 15), -1).view(len(packed), -1)
        return (upper << 4 | lower).float() - coding.zero
    if coding.bits == 8:
        return packed.float() - coding.zero if coding.zero else packed.float()
    # Both values of a byte are fetched as one 8-byte word: four times as fast as fetching rows of two.
    words = pair_table(codebook).view(torch.float64).view(-1)
    return words.index_select(0, packed.reshape(-1).int()).view(torch.float32)


def two_levels(stored: Tensor, outer: Tensor | None, divides: bool) -> Tensor:
    """fp32 numbers of stored scales; `outer` [..., O] serves G / O of them each, [1] all."""
    numbers = stored.float()
    if outer is None:
        return numbers
    grouped = numbers.view(-1) if outer.numel() == 1 else numbers.view(*outer.shape, -1)
    factor = outer.float() if outer.numel() == 1 else outer.float().unsqueeze(-1)
    return (grouped / factor if divides else grouped * factor).view(numbers.shape)


def nested_scales(codes: Tensor, first: int, nested: NestedAbsmax) -> Tensor:
    """fp32 scales of uint8 codes, the first of which is number `first` of the whole weight."""
    blocks = torch.arange(first, first + codes.numel(), device=codes.device) // NESTED_BLOCK
    values = dynamic_map(codes.device)[codes.int()]
    return values * nested.absmax[blocks].view(codes.shape) + nested.offset


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as people write it: bf16, fp32, e4m3."""
    name = str(dtype).removeprefix("torch.")
    return _DTYPE_NAMES.get(name, name)


_DTYPE_NAMES = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3fn": "e4m3", "float8_e8m0fnu": "e8m0",
}  # fmt: skip


def row_slices(matrix: Tensor) -> Iterator[slice]:
    """Rows of a matrix by so many that temporaries stay bounded."""
    step = max(1, _SLICE_ELEMENTS.get(matrix.device.type, 1 << 25) // matrix.shape[1])
    return (slice(start, start + step) for start in range(0, len(matrix), step))
