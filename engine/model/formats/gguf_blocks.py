"""Blocks of GGUF files taken apart into our planes of codes and scales.

    type        block   value                      type        block   value
    q8_0        32      d q                        q4_k, q5_k  256     d sc[32] q - dmin m[32]
    q4_0, q5_0  32      d (q - 8), d (q - 16)      q6_k        256     d sc[16] (q - 32)
    q4_1, q5_1  32      d q + m

d, m, dmin are fp16; sc and m of the last column are whole numbers of 6 bits (q6_k: int8), one for each 32 (16) columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.model.formats.bits import pack_nibbles, pack_plane
from engine.model.weights.coding import Coding
from engine.model.weights.quantized_tensor import QuantizedTensor, from_parts

Parts = dict[str, Tensor]


def read_blocks(blocks: Tensor, kind: str, columns: int) -> QuantizedTensor:
    """uint8 [N, bytes of a row] of one type -> the weight [N, columns]; every number as the file has it."""
    reader, coding, nbytes = _TYPES[kind]
    rows = len(blocks)
    parts = reader(blocks.view(rows, -1, nbytes))
    packed = parts.pop("codes").view(rows, columns)
    if coding.bits < 8:
        if coding.bits > 4:
            parts["high"] = pack_plane(packed >> 4, coding.bits - 4)
        packed = pack_nibbles(packed & 15, columns)
    flat = {name: part.reshape(rows, -1) for name, part in parts.items()}
    return from_parts({"packed": packed, "absmax": flat.pop("scale"), **flat}, (rows, columns), coding)


def _halves(blocks: Tensor, at: int) -> Tensor:
    return blocks[..., at : at + 2].contiguous().view(torch.float16).squeeze(-1)


def _q8_0(b: Tensor) -> Parts:
    return {"scale": _halves(b, 0), "codes": b[..., 2:].contiguous().view(torch.int8)}


def _q4_0(b: Tensor) -> Parts:
    return {"scale": _halves(b, 0), "codes": _low_then_high(b[..., 2:])}


def _q4_1(b: Tensor) -> Parts:
    return {"scale": _halves(b, 0), "minima": -_halves(b, 2), "codes": _low_then_high(b[..., 4:])}


def _q5_0(b: Tensor) -> Parts:
    return {"scale": _halves(b, 0), "codes": _low_then_high(b[..., 6:]) | _fifth_bits(b[..., 2:6]) << 4}


def _q5_1(b: Tensor) -> Parts:
    codes = _low_then_high(b[..., 8:]) | _fifth_bits(b[..., 4:8]) << 4
    return {"scale": _halves(b, 0), "minima": -_halves(b, 2), "codes": codes}


def _q4_k(b: Tensor) -> Parts:
    return {**_k_scales(b), "codes": _low_then_high(b[..., 16:].unflatten(-1, (4, 32)))}


def _q5_k(b: Tensor) -> Parts:
    """Bit s of byte l belongs to column l of the s-th 32 columns."""
    shifts = torch.arange(8, dtype=torch.uint8, device=b.device).unsqueeze(-1)
    fifth = (b[..., None, 16:48] >> shifts & 1).flatten(-2)
    lower = _low_then_high(b[..., 48:].unflatten(-1, (4, 32))).flatten(-2)
    return {**_k_scales(b), "codes": lower | fifth << 4}


def _q6_k(b: Tensor) -> Parts:
    """Half by half: 64 bytes of low nibbles, 32 of upper pairs of bits; four runs of 32 columns each."""
    low = _low_then_high(b[..., :128].unflatten(-1, (2, 64)))
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=b.device).unsqueeze(-1)
    high = (b[..., 128:192].unflatten(-1, (2, 1, 32)) >> shifts & 3).flatten(-2)
    scales = b[..., 192:208].contiguous().view(torch.int8)
    return {"scale": scales, "outer": _halves(b, 208), "codes": low | high << 4}


def _low_then_high(octets: Tensor) -> Tensor:
    """The low nibbles of all bytes, then the high ones."""
    return torch.cat((octets & 15, octets >> 4), -1)


def _fifth_bits(octets: Tensor) -> Tensor:
    """Bit j of 32, the lowest of the first byte first, belongs to column j."""
    shifts = torch.arange(8, dtype=torch.uint8, device=octets.device)
    return (octets.unsqueeze(-1) >> shifts & 1).flatten(-2)


def _k_scales(b: Tensor) -> Parts:
    """Eight scales and eight minima of 6 bits in twelve bytes: the last four of each lend two bits from the first."""
    first, second, third = b[..., 4:8], b[..., 8:12], b[..., 12:16]
    scale = torch.cat((first & 63, third & 15 | first >> 6 << 4), -1)
    minima = torch.cat((second & 63, third >> 4 | second >> 6 << 4), -1)
    return {"scale": scale, "minima": minima, "outer": _halves(b, 0), "outer_minima": _halves(b, 2)}


_TYPES: dict[str, tuple[Callable[[Tensor], Parts], Coding, int]] = {
    "q8_0": (_q8_0, Coding(name="q8_0", bits=8, group=32), 34),
    "q4_0": (_q4_0, Coding(name="q4_0", bits=4, group=32, zero=8), 18),
    "q4_1": (_q4_1, Coding(name="q4_1", bits=4, group=32), 20),
    "q5_0": (_q5_0, Coding(name="q5_0", bits=5, group=32, zero=16), 22),
    "q5_1": (_q5_1, Coding(name="q5_1", bits=5, group=32), 24),
    "q4_k": (_q4_k, Coding(name="q4_k", bits=4, group=32), 144),
    "q5_k": (_q5_k, Coding(name="q5_k", bits=5, group=32), 176),
    "q6_k": (_q6_k, Coding(name="q6_k", bits=6, group=16, zero=32), 210),
}
