"""Divergences against their definitions in plain Python, the chain rule, and intervals that cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.statistics import ratio
from bench.quantization.divergence import Sums, compare, surprise
from bench.replay.engine import unpack


def case(seed: int, tokens: int = 5, width: int = 37) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(tokens, width, generator=generator) * 4
    variant = reference + torch.randn(tokens, width, generator=generator)
    legal = torch.rand(tokens, width, generator=generator) < 0.4
    legal[:, 3] = True
    return reference, variant, legal


def softmax(logits: torch.Tensor) -> list[float]:
    top = max(logits.tolist())
    powers = [math.exp(value - top) for value in logits.tolist()]
    return [power / math.fsum(powers) for power in powers]


def test_sums_are_their_definitions() -> None:
    reference, variant, legal = case(1)
    expected = Sums(tokens=5.0)
    for x, y, allowed in zip(reference, variant, legal.tolist(), strict=True):
        p, q = softmax(x), softmax(y)
        z, w = (math.fsum(v for v, ok in zip(d, allowed, strict=True) if ok) for d in (p, q))
        pairs = [(a / z, b / w) for a, b, ok in zip(p, q, allowed, strict=True) if ok]
        expected.kl_all += math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected.kl_legal += math.fsum(a * math.log(a / b) for a, b in pairs)
        expected.kl_mass += z * math.log(z / w) + (1 - z) * math.log((1 - z) / (1 - w))
        expected.flips_free += p.index(max(p)) != q.index(max(q))
        firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
        expected.flips_legal += firsts.index(max(firsts)) != seconds.index(max(seconds))
        expected.open += sum(allowed) > 1
        expected.mass += w
        expected.mass_shift += w - z
        expected.mass_distance += abs(w - z)
    found = compare(reference, variant, legal)
    for name in Sums.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-5, abs=1e-7), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_chain_rule_holds(seed: int) -> None:
    """KL = KL of the coins + Z KL(legal) + (1 - Z) KL(illegal): what a mask removes is the first and the last."""
    reference, variant, legal = case(seed, tokens=1)
    whole, outside = compare(reference, variant, legal), compare(reference, variant, ~legal)
    z = float(reference.double().softmax(-1)[legal].sum())
    parts = whole.kl_mass + z * whole.kl_legal + (1 - z) * outside.kl_legal
    assert whole.kl_all == pytest.approx(parts, rel=1e-6, abs=1e-9)


def test_a_mass_of_almost_one_gives_finite_figures() -> None:
    """Inside a string nearly everything is legal: 1 - Z is far below what float64 keeps beside 1."""
    reference, variant, legal = case(5)
    legal[:], legal[:, 7] = True, False
    reference[:, 7], variant[:, 7] = -60.0, -61.0
    sums = compare(reference, variant, legal)
    assert math.isfinite(sums.kl_mass)
    assert sums.kl_mass == pytest.approx(0, abs=1e-12)


def test_a_model_does_not_differ_from_itself() -> None:
    reference, _, legal = case(2)
    same = compare(reference, reference, legal)
    assert same.kl_all == same.kl_legal == same.kl_mass == same.flips_free == same.flips_legal == same.mass_shift == 0


@pytest.mark.parametrize("legal", ["everything", "one token"])
def test_masks_that_leave_all_or_one(legal: str) -> None:
    reference, variant, mask = case(3)
    mask[:] = legal == "everything"
    mask[:, 3] = True
    sums = compare(reference, variant, mask)
    if legal == "everything":
        assert sums.kl_legal == pytest.approx(sums.kl_all)
        assert sums.mass == pytest.approx(5)
        assert sums.kl_mass == pytest.approx(0, abs=1e-9)
    else:
        assert sums.kl_legal == pytest.approx(0, abs=1e-12)
        assert (sums.flips_legal, sums.open) == (0, 0)


def test_surprise_is_the_log_likelihood() -> None:
    reference, _, legal = case(4)
    tokens = torch.full((5,), 3)
    free, bound = surprise(reference, tokens, legal)
    assert free == pytest.approx(-math.fsum(math.log(softmax(row)[3]) for row in reference), rel=1e-5)
    assert bound < free


def test_bits_come_out_in_the_order_of_the_engine() -> None:
    words = torch.tensor([[1, 1 << 30], [-1, -(1 << 31)]], dtype=torch.int32)
    bits = unpack(words, 63)
    assert bits[0].nonzero().flatten().tolist() == [0, 62]
    assert bits[1].nonzero().flatten().tolist() == list(range(32))
    assert unpack(words, 64)[1, 63]


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        counts = generator.integers(20, 60, 60).astype(float)
        sums = counts * (0.3 + 0.1 * generator.standard_normal(60))
        _, low, high = ratio(sums.tolist(), counts.tolist(), seed=trial)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_intervals_depend_on_the_seed_alone() -> None:
    values = [float(v) for v in range(20)]
    assert ratio(values, [1.0] * 20, seed=1) == ratio(values, [1.0] * 20, seed=1)
    assert ratio(values, [1.0] * 20, seed=1) != ratio(values, [1.0] * 20, seed=2)
    with pytest.raises(ValueError, match="numerators"):
        ratio([1.0], [], seed=0)
