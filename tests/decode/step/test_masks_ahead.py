"""Masks made while the device computes: nothing that is sampled changes, and they are there when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Constraint, Request, SamplingParams
from engine.decode.step import masks
from engine.decode.step.idle_time import IdleTime
from engine.decode.step.loop import Loop
from engine.grammar.matching.token_matcher import TokenMatcher
from tests.decode.fakes import fake_engine, random_logits, wants

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-m][n-z]{2,4}$"},
        "kind": {"enum": ["first", "second"]},
        "sizes": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "kind", "sizes"],
}
DOCUMENT = '{"name":"box","kind":"second","sizes":[17,4,29]}'
SAMPLING = SamplingParams(temperature=0)
REQUEST = Request(prompt="p", id="document", constraint=Constraint.json_schema(SCHEMA), sampling=SAMPLING)


def others(count: int) -> list[Request]:
    """Requests of as many schemas."""
    schemas = [{"type": "object", "properties": {f"key{n}": SCHEMA}, "required": [f"key{n}"]} for n in range(count)]
    sampling = SamplingParams(temperature=0.9, seed=5, max_tokens=90)
    return [
        Request(prompt=f"q{n}", constraint=Constraint.json_schema(schema), sampling=sampling)
        for n, schema in enumerate(schemas)
    ]


def results(tmp_path: Path, **settings: Any) -> list[tuple[str, str]]:
    engine, _ = fake_engine(random_logits(8), tmp_path, launch_ahead=True, max_batch=8, **settings)
    with engine:
        return [(result.text, result.status) for result in engine.generate_batch(others(8))]


@pytest.mark.parametrize("forced", ["off", "verify"])
def test_what_is_sampled_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    found = results(tmp_path / "with", forced_runs=forced)
    monkeypatch.setattr(IdleTime, "use", lambda *_: None)
    assert found == results(tmp_path / "without", forced_runs=forced)


def made_by_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many masks the request itself had made; its fifth step takes until nothing is left to make ahead."""
    idle, made, use, compute = threading.Event(), list[str](), IdleTime.use, TokenMatcher._compute

    def look_ahead(idle_time: IdleTime, samples: Any, is_over: Callable[[], bool]) -> None:
        use(idle_time, samples, is_over)
        if not is_over():
            idle.set()

    def note(matcher: TokenMatcher, *where: Any) -> None:
        made.append(matcher.request_id)
        compute(matcher, *where)

    engine, network = fake_engine(wants(DOCUMENT), tmp_path, launch_ahead=True, forced_runs="off")
    network.before = lambda: idle.wait(60) if network.forwards == 4 else None
    with engine, monkeypatch.context() as patched:
        patched.setattr(IdleTime, "use", look_ahead)
        patched.setattr(TokenMatcher, "_compute", note)
        assert engine.generate(REQUEST).text == DOCUMENT
    assert idle.is_set()
    return sum(name == REQUEST.id for name in made)


def test_a_document_finds_its_masks_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = made_by_the_document(tmp_path / "with", monkeypatch)
    monkeypatch.setattr(IdleTime, "use", lambda *_: None)
    assert 0 < 3 * with_it < made_by_the_document(tmp_path / "without", monkeypatch)


def test_rows_with_new_masks_take_turns_where_many_would_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdleTime, "use", lambda *_: None)
    prompt = results(tmp_path / "in time")
    late, fill = list[bool](), masks.Masks._fill_rows

    def note(self: masks.Masks, row: masks.Row, pieces: int) -> None:
        late.append(row.late)
        fill(self, row, pieces)

    monkeypatch.setattr(masks.Masks, "_fill_rows", note)
    monkeypatch.setattr(masks, "_NEW_S", 1e9)
    monkeypatch.setattr(Loop, "_forward_ends", lambda *_: 0.0)
    assert prompt == results(tmp_path / "late")
    assert sum(late) > 20


def test_closing_ends_the_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    engine, _ = fake_engine(wants(DOCUMENT), tmp_path, launch_ahead=True)
    with engine:
        assert engine.generate(REQUEST).valid
    left = [thread for thread in threading.enumerate() if thread.name.startswith("masks") and thread not in before]
    for thread in left:
        thread.join(60)
    assert not any(thread.is_alive() for thread in left)
