"""A grammar that is still loading: its document begins, then waits, and no other document waits with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xgrammar as xgr

from engine.grammar import nearest
from engine.grammar.remainder import Remainder
from engine.request import Constraint, Request, SamplingParams
from tests.decode.fakes import fake_engine, wants
from tests.grammar.test_nearest import NOBODY, SCHEMA, store

TEXT = '{"name":"abc","kind":"beta","size":-1}'


def test_others_go_on_while_masks_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "FIRST_US", 1_500.0)
    constraint = Constraint.json_schema(SCHEMA)
    with fake_engine(wants(TEXT), tmp_path)[0] as writer:
        store(writer.grammars, constraint)
    with fake_engine(wants(TEXT), tmp_path)[0] as engine:
        compiler = engine.grammars._maker.compiler
        waiting: list[Any] = []
        rest: Remainder[xgr.CompiledGrammar] = Remainder(lambda: compiler.from_masks(""), NOBODY)
        monkeypatch.setattr(compiler, "later", lambda serialised: waiting.append(serialised) or rest)
        sampling = SamplingParams(max_tokens=60, temperature=0.0)
        loading = engine.submit(Request(prompt="x", constraint=constraint, sampling=sampling))
        grammar = engine.grammars.compile(constraint)
        assert grammar.compiled.rest is rest
        assert not grammar.loaded
        try:
            others = [engine.submit(Request(prompt="y", sampling=sampling)).result(120) for _ in range(2)]
            assert not loading.done()
        finally:
            rest.set_result(compiler.from_masks(waiting[0]()))
        result = loading.result(120)
    assert [other.text for other in others] == [TEXT, TEXT]
    assert (result.text, result.status, result.grammar_source) == (TEXT, "complete", "disk")
