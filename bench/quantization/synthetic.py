"""What formats make of weights that no model has: Gaussian and heavy-tailed, multiplied with correlated inputs.

The error of the weights is the same question for every format; the error of the product is what a model sees. Both are
RMS over RMS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import StudentT

from bench.quantization.variants import CALIBRATED
from engine.model.weights.inventory import PLAIN
from engine.model.weights.rounding import quantize_tensor

ROWS, COLUMNS, INPUTS = 384, 512, 4096
TAILS = {"gaussian": None, "student-t 5": 5.0, "student-t 3": 3.0}
"""Degrees of freedom: the fewer, the heavier the tails."""


def errors(formats: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """A row for each kind of weights and format; nl4 without and with the inputs' second moments."""
    rows = []
    for name, freedom in TAILS.items():
        torch.manual_seed(seed)
        weight = torch.randn(ROWS, COLUMNS) if freedom is None else StudentT(freedom).sample((ROWS, COLUMNS))
        moments, unseen = (x.T @ x / len(x) for x in _inputs().split(INPUTS))
        for made in (name for name in formats if name != PLAIN):
            kinds = {made: None} if made != "nl4" else {made: None, CALIBRATED: moments}
            for kind, known in kinds.items():
                error = quantize_tensor(weight, made, known).dequantize() - weight
                told = {"relative_rms": _rms(error) / _rms(weight)}
                told["output_rms"] = float((_power(error, unseen) / _power(weight, unseen)) ** 0.5)
                rows.append({"weights": name, "format": kind, **told})
    return rows


def _inputs() -> Tensor:
    """Twice INPUTS vectors whose columns differ in size by ten and share directions; the second half stays unseen."""
    mixing = torch.randn(COLUMNS, COLUMNS) / COLUMNS**0.5 + torch.eye(COLUMNS)
    return torch.randn(2 * INPUTS, COLUMNS) @ mixing * torch.logspace(-0.5, 0.5, COLUMNS)[torch.randperm(COLUMNS)]


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _power(matrix: Tensor, moments: Tensor) -> Tensor:
    """Mean square of the products with inputs of these moments."""
    return ((matrix @ moments) * matrix).mean()
