"""Matrices as formats hold them: elements of codes, scales of groups, what is subtracted or added; rounded to nearest.

These are the formats' grids, not their files: what a format's tool does beyond rounding (error feedback, searched
scales) is left out, and of k-quants superblocks have 128 columns, which divide more rows than 256 do. Knows tensors;
nothing of damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.model.weights.codebook import codebook
from engine.model.weights.rounding import quantize_tensor

Number = Callable[[Tensor], Tensor]
"""Rounds scales to what a format stores of them."""
SUPERBLOCK = 128
BLOCK = 128
"""Rows and columns that share a scale of fp8."""


@dataclass(frozen=True, slots=True)
class Coded:
    """value = (elements - zeros) * scales + offsets; all but the elements [N, G], of groups of columns."""

    elements: Tensor
    """fp32 [N, K]: what codes mean."""
    scales: Tensor
    zeros: Tensor | None = None
    offsets: Tensor | None = None
    of_zero_bits: float = 0.0
    """Element of a code without a bit that is set."""

    @property
    def value(self) -> Tensor:
        """fp32 [N, K]."""
        elements = self.elements if self.zeros is None else self.elements - self._spread(self.zeros)
        value = elements * self._spread(self.scales)
        return value if self.offsets is None else value + self._spread(self.offsets)

    def _spread(self, groups: Tensor) -> Tensor:
        return groups.repeat_interleave(self.elements.shape[1] // groups.shape[1], 1)


def fp16(scales: Tensor) -> Tensor:
    return scales.half().float()


def bf16(scales: Tensor) -> Tensor:
    return scales.bfloat16().float()


def e8m0(scales: Tensor) -> Tensor:
    """The power of two below."""
    return scales.clamp(min=2.0**-126).log2().floor().exp2()


def e4m3_of_tensor(scales: Tensor) -> Tensor:
    """e4m3 times one number, which brings the largest to the type's end."""
    outer = (scales.amax() / 448).clamp(min=1e-30)
    return (scales / outer).to(torch.float8_e4m3fn).float() * outer


def whole_of_superblock(most: int, scales: Tensor) -> Tensor:
    """Whole numbers up to `most` times an fp16 number of every superblock."""
    rows, groups = scales.shape
    parts = scales.view(rows, -1, SUPERBLOCK // 16 if most > 100 else SUPERBLOCK // 32)
    outer = fp16(parts.amax(-1, keepdim=True) / most).clamp(min=1e-7)
    return ((parts / outer).round() * outer).view(rows, groups)


def by_table(table: Tensor, group: int, number: Number, weight: Tensor) -> Coded:
    """The nearest of a table's numbers, its largest at the group's largest element."""
    parts = _parts(weight, group)
    scales = number(parts.abs().amax(-1) / table.max())
    wanted = (parts / scales.clamp(min=1e-30)[..., None]).reshape(weight.shape)
    ordered, order = table.sort()
    index = torch.bucketize(wanted, (ordered[1:] + ordered[:-1]) / 2)
    return Coded(table[order][index], scales, of_zero_bits=float(table[0]))


def symmetric(bits: int, group: int, number: Number, weight: Tensor) -> Coded:
    """Whole numbers around zero."""
    most = 2 ** (bits - 1)
    scales = number(_parts(weight, group).abs().amax(-1) / (most - 0.5))
    codes = (_parts(weight, group) / scales.clamp(min=1e-30)[..., None]).round().clamp(-most, most - 1)
    return Coded(codes.reshape(weight.shape), scales, of_zero_bits=0.0 if bits == 8 else -float(most))


def with_zeros(bits: int, group: int, weight: Tensor) -> Coded:
    """Whole numbers from zero on, less a whole zero point of the group."""
    parts, most = _parts(weight, group), 2**bits - 1
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    scales = fp16(((high - low) / most).clamp(min=1e-7))
    zeros = (-low / scales).round().clamp(0, most)
    codes = ((parts / scales[..., None]).round() + zeros[..., None]).clamp(0, most)
    return Coded(codes.reshape(weight.shape), scales, zeros=zeros)


def with_minima(bits: int, number: Number, weight: Tensor) -> Coded:
    """Whole numbers from zero on and a minimum, of groups of 32."""
    parts, most = _parts(weight, 32), 2**bits - 1
    low = -number((-parts.amin(-1)).clamp(min=0))
    scales = number((parts.amax(-1) - low) / most).clamp(min=1e-7)
    codes = ((parts - low[..., None]) / scales[..., None]).round().clamp(0, most)
    return Coded(codes.reshape(weight.shape), scales, offsets=low)


def e4m3(rows: int | None, columns: int | None, weight: Tensor) -> Coded:
    """Codes in e4m3 with scales of blocks; None: all there are."""
    high, wide = rows or weight.shape[0], columns or weight.shape[1]
    parts = _parts(weight.abs(), wide).amax(-1)
    scales = parts.view(-1, high, parts.shape[1]).amax(1).repeat_interleave(high, 0) / 448
    codes = (_parts(weight, wide) / scales.clamp(min=1e-30)[..., None]).to(torch.float8_e4m3fn).float()
    return Coded(codes.reshape(weight.shape), scales)


def fitted(weight: Tensor) -> Coded:
    """nl4, by the engine's own quantiser."""
    held = quantize_tensor(weight, "nl4")
    scales = held.scales().float().view(len(weight), -1)
    spread = scales.repeat_interleave(weight.shape[1] // scales.shape[1], 1)
    return Coded(
        held.dequantize() / torch.where(spread == 0, 1.0, spread), scales, of_zero_bits=float(held.codebook[0])
    )


def _parts(weight: Tensor, group: int) -> Tensor:
    return weight.view(len(weight), -1, group)


def _ours(name: str) -> Callable[[Tensor], Coded]:
    return partial(by_table, codebook(name, torch.device("cpu")), 64, lambda scales: scales)


_E2M1 = codebook("e2m1", torch.device("cpu"))
FORMATS: dict[str, Callable[[Tensor], Coded]] = {
    "nf4": _ours("nf4"),
    "fp4": _ours("fp4"),
    "int4": _ours("int4"),
    "int8": lambda weight: symmetric(8, weight.shape[1], lambda scales: scales, weight),
    "nl4": fitted,
    "gptq-4": partial(with_zeros, 4, 128),
    "gptq-8": partial(with_zeros, 8, 128),
    "ct-4": partial(symmetric, 4, 128, bf16),
    "ct-4-32": partial(symmetric, 4, 32, bf16),
    "ct-8": partial(symmetric, 8, 128, bf16),
    "nvfp4": partial(by_table, _E2M1, 16, e4m3_of_tensor),
    "mxfp4": partial(by_table, _E2M1, 32, lambda scales: 2 * e8m0(scales)),
    "fp8": partial(e4m3, BLOCK, BLOCK),
    "fp8-rows": partial(e4m3, 1, None),
    "fp8-tensor": partial(e4m3, None, None),
    "q8_0": partial(symmetric, 8, 32, fp16),
    "q4_0": partial(symmetric, 4, 32, fp16),
    "q4_1": partial(with_minima, 4, fp16),
    "q4_k": partial(with_minima, 4, partial(whole_of_superblock, 63)),
    "q5_k": partial(with_minima, 5, partial(whole_of_superblock, 63)),
    "q6_k": partial(symmetric, 6, 16, partial(whole_of_superblock, 127)),
}
