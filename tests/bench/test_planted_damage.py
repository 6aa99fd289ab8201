"""What `bench.damage` plants damage in: formats round as they should, plants damage what they say."""

from __future__ import annotations

import pytest
import torch

from bench.damage.formats import FORMATS
from bench.damage.plants import PLANTS
from engine.model.weights.rounding import quantize_tensor

WEIGHT = torch.randn(128, 256, generator=torch.Generator().manual_seed(0)) * 0.02
ERRORS = {"8": 0.01, "6": 0.025, "5": 0.045, "4": 0.13, "fp8": 0.03}
"""Relative, by bits."""


@pytest.mark.parametrize("name", FORMATS)
def test_formats_round_as_finely_as_their_bits_allow(name: str) -> None:
    error = float((FORMATS[name](WEIGHT).value - WEIGHT).norm() / WEIGHT.norm())
    bits = "fp8" if name.startswith("fp8") else next(digit for digit in name if digit in "4568")
    assert 0.2 * ERRORS[bits] < error < ERRORS[bits]


@pytest.mark.parametrize("name", ["nf4", "fp4", "int4"])
def test_our_own_formats_are_the_engines(name: str) -> None:
    theirs = quantize_tensor(WEIGHT, name).dequantize()
    assert (FORMATS[name](WEIGHT).value - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", FORMATS)
def test_plants_damage(name: str, axis: int, kind: str) -> None:
    held = FORMATS[name](WEIGHT)
    value = PLANTS[kind](held, axis, torch.Generator().manual_seed(1))
    if value is None:
        assert kind == "scales permuted"
        assert bool((held.scales == held.scales.roll(1, axis)).all())
        return
    assert not torch.equal(value, held.value)
    assert value.shape == WEIGHT.shape
