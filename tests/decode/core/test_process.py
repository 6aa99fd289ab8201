"""Full collections hold every thread: they come while nothing is in flight, and leave out what earlier ones kept."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import Request, SamplingParams
from engine.decode.core import process
from engine.decode.core.process import tidy
from engine.decode.requests.job import Sample
from tests.decode.fakes import fake_engine, random_logits
from tests.serve.server.test_hard_clients import wait_for

MANY = 6_000
"""Objects a step: more than enough for a full collection in the middle of a document."""
STEPS = 150
SAMPLES = 3


def test_a_full_collection_waits_until_nothing_is_in_flight(tmp_path: Path) -> None:
    engine, network = fake_engine(random_logits(5), tmp_path)
    kept: list[Any] = []
    frozen: list[int] = []
    full: list[int] = []  # the objects made when it came
    ends: list[int] = []  # the objects made when a request was over

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            full.append(len(kept))

    def fill() -> None:
        kept.extend([] for _ in range(MANY))
        if len(kept) in (MANY, STEPS * MANY):  # counting walks through all that is left out
            frozen.append(gc.get_freeze_count())

    def generate(steps: int) -> None:
        assert engine.submit(Request(prompt="x", sampling=SamplingParams(max_tokens=steps, seed=7))).result(60).text
        ends.append(len(kept))

    def collected() -> bool:
        generate(5)
        return bool(full)

    with engine:
        gc.collect()
        gc.callbacks.append(note)
        try:
            network.before = fill
            generate(2 * STEPS)
            wait_for(collected, 30)
        finally:
            gc.callbacks.remove(note)
    assert set(full) <= set(ends)
    assert ends[0] > STEPS * MANY
    assert gc.get_freeze_count() > full[0]
    assert frozen[1] - frozen[0] > STEPS * MANY // 2  # what is alive is left out meanwhile, too


def test_a_request_that_is_over_is_gone_without_a_collection(tmp_path: Path) -> None:
    engine, _ = fake_engine(random_logits(5), tmp_path)

    def samples() -> int:
        return sum(isinstance(held, Sample) for held in gc.get_objects())

    with engine:
        gc.collect()
        before = samples()
        gc.disable()
        try:
            sampling = SamplingParams(max_tokens=20, seed=7, n=SAMPLES)
            assert len(engine.submit(Request(prompt="x", sampling=sampling)).result(60).samples) == SAMPLES
            wait_for(lambda: samples() == before, 60)
        finally:
            gc.enable()


def test_after_a_busy_time_little_is_left_to_collect_in_the_first_pause() -> None:
    """Whoever comes in that pause waits for it."""
    gc.collect()
    gc.freeze()
    kept: list[Any] = []
    for _ in range(200):
        kept.extend([] for _ in range(1_000))
        tidy(busy=True)
    assert len(gc.get_objects()) < len(kept) // 2


def test_what_came_all_at_once_is_not_collected_by_the_decode_thread() -> None:
    gc.collect()
    gc.freeze()
    full: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        full.extend([phase] if info["generation"] == 2 else [])

    kept = [[] for _ in range(200_000)]
    gc.callbacks.append(note)
    try:
        tidy(busy=False)
    finally:
        gc.callbacks.remove(note)
    assert not full
    assert len(gc.get_objects()) < len(kept) // 2


def test_everything_is_looked_at_in_a_pause_that_lasts_and_not_in_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(gc, "unfreeze", lambda: looked.append("everything"))
    monkeypatch.setattr(process, "_thorough_at", [time.monotonic() - 2 * process._THOROUGH_S])
    for _ in range(process._DUE):
        gc.collect(1)
    tidy(busy=False)
    assert not looked
    tidy(busy=False, rested=True)
    assert looked


def test_the_next_look_at_everything_waits_longer_the_longer_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looked = iter((0.0, 2.0, 600.0, 2_200.0, 2_400.0, 2_402.0)), list[str]()
    monkeypatch.setattr(gc, "unfreeze", lambda: looked.append("everything"))
    monkeypatch.setattr(gc, "collect", lambda: None)
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(process, "_thorough_at", [-2 * process._THOROUGH_S])
    seen = []
    for _ in range(4):
        tidy(busy=False, rested=True)
        seen.append(len(looked))
    assert seen == [1, 1, 1, 2]  # one took two seconds


def test_nothing_is_collected_while_rows_decode_however_long_it_has_been(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(gc, "unfreeze", lambda: looked.append("everything"))
    monkeypatch.setattr(gc, "collect", lambda: looked.append("collected"))
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, 2 * process._MEANWHILE))
    monkeypatch.setattr(process, "_thorough_at", [time.monotonic() - 2 * process._AT_LAST_S])
    tidy(busy=True)
    assert not looked
    tidy(busy=False)
    assert looked == ["everything", "collected"]


def test_the_decode_thread_rests_once_where_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr("engine.decode.core.inbox._REST_S", 0.01)
    monkeypatch.setattr("engine.decode.core.thread.tidy", lambda busy, rested: told.append(rested))
    engine, _ = fake_engine(random_logits(5), tmp_path)
    with engine:
        for count in (1, 2):
            wait_for(lambda count=count: told.count(True) == count and told[-1])
            engine.generate(Request(prompt="x", sampling=SamplingParams(max_tokens=3)))
        wait_for(lambda: told.count(True) == 3)
