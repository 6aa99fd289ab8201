"""Float codes: FP8 (e4m3) under scales of blocks, rows or the tensor, and FP4 (e2m1) as nvfp4 and mxfp4 have it.

    nvfp4    16 columns share an e4m3 scale, the tensor an fp32 one that divides it (compressed-tensors) or multiplies
             it (ModelOpt)
    mxfp4    32 columns share a power of two (e8m0)

FP4 codes lie two a byte, the low nibble first.
"""

from __future__ import annotations

import torch

from engine.model.formats.bits import swap_nibbles
from engine.model.formats.stored import FLOATS, Stored
from engine.model.weights.coding import Coding
from engine.model.weights.quantized_tensor import QuantizedTensor

_SCALE_DTYPES = (*FLOATS, torch.float8_e8m0fnu)


def read_bytes(stored: Stored, scale_part: str, block: tuple[int, int] | None, name: str) -> QuantizedTensor:
    """Modules of e4m3 or int8 codes, a byte each; `block`: rows and columns under a scale, None: a row or all."""
    codes = stored.take("weight", torch.float8_e4m3fn, torch.int8)
    lead, (rows, columns) = stored.lead, codes.shape[-2:]
    scales = stored.take(scale_part, *_SCALE_DTYPES)
    told = tuple(scales.shape[len(lead) :])
    if scales.numel() == len(stored.names):
        scales, shared, group = scales.view(*lead, 1, 1), rows, 0
    elif block is not None:
        shared, group = block[0], block[1] if columns > block[1] else 0
        expected = (-(-rows // shared), -(-columns // block[1]))
        if told != expected:
            stored.refuse(f"{scale_part} has shape {told}, blocks of {block} make it {expected}")
    else:
        scales = scales.unsqueeze(-1) if told == (rows,) else scales
        if scales.ndim != 2 + len(lead) or scales.shape[-2] != rows or columns % scales.shape[-1]:
            stored.refuse(f"{scale_part} has shape {told}, the weight {(rows, columns)}")
        shared, group = 1, columns // scales.shape[-1] if scales.shape[-1] > 1 else 0
    if codes.dtype == torch.float8_e4m3fn:
        stored.doubt((codes.view(torch.uint8) & 127) == 127, "weight holds a NaN")
    zeros = stored.take("weight_zero_point") if "weight_zero_point" in stored.parts else None
    if zeros is not None and (shared > 1 or zeros.numel() != scales.numel()):
        stored.refuse(f"weight_zero_point has shape {tuple(zeros.shape)}, {scale_part} {tuple(scales.shape)}")
    coding = Coding(name=name, bits=8, group=group, rows=shared)
    packed = codes
    if (padding := coding.padded(columns) - columns) > 0:
        packed = torch.nn.functional.pad(codes.view(torch.uint8), (0, padding)).view(codes.dtype)
    table = coding.codebook(codes.device)
    return QuantizedTensor(packed, scales.contiguous(), table, (*lead, rows, columns), coding, zeros=zeros)


def read_fp4(stored: Stored, codes_part: str, outer_part: str | None, divides: bool, name: str) -> QuantizedTensor:
    """Modules of FP4 codes: nvfp4 with `outer_part`, mxfp4 without."""
    octets = stored.take(codes_part, torch.uint8)
    rows, columns = octets.shape[-2], octets.shape[-1] * 2
    group = 16 if outer_part else 32
    shape = (rows, -(-columns // group))
    outer = None
    if outer_part is None:
        exponents = stored.take("weight_scale", torch.uint8, torch.float8_e8m0fnu, shape=shape)
        scales = exponents.view(torch.float8_e8m0fnu)
        stored.doubt(exponents.view(torch.uint8) == 255, "weight_scale holds a NaN")
    else:
        scales = stored.take("weight_scale", torch.float8_e4m3fn, shape=shape)
        outer = stored.take(outer_part, torch.float32).view(*stored.lead, 1)
        if divides:
            stored.doubt(outer == 0, f"{outer_part} is 0, which would divide")
    coding = Coding(name=name, bits=4, table="e2m1", group=group, divides=divides)
    packed = torch.nn.functional.pad(swap_nibbles(octets), (0, (coding.padded(columns) - columns) // 2))
    return QuantizedTensor(
        packed, scales, coding.codebook(packed.device), (*stored.lead, rows, columns), coding, outer=outer
    )
