"""Errors fed back: what one column is off by, those that move with it make good."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.weights.feedback import round_with_feedback


class Whole:
    """Rounds to whole numbers under a scale of 1."""

    def best_scales(self, blocks: Tensor, importance: Tensor | None) -> Tensor:
        return torch.ones(blocks.shape[:-1])

    def ranks(self, blocks: Tensor, scales: Tensor) -> Tensor:
        return (blocks.round() + 128).to(torch.uint8)

    def decoded(self, ranks: Tensor, scales: Tensor) -> Tensor:
        return ranks.float() - 128


def rounded(matrix: Tensor, moments: Tensor) -> Tensor:
    codes, _ = round_with_feedback(matrix.clone(), moments, 2, Whole())
    return codes.float() - 128


def test_columns_that_are_always_equal_are_rounded_as_their_sum() -> None:
    matrix = torch.tensor([[0.4, 0.4, 0.4, 0.4], [1.3, 1.3, 1.3, 1.3]])
    assert rounded(matrix, torch.eye(4)).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    told = rounded(matrix, torch.ones(4, 4))
    assert told.sum(1).tolist() == pytest.approx([2, 5])


def test_the_products_error_is_less_across_blocks_too() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(32, 300, generator=generator) * 2
    inputs = torch.randn(2000, 20, generator=generator) @ torch.randn(20, 300, generator=generator)
    moments = inputs.T @ inputs / len(inputs)
    plain, fed = (rounded(matrix, known) - matrix for known in (torch.eye(300), moments))
    errors = [float(((error @ moments) * error).mean()) for error in (fed, plain)]
    assert errors[0] < 0.2 * errors[1]


def test_columns_that_inputs_never_reach_feed_nothing() -> None:
    matrix = torch.tensor([[0.4, 0.4, 0.4, 0.0]])
    moments = torch.block_diag(torch.ones(3, 3), torch.zeros(1, 1))
    assert rounded(matrix, moments)[0, 3] == 0
    assert rounded(matrix, moments)[0, :3].sum() == 1


def test_inputs_that_are_always_zero_are_no_error() -> None:
    matrix = torch.tensor([[0.4, 1.6, -2.2, 3.9]])
    assert rounded(matrix, torch.zeros(4, 4)).tolist() == [[0, 2, -2, 4]]
