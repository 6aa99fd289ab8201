"""Codes of 8 bits for keys and values: what is lost, and that nothing saturates."""

from __future__ import annotations

import pytest
import torch

from engine.model.cpu import kv_codes


@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 300.0, 6e4, 1e30])
def test_a_head_of_any_size_keeps_four_digits_of_its_mantissas(size: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 4, 64) * size
    found = kv_codes.decode(*kv_codes.encode(values))
    step = values.abs().amax(-1, keepdim=True).clamp(min=2.0**-14) * 2.0**-13  # the smallest codes are this far apart
    assert bool(((found - values).abs() <= values.abs() / 16 + step).all())


def test_signs_zeros_and_powers_of_two_are_exact() -> None:
    values = torch.tensor([[0.0, -0.0, 1.0, -2.0, 0.25, -(2.0**-9)], [0.0] * 6])
    found = kv_codes.decode(*kv_codes.encode(values))
    assert torch.equal(found, values)
    assert torch.equal(found.signbit(), values.signbit())


@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_stays_so(wrong: float) -> None:
    found = kv_codes.decode(*kv_codes.encode(torch.tensor([1.0, wrong])))
    assert not bool(found[1].isfinite())
