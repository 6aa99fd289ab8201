"""A weight that lies in pieces: experts, and gate over up, each quantised by itself. Nothing is merged or copied.

Other tools quantise each expert's projections by themselves, so one weight of the model may have a scale of the tensor,
an order of columns or even a format for each of its pieces. Rows of the pieces, in order, are the rows of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.weights.quantized_tensor import QuantizedTensor


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """`pieces` are matrices [N_i, K]; `shape` is [E, N, K] or [N, K], of as many rows in all."""

    pieces: tuple[Tensor | QuantizedTensor, ...]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)

    def to(self, device: torch.device | str) -> StackedWeight:
        """The same weight on another device."""
        return StackedWeight(tuple(piece.to(device) for piece in self.pieces), self.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The whole weight; one piece at a time is computed."""
        out = torch.empty(self.shape, dtype=dtype, device=self.pieces[0].device)
        rows, at = out.view(-1, self.shape[-1]), 0
        for piece in self.pieces:
            count = piece.shape[0]
            rows[at : at + count] = piece.dequantize(dtype) if isinstance(piece, QuantizedTensor) else piece.to(dtype)
            at += count
        return out
