"""What the codes of a format mean: the one description that every quantised weight carries.

The value of an element whose code is c, in a group with scale s, zero point z and minimum m:

    value = s * (table[c] - z) - m        table[c] is c - zero where the format has no table

s and m are kept as the file has them (bf16, fp16, fp32, e4m3, e8m0, whole numbers) and may have a second level, a scale
of the scales, which multiplies or (compressed-tensors' nvfp4) divides. All arithmetic is fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from engine.model.weights.codebook import codebook

PAD = 64
"""Columns: 4-bit rows whose scale spans the row are padded to a multiple of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How codes become numbers; equal for all weights that are read by one rule of one format."""

    name: str
    """What inventories and results call it: `nf4`, `gptq-4`, `q4_k`."""
    bits: int
    """Of a code: 4, 5, 6 or 8. Codes of 5 and 6 bits lie in two planes, one of 4 and one of 1 or 2."""
    table: str | None = None
    """The codebook's name; None: a code is the number that it is (for e4m3 the packed dtype says so)."""
    fitted: bool = False
    """Whether every weight brings a codebook of its own."""
    group: int = 0
    """Columns that share a scale; 0: the whole row."""
    rows: int = 1
    """Rows that share a scale (fp8's square blocks: 128)."""
    zero: int = 0
    """Subtracted from every code."""
    divides: bool = False
    """Whether the scale of scales divides."""

    def padded(self, columns: int) -> int:
        """Columns of a stored row."""
        unit = self.group or (PAD if self.bits == 4 else 1)
        return -(-columns // unit) * unit

    def codebook(self, device: torch.device) -> Tensor:
        """fp32 [16] for 4 bits, in the order of the codes; else fp32 [1], the step of a code."""
        if self.table is not None:
            return codebook(self.table, device)
        if self.fitted:
            raise ValueError(f"{self.name} has a codebook for each weight, none of the format")
        if self.bits == 4:
            return _numbers(self.zero, device)
        return _step(device)


@cache
def _numbers(zero: int, device: torch.device) -> Tensor:
    """One tensor for all weights: thousands of experts need not be compared."""
    return torch.arange(16, dtype=torch.float32, device=device) - zero


@cache
def _step(device: torch.device) -> Tensor:
    return torch.ones(1, dtype=torch.float32, device=device)


CODINGS: dict[str, Coding] = {
    "int8": Coding(name="int8", bits=8, table="int8"),
    "nf4": Coding(name="nf4", bits=4, table="nf4", group=64),
    "nf4-dq": Coding(name="nf4-dq", bits=4, table="nf4", group=64),
    "fp4": Coding(name="fp4", bits=4, table="fp4", group=64),
    "int4": Coding(name="int4", bits=4, table="int4", group=64),
    "nl4": Coding(name="nl4", bits=4, group=16, fitted=True),
}
"""The formats that this engine writes."""
