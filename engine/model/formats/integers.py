"""GPTQ, AutoAWQ and compressed-tensors' packed integers: whole-number codes of 4 or 8 bits, scales and zero points.

    written by        codes in int32 words         zero points                                  columns' groups
    GPTQ              [K/w, N], along K            [G, N/w] in the same words; v1 stores z - 1  g_idx [K] (act-order)
    AutoAWQ (gemm)    [K, N/8], along N, in        [G, N/8], likewise                           in order
                      the order 0 2 4 6 1 3 5 7
    pack-quantized    [N, K/w], along K            [N/w, G] along N; none: 2^(bits-1)           weight_g_idx [K], if any

w = 32 / bits codes a word, the lowest bits first; scales are [G, N] (compressed-tensors [N, G]).
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.formats.bits import pack_nibbles, unpack_words
from engine.model.formats.stored import FLOATS, Stored
from engine.model.weights.coding import Coding
from engine.model.weights.quantized_tensor import QuantizedTensor

_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
"""The column, among eight, that each nibble of an AutoAWQ word belongs to."""


def read_gptq(stored: Stored, bits: int, group: int, v1: bool, name: str) -> QuantizedTensor:
    """GPTQ modules; `group` columns share a scale, -1: all of them.

    v1's zero points have had one taken off per word, borrows included (that is how its writers do it and undo it).
    """
    words = stored.take("qweight", torch.int32)
    columns, rows = words.shape[-2] * 32 // bits, words.shape[-1]
    group = columns if group == -1 else group
    groups = -(-columns // group)
    scales = stored.take("scales", *FLOATS, shape=(groups, rows)).mT
    zero_words = stored.take("qzeros", torch.int32, shape=(groups, rows * bits // 32))
    if v1:
        zero_words = zero_words + int.from_bytes(bytes([0x11 if bits == 4 else 1] * 4), "little")
    codes = unpack_words(words.mT, bits)
    order = _order(stored, "g_idx", columns, group) if "g_idx" in stored.parts else None
    return _integers(codes, scales, unpack_words(zero_words, bits).mT, 0, group, bits, order, name)


def read_awq(stored: Stored, group: int, name: str) -> QuantizedTensor:
    """AutoAWQ modules in their gemm layout."""
    words = stored.take("qweight", torch.int32)
    columns, rows = words.shape[-2], words.shape[-1] * 8
    group = columns if group == -1 else group
    groups = -(-columns // group)
    scales = stored.take("scales", *FLOATS, shape=(groups, rows)).mT
    zeros = _awq_codes(stored.take("qzeros", torch.int32, shape=(groups, rows // 8)))
    return _integers(_awq_codes(words).mT, scales, zeros.mT, 0, group, 4, None, name)


def read_packed(stored: Stored, name: str) -> QuantizedTensor:
    """pack-quantized modules; bits and group size follow from its shapes."""
    shape = stored.take("weight_shape").tolist()
    if len(shape) != 2:
        stored.refuse(f"weight_shape {shape} is not that of a matrix")
    rows, columns = shape
    words = stored.take("weight_packed", torch.int32)
    bits = next((b for b in (4, 8) if tuple(words.shape[-2:]) == (rows, -(-columns * b // 32))), 0)
    if not bits:
        stored.refuse(f"codes of {32 * words.shape[-1] / max(1, columns):.3g} bits are not read (4 and 8 are)")
    scales = stored.take("weight_scale", *FLOATS)
    lead = stored.lead
    scales = scales.view(*lead, 1, 1).expand(*lead, rows, 1) if scales.numel() == len(stored.names) else scales
    if scales.ndim != 2 + len(lead) or scales.shape[-2] != rows:
        stored.refuse(f"weight_scale has shape {tuple(scales.shape[len(lead) :])}, the weight {shape}")
    groups = scales.shape[-1]
    if columns % groups:
        stored.refuse(f"{groups} scales a row do not divide {columns} columns")
    codes = unpack_words(words, bits)[..., :columns]
    zeros, zero = None, 1 << bits - 1
    if "weight_zero_point" in stored.parts:
        stored_zeros = stored.take("weight_zero_point", torch.int32, shape=(-(-rows * bits // 32), groups))
        zeros, zero = unpack_words(stored_zeros.mT, bits)[..., :rows].mT, 0
    group = columns // groups
    order = _order(stored, "weight_g_idx", columns, group) if "weight_g_idx" in stored.parts else None
    return _integers(codes, scales, zeros, zero, group, bits, order, f"{name}-{bits}")


def _integers(
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    zero: int,
    group: int,
    bits: int,
    order: Tensor | None,
    name: str,
) -> QuantizedTensor:
    """Codes [..., N, K], scales and zeros [..., N, G] in our layout."""
    columns = codes.shape[-1]
    if order is not None:
        codes = codes[..., order]
    coding = Coding(name=name, bits=bits, group=0 if group >= columns else group, zero=zero)
    if bits == 4:
        packed = pack_nibbles(codes, coding.padded(columns))
    else:
        packed = torch.nn.functional.pad(codes, (0, coding.padded(columns) - columns))
    return QuantizedTensor(
        packed.contiguous(),
        scales.contiguous(),
        coding.codebook(packed.device),
        tuple(codes.shape),
        coding,
        zeros=None if zeros is None else zeros.contiguous(),
        order=None if order is None else order.to(codes.device, torch.int32),
    )


def _order(stored: Stored, part: str, columns: int, group: int) -> Tensor | None:
    """Which column stands at each place once columns of one group are neighbours; None where they are already."""
    groups = stored.take(part, torch.int32, torch.int64, shape=(columns,)).long()
    in_place = torch.arange(columns) // group
    if torch.equal(groups, in_place) or (part == "weight_g_idx" and bool((groups == -1).all())):
        return None
    order = torch.argsort(groups, stable=True)
    if not torch.equal(groups[order], in_place):
        stored.refuse(f"{part} does not give every group its {group} columns")
    return order


def _awq_codes(words: Tensor) -> Tensor:
    """int32 [..., R, N/8] -> uint8 [..., R, N]."""
    nibbles = unpack_words(words, 4).view(*words.shape, 8)
    codes = torch.empty_like(nibbles)
    codes[..., _AWQ_ORDER] = nibbles
    return codes.flatten(-2)
