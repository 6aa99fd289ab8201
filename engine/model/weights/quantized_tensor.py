"""A weight as codes and scales, in the formats we write and in those we read. Knows tensors; no module and no file.

Axis letters: N rows (outputs), K columns (inputs, the axis a product sums over), Kp = K rounded up to whole groups, G
groups of a row, E experts; `...` is empty or [E]. What a code means is its `Coding`.

    bits   packed                                     further plane `high`
    4      uint8 [..., N, Kp/2]                       -
    5, 6   uint8 [..., N, Kp/2], the low four bits    uint8 [..., N, Kp/8 or Kp/4]: the others, in the same order
    8      [..., N, Kp] uint8, int8 or e4m3           -

Element 2i of a row is the high nibble of byte i, element 2i+1 the low one; of `high`, too, the first element has the
highest bits. `scale`, `zeros` and `minima` are [..., N, G] (int8: [..., N]). Our own formats are bitsandbytes' layout,
except that a row whose K is no multiple of 64 is padded with zeros at its end: bitsandbytes lets blocks run on into the
next row instead, which no kernel can index per row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from engine.model.weights.coding import CODINGS, Coding
from engine.model.weights.decoding import (
    NESTED_BLOCK,
    NestedAbsmax,
    dtype_name,
    nested_scales,
    numbers_of,
    row_slices,
    two_levels,
)

BLOCK = 64
"""Elements along K that share one absmax in the 4-bit formats of bitsandbytes."""
FORMATS: tuple[str, ...] = tuple(CODINGS)


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A weight [..., N, K] as packed codes and scales; immutable, and views share memory with what they view."""

    packed: Tensor
    scale: Tensor
    """As stored; of our own formats the absmax of each block (nl4: what serves it best, of either sign). `scales()` are
    the numbers."""
    codebook: Tensor
    """fp32 [16] for codes of 4 bits; else fp32 [1], the step of a code (int8: 1/127)."""
    shape: tuple[int, ...]
    coding: Coding
    nested: NestedAbsmax | None = None
    high: Tensor | None = None
    zeros: Tensor | None = None
    """Subtracted from codes, per group."""
    minima: Tensor | None = None
    """Subtracted from values, per group."""
    outer: Tensor | None = None
    """Scale of scales: [..., N, O], each for G / O groups, or [1] for all."""
    outer_minima: Tensor | None = None
    """Scale of minima, as `outer`."""
    order: Tensor | None = None
    """int32 [K]: which column of the weight stands at each place (GPTQ's act-order); None: its own."""

    @property
    def format(self) -> str:
        return self.coding.name

    @property
    def device(self) -> torch.device:
        return self.packed.device

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales. A codebook is not counted: it is a constant of the format, or (nl4) 64 bytes that
        describe the weight, as its shape does."""
        return sum(part.numel() * part.element_size() for part in self.parts().values())

    @property
    def bits_per_weight(self) -> float:
        """Scales and padding included."""
        return 8 * self.nbytes / max(1, prod(self.shape))

    @property
    def scale_type(self) -> str:
        """Of the scales, for people: `fp32/64`, `e4m3/16 fp32`; rows by columns where rows share one."""
        group = str(self.coding.group or "row")
        shared = f"{self.coding.rows}x{group}" if 1 < self.coding.rows < self.shape[-2] else group
        first = "tensor" if self.scale.numel() == 1 else shared
        second = self.outer if self.nested is None else self.nested.absmax
        return f"{dtype_name(self.scale.dtype)}/{first}" + ("" if second is None else f" {dtype_name(second.dtype)}")

    def parts(self) -> dict[str, Tensor]:
        """The tensors that hold this weight, by the suffix an engine checkpoint stores them under."""
        parts = {"packed": self.packed, "absmax": self.scale}
        if self.nested is not None:
            parts |= {"nested_absmax": self.nested.absmax, "nested_offset": self.nested.offset}
        others = {name: getattr(self, name) for name in _FURTHER}
        return parts | {name: part for name, part in others.items() if part is not None}

    def scales(self) -> Tensor:
        """fp32 scale of every group, [..., N] for int8 and [..., N, G] for the others; a new tensor where it is not
        stored so."""
        if self.nested is not None:
            return nested_scales(self.scale, 0, self.nested)
        scales = two_levels(self.scale, self.outer, self.coding.divides)
        if self.coding.rows > 1:
            scales = scales.repeat_interleave(self.coding.rows, -2)[..., : self.shape[-2], :]
        return scales

    def with_plain_scales(self) -> QuantizedTensor:
        """The same values with fp32 absmax: nf4-dq becomes nf4, the others are returned as they are."""
        if self.nested is None:
            return self
        return replace(self, scale=self.scales(), coding=CODINGS["nf4"], nested=None)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight [..., N, K]: computed in fp32, rounded once to `dtype`. Temporaries are bounded."""
        columns = self.shape[-1]
        out = torch.empty(self.shape, dtype=dtype, device=self.device)
        rows = out.view(-1, columns)
        flat = self._flat(len(rows))
        for part in row_slices(rows):
            rows[part] = _decode({name: tensor[part] for name, tensor in flat.items()}, self)[:, :columns]
        if self.order is None:
            return out
        inverse = torch.empty_like(self.order)
        inverse[self.order] = torch.arange(columns, dtype=inverse.dtype, device=self.device)
        return out[..., inverse]

    def _flat(self, rows: int) -> dict[str, Tensor]:
        """What decoding needs, with all leading axes as rows."""
        flat = {"packed": self.packed.view(rows, -1), "scales": self.scales().view(rows, -1)}
        if self.high is not None:
            flat["high"] = self.high.view(rows, -1)
        if self.zeros is not None:
            flat["zeros"] = self.zeros.view(rows, -1)
        if self.minima is not None:
            flat["minima"] = two_levels(self.minima, self.outer_minima, False).view(rows, -1)
        return flat

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> QuantizedTensor:
        """The same weight on another device; the same object where it is there already."""
        if torch.device(device) == self.device:
            return self
        moved = {name: part.to(device, non_blocking=non_blocking) for name, part in self.parts().items()}
        return from_parts(moved, self.shape, self.coding, self.codebook.to(device))

    def rows(self, index: slice | Tensor) -> QuantizedTensor:
        """Some rows of a matrix, or all in another order, where each row has scales of its own."""
        if len(self.shape) != 2 or self.coding.rows != 1 or self.nested is not None:
            raise ValueError(f"rows of {self.format} cannot be taken apart")
        parts = {name: part[index] for name in _DIVISIBLE if (part := getattr(self, name)) is not None}
        return replace(self, **parts, shape=(len(parts["packed"]), self.shape[1]))

    def __getitem__(self, index: int) -> QuantizedTensor:
        """One expert of a 3-D weight, as a view; an nf4-dq weight gives an nf4 one (its scale blocks
        span experts)."""
        if len(self.shape) < 3:
            raise ValueError(f"cannot take expert {index} of a weight of shape {self.shape}")
        held = {name: own for name in _DIVISIBLE if (own := getattr(self, name)) is not None}
        part = replace(self, **{name: own[index] for name, own in held.items()}, shape=self.shape[1:])
        if self.nested is None:
            return part
        scales = nested_scales(part.scale, index * part.scale.numel(), self.nested)
        return replace(part, scale=scales, coding=CODINGS["nf4"], nested=None)


