"""Several owners on one engine: ids are each owner's own, and nobody keeps the rows from anybody else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from engine import Request, SamplingParams
from tests.decode.fakes import fake_engine, wants


def slow(fed: Any) -> np.ndarray:
    """A text without end, at a hundred tokens a second."""
    time.sleep(0.01)
    return wants("a" * 5000)(fed)


def test_an_id_belongs_to_its_owner_and_nobody_else_can_cancel_it(tmp_path: Path) -> None:
    engine, _ = fake_engine(slow, tmp_path)
    params = SamplingParams(temperature=0, max_tokens=40)
    with engine:
        hers = engine.submit(Request(prompt="x", id="job-42", sampling=params), owner="her")
        his = engine.submit(Request(prompt="x", id="job-42", sampling=params), owner="him")
        assert not engine.cancel("job-42"), "a caller without a name is not everybody"
        assert not engine.cancel("job-42", owner="them")
        assert engine.cancel("job-42", owner="him")
        assert his.result(5).status == "cancelled"
        assert hers.result(5).status == "length"
