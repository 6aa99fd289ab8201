"""What is left of a beginning's probability, as proposals find out."""

from __future__ import annotations

import pytest

from engine.decode.particles.dead_prefixes import Prefix


def test_what_is_alive_shrinks_as_beginnings_turn_out_to_be_dead() -> None:
    root, left, right = Prefix(), Prefix(), Prefix()
    assert (root.known, root.alive, dict(root.shares())) == (False, 1.0, {})
    root.learn(0.5, legal=2)
    assert root.alive == 0.5
    root.below = {1: (0.2, left), 2: (0.3, right)}
    left.learn(0.25, legal=4)
    root.weigh()
    assert root.alive == pytest.approx(0.2 * 0.25 + 0.3)
    assert dict(root.shares()) == {1: 0.25}
    right.alive = 0.0
    root.weigh()
    assert root.alive == pytest.approx(0.05)


def test_where_every_legal_token_is_dead_nothing_is_left() -> None:
    root, only = Prefix(), Prefix()
    root.learn(0.1 + 0.2, legal=1)
    root.below = {7: (0.3, only)}
    only.alive = 0.0
    root.weigh()
    assert root.alive == 0.0
    root.learn(0.7, legal=0)
    assert root.alive == 0.0
