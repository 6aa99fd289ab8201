"""Weights in 4 or 8 bits: formats, codebooks, quantise, dequantise. Knows tensors; knows no module and no file.

Axis letters: N rows (outputs), K columns (inputs, the axis a product sums over), Kp = K rounded up to 64, E experts;
`...` is empty or [E]. The layout is bitsandbytes', and where K is a multiple of 64 nf4, fp4 and nf4-dq hold the same
bytes as its quantiser writes (tests compare them); bitsandbytes itself is not needed.

    format   packed                  absmax                        value of one element
    int8     int8  [..., N, K]       fp32 [..., N]                 code * absmax / 127
    nf4      uint8 [..., N, Kp/2]    fp32 [..., N, Kp/64]          codebook[code] * absmax
    fp4      as nf4                  as nf4                        as nf4
    int4     as nf4                  as nf4                        as nf4, codebook (i - 8) / 7; code 0 is never written
    nf4-dq   as nf4                  uint8 [..., N, Kp/64]         codebook[code] * scales(), see `NestedAbsmax`

Element 2i of a row is the high nibble of byte i, element 2i+1 the low one. A row whose K is no multiple of 64 is padded
with zeros at its end: bitsandbytes lets blocks run on into the next row instead, which no kernel can index per row.
Ties between two codes go to the lower value (bitsandbytes' rule; int4 follows it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.codebook import codebook, dynamic_map, nearest, nearest_dynamic, pair_table

BLOCK = 64
"""Elements along K that share one absmax in the 4-bit formats."""
NESTED_BLOCK = 256
"""Absmax values that share one scale in nf4-dq."""
FORMATS: tuple[str, ...] = ("int8", "nf4", "nf4-dq", "fp4", "int4")

_TINY = 1e-38
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


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A weight [..., N, K] as packed codes and scales; immutable, and views share memory with what they view."""

    packed: Tensor
    absmax: Tensor
    codebook: Tensor
    """fp32 [16]; for int8 fp32 [1] holding 1/127, the step of a code."""
    shape: tuple[int, ...]
    format: str
    nested: NestedAbsmax | None = None

    @property
    def device(self) -> torch.device:
        return self.packed.device

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales; the codebook is a constant of the format and not counted."""
        return sum(part.numel() * part.element_size() for part in self.parts().values())

    @property
    def bits_per_weight(self) -> float:
        """Scales and padding included."""
        return 8 * self.nbytes / max(1, prod(self.shape))

    def parts(self) -> dict[str, Tensor]:
        """The tensors that hold this weight, by the suffix a checkpoint stores them under."""
        parts = {"packed": self.packed, "absmax": self.absmax}
        if self.nested is not None:
            parts |= {"nested_absmax": self.nested.absmax, "nested_offset": self.nested.offset}
        return parts

    def scales(self) -> Tensor:
        """fp32 absmax, [..., N] for int8 and [..., N, Kp/64] for the others; a new tensor only for nf4-dq."""
        if self.nested is None:
            return self.absmax
        return _nested_scales(self.absmax, 0, self.nested)

    def with_plain_scales(self) -> QuantizedTensor:
        """The same values with fp32 absmax: nf4-dq becomes nf4, the others are returned as they are."""
        if self.nested is None:
            return self
        return replace(self, absmax=self.scales(), format="nf4", nested=None)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight [..., N, K]: computed in fp32, rounded once to `dtype`. Temporaries are bounded."""
        columns = self.shape[-1]
        out = torch.empty(self.shape, dtype=dtype, device=self.device)
        rows = out.view(-1, columns)
        packed, scales = self.packed.view(len(rows), -1), self.scales().view(len(rows), -1)
        for part in _row_slices(rows):
            rows[part] = _decode(packed[part], scales[part], self.codebook, self.format)[:, :columns]
        return out

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> QuantizedTensor:
        """The same weight on another device; the same object where it is there already."""
        if torch.device(device) == self.device:
            return self
        moved = {name: part.to(device, non_blocking=non_blocking) for name, part in self.parts().items()}
        return from_parts(moved, self.shape, self.format)

    def __getitem__(self, index: int) -> QuantizedTensor:
        """One expert of a 3-D weight, as a view; an nf4-dq weight gives an nf4 one (its scale blocks span experts)."""
        if len(self.shape) < 3:
            raise ValueError(f"cannot take expert {index} of a weight of shape {self.shape}")
        part = replace(self, packed=self.packed[index], absmax=self.absmax[index], shape=self.shape[1:])
        if self.nested is None:
            return part
        scales = _nested_scales(part.absmax, index * part.absmax.numel(), self.nested)
        return replace(part, absmax=scales, format="nf4", nested=None)


