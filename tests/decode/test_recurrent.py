"""Recurrent states under the engine: drafts, chunks, company, samples, stored prompts and particles change no token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import Constraint, EngineConfig, Request, SamplingParams
from engine.decode.engine import Engine
from engine.model.recurrent import state_cache
from engine.model.recurrent.trail import Trail
from tests.decode.test_identical import SCHEMA, engine_for, tiny
from tests.model import tiny_recurrent

RULE = Constraint.json_schema(SCHEMA)
NAMES = ["qwen3_next", "qwen3_5_moe"]


def ask(prompt: str, constraint: Constraint | None = RULE, **sampling: Any) -> Request:
    settings = {"temperature": 0.9, "seed": 4, "max_tokens": 40, **sampling}
    return Request(prompt=prompt, constraint=constraint, sampling=SamplingParams(**settings))


def texts(result: Any) -> list[tuple[int, ...]]:
    return [tuple(sample.token_ids) for sample in (result.samples or [result])]


@pytest.mark.parametrize("name", NAMES)
def test_drafts_chunks_and_company_change_no_token(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    requests = [ask("x" * (1 + 30 * i), RULE if i % 3 else None, seed=i, max_tokens=25 + 9 * i) for i in range(4)]
    with engine_for(model, tmp_path, forced_runs="off") as plain:
        expected = [plain.generate(request) for request in requests]
    with engine_for(model, tmp_path, forced_runs="verify", prefill_chunk=16) as engine:
        together = [future.result() for future in [engine.submit(request) for request in requests]]
    assert [r.token_ids for r in together] == [r.token_ids for r in expected]
    assert any(r.usage.forced_tokens for r in together)


@pytest.mark.parametrize("name", NAMES)
def test_samples_and_stored_prompts_equal_fresh_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, start = tiny(name), "a prompt that others begin with as well, of some length; "
    requests = [ask(start + end, n=n) for end, n in (("one", 3), ("one", 1), ("", 2), ("one and more", 1))]
    with engine_for(model, tmp_path, prefix_cache_bytes=0) as fresh:
        expected = [texts(fresh.generate(request)) for request in requests]
    shared: list[int] = []
    load = state_cache.StateCache.load
    monkeypatch.setattr(state_cache.StateCache, "load", lambda *args: shared.append(args[-1]) or load(*args))
    with engine_for(model, tmp_path) as engine:
        results = [engine.generate(request) for request in requests]
    assert [texts(result) for result in results] == expected
    assert len(shared) == 6  # all rows but the first
    assert min(shared) > 30


@pytest.mark.parametrize("name", NAMES)
def test_copied_particles_go_on_as_if_they_had_been_fed_anew(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(name)
    request = ask("particles", temperature=1.0, method="smc", particles=4, ess=1.0, max_tokens=30)
    with engine_for(model, tmp_path) as engine:
        copied = engine.generate(request)
    load = state_cache.StateCache.load
    loads: list[int] = []

    def without_trail(cache: Any, slot: int, saved: Any, length: int) -> None:
        loads.append(slot)
        load(cache, slot, state_cache.SavedStates(Trail(), saved.tokens), length)

    monkeypatch.setattr(state_cache.StateCache, "load", without_trail)
    with engine_for(model, tmp_path) as engine:
        anew = engine.generate(request)
    assert texts(anew) == texts(copied)
    assert len(loads) > 3


@pytest.mark.parametrize("name", tiny_recurrent.NAMES)
def test_a_folder_obeys_a_schema(name: str, tmp_path: Path) -> None:
    folder = tiny_recurrent.save(name, tmp_path / name)
    config = EngineConfig(
        model=str(folder), device="cpu", max_batch=2, max_sequence=512, cache_dir=tmp_path, cpu_dtype="float32"
    )
    with Engine(config) as engine:
        result = engine.generate(ask("a folder", max_tokens=200))
    assert result.status in ("complete", "closed")
    assert set(json.loads(result.text)) == {"kind", "items", "note"}
