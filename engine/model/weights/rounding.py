"""Floats rounded to the formats that this engine writes: nearest codes under the absmax of each block.

Ties between two codes go to the lower value (bitsandbytes' rule; int4 follows it), and where K is a multiple of 64 nf4,
fp4 and nf4-dq hold the same bytes as its quantiser writes (tests compare them); bitsandbytes itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.weights.codebook import nearest, nearest_dynamic
from engine.model.weights.coding import CODINGS
from engine.model.weights.decoding import NESTED_BLOCK, NestedAbsmax, row_slices
from engine.model.weights.fitted import quantize_fitted
from engine.model.weights.quantized_tensor import BLOCK, FORMATS, QuantizedTensor, empty_quantized

_TINY = 1e-38


def quantize_tensor(weight: Tensor, quantization: str, moments: Tensor | None = None) -> QuantizedTensor:
    """Quantise [..., N, K] floats (fp32, bf16, fp16) on their device; ModelError where one is not finite. `moments` are
    the inputs' second moments, [..., K, K], which nl4 alone knows how to use."""
    if quantization in CODINGS and CODINGS[quantization].fitted:
        return quantize_fitted(weight, moments)
    return quantize_slices(weight.reshape(-1, *weight.shape[-2:]), tuple(weight.shape), quantization)


def quantize_slices(slices: Iterable[Tensor], shape: tuple[int, ...], quantization: str) -> QuantizedTensor:
    """Quantise a weight that arrives as [N, K] slices (experts, in order), so that it never exists whole.

    Gives the same bytes as `quantize_tensor` on the stacked slices. Memory: the packed result and one slice; nl4, whose
    table is of the whole weight, has all slices at once.
    """
    if quantization not in FORMATS:
        raise ModelError(f"no quantisation named {quantization!r}; known: {', '.join(FORMATS)}", param="quantization")
    if len(shape) < 2 or not prod(shape):
        raise ValueError(f"a weight needs shape [..., N, K] and at least one element, got {shape}")
    if CODINGS[quantization].fitted:
        return quantize_fitted(torch.stack(list(slices)).view(shape))
    result: QuantizedTensor | None = None
    filled = 0
    for matrix in slices:
        if result is None:
            result = empty_quantized(shape, quantization.removesuffix("-dq"), matrix.device)
        for part in row_slices(matrix):
            codes, absmax = _encode(matrix[part].float().contiguous(), result.codebook, quantization)
            at = slice(filled, filled + len(codes))
            result.packed.view(-1, codes.shape[-1])[at] = codes
            result.scale.view(-1, absmax.shape[-1])[at] = absmax
            filled += len(codes)
    if result is None or filled != prod(shape[:-1]):
        raise ValueError(f"slices hold {filled} rows, shape {shape} needs {prod(shape[:-1])}")
    if not bool(torch.isfinite(result.scale).all()):
        raise ModelError("the weight holds an infinity or NaN, which no quantisation can represent")
    return nest_absmax(result) if quantization == "nf4-dq" else result


def nest_absmax(weight: QuantizedTensor) -> QuantizedTensor:
    """nf4 -> nf4-dq: the absmax values less their mean, as 8-bit codes in blocks of 256 (QLoRA)."""
    flat = weight.scale.reshape(-1)
    offset = flat.mean()
    if not bool(torch.isfinite(offset)):
        raise ModelError("the weight is too large for nested absmax: the mean of its scales overflows fp32; use nf4")
    blocks = torch.nn.functional.pad(flat - offset, (0, -len(flat) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    absmax = blocks.abs().amax(-1)
    codes = nearest_dynamic(_normalise(blocks, absmax)).view(-1)[: len(flat)].view(weight.scale.shape)
    return replace(weight, scale=codes, coding=CODINGS["nf4-dq"], nested=NestedAbsmax(absmax, offset))


def _encode(rows: Tensor, table: Tensor, quantization: str) -> tuple[Tensor, Tensor]:
    """fp32 [R, K] -> codes (int8 [R, K] or packed uint8 [R, Kp/2]) and absmax [R, blocks]."""
    if quantization == "int8":
        absmax = rows.abs().amax(-1, keepdim=True)
        return torch.round(rows * (127.0 / absmax.clamp(min=_TINY))).to(torch.int8), absmax
    blocks = torch.nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).view(len(rows), -1, BLOCK)
    absmax = blocks.abs().amax(-1)
    pairs = nearest(_normalise(blocks, absmax), quantization.removesuffix("-dq")).view(len(rows), -1, 2)
    packed = (pairs[..., 0] << 4) | pairs[..., 1]
    if quantization == "fp4":
        order = torch.argsort(table).to(torch.uint8)
        packed = ((order[:, None] << 4) | order).view(-1)[packed.int()]
    return packed, absmax


def _normalise(blocks: Tensor, absmax: Tensor) -> Tensor:
    """Blocks scaled into [-1, 1]; multiplied by the reciprocal, since bitsandbytes' bits depend on it.

    NaN becomes 0: it must not reach an index. The caller refuses such a weight by its absmax, once, at the end.
    """
    return (blocks * (1.0 / absmax.clamp(min=_TINY))[..., None]).clamp_(-1, 1).nan_to_num_(0.0)