def quantize_tensor(weight: Tensor, quantization: str) -> QuantizedTensor:
    """Quantise [..., N, K] floats (fp32, bf16, fp16) on their device; ModelError where one is not finite."""
    return quantize_slices(weight.reshape(-1, *weight.shape[-2:]), tuple(weight.shape), quantization)


def quantize_slices(slices: Iterable[Tensor], shape: tuple[int, ...], quantization: str) -> QuantizedTensor:
    """Quantise a weight that arrives as [N, K] slices (experts, in order), so that it never exists whole.

    Gives the same bytes as `quantize_tensor` on the stacked slices. Memory: the packed result and one slice.
    """
    if quantization not in FORMATS:
        raise ModelError(f"no quantisation named {quantization!r}; known: {', '.join(FORMATS)}", param="quantization")
    if len(shape) < 2 or not prod(shape):
        raise ValueError(f"a weight needs shape [..., N, K] and at least one element, got {shape}")
    result: QuantizedTensor | None = None
    filled = 0
    for matrix in slices:
        if result is None:
            result = empty_quantized(shape, _table_of(quantization), matrix.device)
        for part in _row_slices(matrix):
            codes, absmax = _encode(matrix[part].float().contiguous(), result.codebook, quantization)
            at = slice(filled, filled + len(codes))
            result.packed.view(-1, codes.shape[-1])[at] = codes
            result.absmax.view(-1, absmax.shape[-1])[at] = absmax
            filled += len(codes)
    if result is None or filled != prod(shape[:-1]):
        raise ValueError(f"slices hold {filled} rows, shape {shape} needs {prod(shape[:-1])}")
    if not bool(torch.isfinite(result.absmax).all()):
        raise ModelError("the weight holds an infinity or NaN, which no quantisation can represent")
    return nest_absmax(result) if quantization == "nf4-dq" else result


