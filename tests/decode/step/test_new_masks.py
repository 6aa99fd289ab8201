"""A mask that takes long to make holds up its own row alone, and changes nothing of what is sampled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Constraint, Request, SamplingParams
from engine.decode.step.masks import Masks
from engine.decode.step.sampler import InputRows
from engine.errors import GrammarDesync
from engine.grammar import Matcher
from tests.decode.fakes import fake_engine, wants

SLOW = Constraint.json_schema({"type": "string", "pattern": "^[a-m][n-z][a-m][n-z]{2,4}$"})
QUICK = Constraint.json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
SLOW_S, STEP_S = 0.01, 0.02
SAMPLING = SamplingParams(temperature=0.9, seed=3, max_tokens=40)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """New masks of the request 'slow' are made only while it is set."""
    gate, make = threading.Event(), Matcher.make

    def make_later(matcher: Matcher) -> None:
        if matcher.request_id == "slow":
            gate.wait()
        make(matcher)

    monkeypatch.setattr(Matcher, "make", make_later)
    yield gate
    gate.set()


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
@pytest.mark.parametrize("forced", ["off", "verify"])
def test_a_neighbour_goes_on_and_the_text_is_the_same(
    gate: threading.Event, ahead: bool, forced: str, tmp_path: Path
) -> None:
    engine, network = fake_engine(wants(""), tmp_path, launch_ahead=ahead, forced_runs=forced)
    with engine:
        gate.set()
        alone = engine.generate(Request(prompt="p", constraint=SLOW, sampling=SAMPLING))
        engine.grammars.vocabulary.masks.clear()
        gate.clear()
        slow = engine.submit(Request(prompt="p", constraint=SLOW, sampling=SAMPLING, id="slow"))
        for number in range(3):
            quick = engine.submit(Request(prompt=f"q{number}", constraint=QUICK, sampling=SAMPLING)).result(60)
            assert quick.valid
        assert not slow.done()
        asleep = network.forwards
        gate.set()
        result = slow.result(60)
    assert (result.text, result.status) == (alone.text, alone.status)
    assert result.valid
    assert network.forwards > asleep


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_a_draft_is_cut_where_its_masks_take_longer_than_a_step_may(
    ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a name that is long enough for several drafts", "and another one"]
    schema = {"type": "object", "properties": {n: {"type": "null"} for n in names}, "required": names}
    constraint, sampling = Constraint.json_schema(schema), SamplingParams(max_tokens=200)
    request = Request(prompt="p", constraint=constraint, sampling=sampling, id="slow")
    engine, network = fake_engine(wants(""), tmp_path, launch_ahead=ahead)
    new: Counter[int] = Counter()
    steps = 0
    fill, fill_step = Matcher.fill, Masks.fill

    def slowly(matcher: Matcher, *given: Any, **settings: Any) -> int:
        if matcher.request_id == "slow" and not matcher.kept:  # others look ahead
            new[steps] += 1
            time.sleep(SLOW_S)
        return fill(matcher, *given, **settings)

    def counted(masks: Masks, *given: Any) -> InputRows:
        nonlocal steps
        steps += 1
        return fill_step(masks, *given)

    with engine:
        alone = engine.generate(request)
        assert network.forwards < alone.usage.completion_tokens / 2
        engine.grammars.vocabulary.masks.clear()
        monkeypatch.setattr(Matcher, "fill", slowly)
        monkeypatch.setattr(Masks, "fill", counted)
        monkeypatch.setattr(Masks, "pace_s", property(lambda _: 0.0, lambda *_: None), raising=False)
        result = engine.generate(request)
    assert (result.text, result.status) == (alone.text, "complete")
    assert max(new.values()) <= 1 + STEP_S / SLOW_S
    assert sum(new.values()) > 10


def test_samples_at_one_place_share_the_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = Matcher.make

    def count(matcher: Matcher) -> None:
        made.append(matcher.unmade or 0)
        make(matcher)

    monkeypatch.setattr(Matcher, "make", count)
    engine, _ = fake_engine(wants('"anbno"'), tmp_path)
    sampling = SamplingParams(temperature=0, n=4, max_tokens=40)
    with engine:
        samples = engine.generate(Request(prompt="p", constraint=SLOW, sampling=sampling))
    assert samples.valid
    assert len(made) == len(set(made)) > 3


def test_a_mask_that_cannot_be_made_fails_its_row_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(matcher: Matcher, *_: object) -> None:
        raise GrammarDesync("planted")

    engine, _ = fake_engine(wants(""), tmp_path)
    with engine:
        with monkeypatch.context() as patched:
            patched.setattr(Matcher, "_compute", fail)
            broken = engine.generate(Request(prompt="p", constraint=SLOW, sampling=SAMPLING))
        assert broken.status == "error"
        assert engine.generate(Request(prompt="p", constraint=QUICK, sampling=SAMPLING)).valid


def test_a_row_that_waits_for_its_mask_can_be_cancelled(gate: threading.Event, tmp_path: Path) -> None:
    engine, _ = fake_engine(wants(""), tmp_path)
    with engine:
        slow = engine.submit(Request(prompt="p", constraint=SLOW, sampling=SAMPLING, id="slow"))
        assert engine.generate(Request(prompt="q", constraint=QUICK, sampling=SAMPLING)).valid
        slow.cancel()
        while engine.info()["in_flight"]:
            threading.Event().wait(0.01)
    assert slow.cancelled()
