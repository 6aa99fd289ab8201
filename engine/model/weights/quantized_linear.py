"""Modules that hold a `QuantizedTensor` where transformers' model holds a float parameter.

The forward dequantises, multiplies and forgets: it is the reference and the fallback, not the fast path (kernels/).
Casting a model (`model.half()`, `model.to(dtype)`) moves these modules but never casts codes or scales.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from engine.model.weights.quantized_tensor import QuantizedTensor


class QuantizedWeight(nn.Module):
    """One quantised weight [..., N, K]; stands where a parameter stood, under the parameter's name."""

    def __init__(self, weight: QuantizedTensor) -> None:
        super().__init__()
        self.weight = weight

    def extra_repr(self) -> str:
        return f"{self.weight.format}, shape={self.weight.shape}, bits_per_weight={self.weight.bits_per_weight:.3f}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        device = fn(torch.empty(0, device=self.weight.device)).device
        self.weight = self.weight.to(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return self


class QuantizedLinear(QuantizedWeight):
    """`y = x W^T + b` with W quantised [N, K]; x [..., K] and y [..., N] in x's dtype."""

    def __init__(self, weight: QuantizedTensor, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight)
        self.out_features, self.in_features = weight.shape
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.dequantize(x.dtype), self.bias)
