"""Rounding column by column, each error fed back into the columns that are still to come (GPTQ, arXiv 2210.17323).

What a matrix makes of inputs x is off by (W - Q) x. With the inputs' second moments H known, the error of one column
can be made good in part by those after it: the upper Cholesky factor of H's inverse says by how much.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_DAMPING = 0.01
"""Of the mean second moment, added to all, so that the inverse exists."""
_BLOCK = 128
"""Columns after which errors reach those outside the block, in one product."""


class Rounding(Protocol):
    """How a group of columns is rounded."""

    def best_scales(self, blocks: Tensor, importance: Tensor | None) -> Tensor: ...

    def ranks(self, blocks: Tensor, scales: Tensor) -> Tensor: ...

    def decoded(self, ranks: Tensor, scales: Tensor) -> Tensor: ...


def round_with_feedback(matrix: Tensor, moments: Tensor, group: int, rounding: Rounding) -> tuple[Tensor, Tensor]:
    """uint8 codes [N, K] and fp32 scales [N, K / group] of fp32 [N, K], which is used up; moments [K, K].

    A group's scales are searched when its turn comes, for what it has become by then.
    """
    columns = matrix.shape[1]
    factor = _factor(moments)
    codes = torch.empty(matrix.shape, dtype=torch.uint8, device=matrix.device)
    scales = torch.empty(len(matrix), columns // group, device=matrix.device)
    for first in range(0, columns, _BLOCK):
        end = min(first + _BLOCK, columns)
        errors = torch.zeros(len(matrix), end - first, device=matrix.device)
        for column in range(first, end):
            if column % group == 0:
                own = slice(column, column + group)
                importance = factor.diagonal()[own].square().reciprocal()
                scale = rounding.best_scales(matrix[:, None, own], importance)
                scales[:, column // group] = scale[:, 0]
            rank = rounding.ranks(matrix[:, column, None, None], scale)
            codes[:, column] = rank[:, 0, 0]
            error = (matrix[:, column] - rounding.decoded(rank, scale)[:, 0, 0]) / factor[column, column]
            matrix[:, column + 1 : end] -= error[:, None] * factor[column, column + 1 : end]
            errors[:, column - first] = error
        matrix[:, end:] -= errors @ factor[first:end, end:]
    return codes, scales


def _factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped moments' inverse."""
    mean = moments.diagonal().mean().clamp(min=1e-12)
    damped = moments.float() + torch.eye(len(moments), device=moments.device) * (_DAMPING * mean)
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return factor