_DIVISIBLE = ("packed", "scale", "high", "zeros", "minima", "outer", "outer_minima")
_FURTHER = ("high", "zeros", "minima", "outer", "outer_minima", "order")


def empty_quantized(shape: tuple[int, ...], quantization: str, device: torch.device | str) -> QuantizedTensor:
    """Uninitialised storage for a weight of this shape; on `meta` it tells sizes without memory."""
    sizes = part_shapes(shape, quantization).items()
    parts = {name: torch.empty(size, dtype=dtype, device=device) for name, (size, dtype) in sizes}
    coding = CODINGS[quantization]
    return from_parts(parts, shape, coding, torch.empty(16, device=device) if coding.fitted else None)


def part_shapes(shape: tuple[int, ...], quantization: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of every stored part of a weight [..., N, K] in one of our own formats."""
    *lead, columns = shape
    if quantization == "int8":
        return {"packed": (shape, torch.int8), "absmax": (tuple(lead), torch.float32)}
    coding = CODINGS[quantization]
    blocks = coding.padded(columns) // coding.group
    packed = {"packed": ((*lead, coding.padded(columns) // 2), torch.uint8)}
    if coding.fitted:
        return {**packed, "absmax": ((*lead, blocks), torch.float8_e4m3fn)}
    if quantization != "nf4-dq":
        return {**packed, "absmax": ((*lead, blocks), torch.float32)}
    codes = prod(lead) * blocks
    return {
        **packed,
        "absmax": ((*lead, blocks), torch.uint8),
        "nested_absmax": ((-(-codes // NESTED_BLOCK),), torch.float32),
        "nested_offset": ((), torch.float32),
    }


def from_parts(
    parts: dict[str, Tensor], shape: tuple[int, ...], coding: Coding, codebook: Tensor | None = None
) -> QuantizedTensor:
    """The inverse of `QuantizedTensor.parts`; without `codebook` the format's own."""
    nested = NestedAbsmax(parts["nested_absmax"], parts["nested_offset"]) if "nested_absmax" in parts else None
    packed = parts["packed"]
    table = coding.codebook(packed.device) if codebook is None else codebook
    further = {name: parts[name] for name in _FURTHER if name in parts}
    return QuantizedTensor(packed, parts["absmax"], table, tuple(shape), coding, nested, **further)


def _decode(flat: dict[str, Tensor], weight: QuantizedTensor) -> Tensor:
    """Some rows' codes, fp32 scales and so on -> fp32 [R, Kp]."""
    scales = flat["scales"]
    numbers = numbers_of(flat["packed"], flat.get("high"), weight.coding, weight.codebook).view(*scales.shape, -1)
    if "zeros" in flat:
        numbers = numbers - flat["zeros"].float()[..., None]
    step = scales if len(weight.codebook) == 16 else scales * weight.codebook
    values = numbers * step[..., None]
    if "minima" in flat:
        values -= flat["minima"][..., None]
    return values.view(len(scales), -1)
