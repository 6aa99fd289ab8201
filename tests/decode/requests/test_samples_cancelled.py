"""Several samples whose request is cancelled before its first token: one answer, and the decode thread lives on."""

from __future__ import annotations

from pathlib import Path

from engine import Request, SamplingParams
from tests.decode.fakes import fake_engine, wants


def test_samples_that_wait_for_a_slot_are_cancelled_together(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants("x" * 400), tmp_path, max_batch=1)
    with engine:
        running = engine.submit(Request(prompt="long", sampling=SamplingParams(temperature=0, max_tokens=300)))
        waiting = engine.submit(Request(prompt="late", id="late", sampling=SamplingParams(n=3, max_tokens=20)))
        assert engine.cancel("late")
        cancelled = waiting.result(120)
        assert [sample.status for sample in cancelled.samples or ()] == ["cancelled"] * 3
        assert running.result(120).status in ("length", "complete")
        after = engine.generate(Request(prompt="next", sampling=SamplingParams(temperature=0, max_tokens=4)))
        assert after.usage.completion_tokens == 4
        assert engine.in_flight() == []