def nest_absmax(weight: QuantizedTensor) -> QuantizedTensor:
    """nf4 -> nf4-dq: the absmax values less their mean, as 8-bit codes in blocks of 256 (QLoRA)."""
    flat = weight.absmax.reshape(-1)
    offset = flat.mean()
    if not bool(torch.isfinite(offset)):
        raise ModelError("the weight is too large for nested absmax: the mean of its scales overflows fp32; use nf4")
    blocks = torch.nn.functional.pad(flat - offset, (0, -len(flat) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    absmax = blocks.abs().amax(-1)
    codes = nearest_dynamic(_normalise(blocks, absmax)).view(-1)[: len(flat)].view(weight.absmax.shape)
    return replace(weight, absmax=codes, format="nf4-dq", nested=NestedAbsmax(absmax, offset))


def empty_quantized(shape: tuple[int, ...], quantization: str, device: torch.device | str) -> QuantizedTensor:
    """Uninitialised storage for a weight of this shape; on `meta` it tells sizes without memory."""
    sizes = part_shapes(shape, quantization).items()
    parts = {name: torch.empty(size, dtype=dtype, device=device) for name, (size, dtype) in sizes}
    return from_parts(parts, shape, quantization)


def part_shapes(shape: tuple[int, ...], quantization: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of every stored part of a weight [..., N, K]."""
    *lead, columns = shape
    if quantization == "int8":
        return {"packed": (shape, torch.int8), "absmax": (tuple(lead), torch.float32)}
    blocks = -(-columns // BLOCK)
    packed = {"packed": ((*lead, blocks * BLOCK // 2), torch.uint8)}
    if quantization != "nf4-dq":
        return {**packed, "absmax": ((*lead, blocks), torch.float32)}
    codes = prod(lead) * blocks
    return {
        **packed,
        "absmax": ((*lead, blocks), torch.uint8),
        "nested_absmax": ((-(-codes // NESTED_BLOCK),), torch.float32),
        "nested_offset": ((), torch.float32),
    }


def from_parts(parts: dict[str, Tensor], shape: tuple[int, ...], quantization: str) -> QuantizedTensor:
    """The inverse of `QuantizedTensor.parts`."""
    nested = NestedAbsmax(parts["nested_absmax"], parts["nested_offset"]) if quantization == "nf4-dq" else None
    table = codebook(_table_of(quantization), parts["packed"].device)
    return QuantizedTensor(parts["packed"], parts["absmax"], table, tuple(shape), quantization, nested)


def _encode(rows: Tensor, table: Tensor, quantization: str) -> tuple[Tensor, Tensor]:
    """fp32 [R, K] -> codes (int8 [R, K] or packed uint8 [R, Kp/2]) and absmax [R, blocks]."""
    if quantization == "int8":
        absmax = rows.abs().amax(-1, keepdim=True)
        return torch.round(rows * (127.0 / absmax.clamp(min=_TINY))).to(torch.int8), absmax
    blocks = torch.nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).view(len(rows), -1, BLOCK)
    absmax = blocks.abs().amax(-1)
    pairs = nearest(_normalise(blocks, absmax), _table_of(quantization)).view(len(rows), -1, 2)
    packed = (pairs[..., 0] << 4) | pairs[..., 1]
    if quantization == "fp4":
        order = torch.argsort(table).to(torch.uint8)
        packed = ((order[:, None] << 4) | order).view(-1)[packed.int()]
    return packed, absmax


def _decode(packed: Tensor, scales: Tensor, table: Tensor, quantization: str) -> Tensor:
    """Codes [R, ...] and fp32 scales [R, blocks] -> fp32 [R, Kp]."""
    if quantization == "int8":
        return packed.float() * (scales * table)
    # Both values of a byte are fetched as one 8-byte word: four times as fast as fetching rows of two.
    words = pair_table(table).view(torch.float64).view(-1)
    pairs = words.index_select(0, packed.reshape(-1).int()).view(torch.float32)
    return (pairs.view(*scales.shape, BLOCK) * scales[..., None]).view(len(packed), -1)


def _normalise(blocks: Tensor, absmax: Tensor) -> Tensor:
    """Blocks scaled into [-1, 1]; multiplied by the reciprocal, since bitsandbytes' bits depend on it.

    NaN becomes 0: it must not reach an index. The caller refuses such a weight by its absmax, once, at the end.
    """
    return (blocks * (1.0 / absmax.clamp(min=_TINY))[..., None]).clamp_(-1, 1).nan_to_num_(0.0)


def _nested_scales(codes: Tensor, first: int, nested: NestedAbsmax) -> Tensor:
    """fp32 scales of uint8 codes, the first of which is number `first` of the whole weight."""
    blocks = torch.arange(first, first + codes.numel(), device=codes.device) // NESTED_BLOCK
    values = dynamic_map(codes.device)[codes.int()]
    return values * nested.absmax[blocks].view(codes.shape) + nested.offset


def _row_slices(matrix: Tensor) -> Iterator[slice]:
    step = max(1, _SLICE_ELEMENTS.get(matrix.device.type, 1 << 25) // matrix.shape[1])
    return (slice(start, start + step) for start in range(0, len(matrix), step))


def _table_of(quantization: str) -> str:
    return quantization.removesuffix("-dq")
