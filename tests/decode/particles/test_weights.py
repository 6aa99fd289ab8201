"""Weights in logarithms, and what is drawn by them."""

from __future__ import annotations

import math

import pytest

from engine.decode.particles.weights import DEAD, ancestors, chosen, effective, log_mean


def test_the_mean_weight_and_the_effective_sample_size() -> None:
    assert log_mean([math.log(1), math.log(3)]) == pytest.approx(math.log(2))
    assert log_mean([DEAD, DEAD]) == DEAD
    assert effective([0.0] * 8) == pytest.approx(8)
    assert effective([-700.0, DEAD, DEAD]) == pytest.approx(1)
    assert effective([DEAD]) == 0


def test_each_is_copied_as_often_as_its_weight_says_and_survivors_stay() -> None:
    logs = [math.log(weight) if weight else DEAD for weight in (0.5, 0.0, 0.25, 0.25)]
    for uniform in (0.0, 0.3, 0.999):
        places = ancestors(logs, uniform)
        assert sorted(places) == [0, 0, 2, 3]
        assert [places[kept] for kept in (0, 2, 3)] == [0, 2, 3]


def test_every_place_is_drawn_by_the_weights_alone() -> None:
    logs, steps = [math.log(weight) for weight in (0.1, 0.6, 0.3)], 3000
    for place in (0, 1, 3):
        drawn = [chosen(logs, 4, (step + 0.5) / steps)[place] for step in range(steps)]
        assert [drawn.count(index) / steps for index in range(3)] == pytest.approx([0.1, 0.6, 0.3], abs=2e-3)
