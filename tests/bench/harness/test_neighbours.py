"""What others use of the machine is told, and a timing beside them is not taken for one."""

from __future__ import annotations

import pytest

from bench.checkpoint_read import __main__ as checkpoint_read
from bench.harness import neighbours
from bench.harness.neighbours import Neighbours, verdict


def test_what_this_process_uses_is_not_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(10.0, 500.0, 40.0), (14.0, 507.0, 44.0)])  # seconds, the machine's processor time, ours
    monkeypatch.setattr(Neighbours, "_now", staticmethod(lambda: next(readings)))
    assert Neighbours().cores() == pytest.approx((7 - 4) / 4)


def test_half_a_core_is_quiet() -> None:
    assert verdict(0.5) == ""
    assert "0.51 cores" in verdict(0.51)


def test_a_bench_refuses_to_time_beside_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "before", lambda: 1.5)
    with pytest.raises(SystemExit, match=r"NOT QUIET: 1\.50 cores"):
        checkpoint_read.main([])
