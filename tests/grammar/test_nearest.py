"""A large grammar is loaded in two parts: what a document needs first, and the rest while it begins."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgrammar as xgr

from engine.config import EngineConfig
from engine.grammar import CompiledGrammar, GrammarService, nearest
from engine.grammar.bitmask import words
from engine.grammar.compiler import Compiler
from engine.grammar.entry import decode, encode
from engine.grammar.remainder import Remainder
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^(?:[^-]{3,7}-?){1,3}$"},
        "kind": {"enum": ["alpha", "beta", 3, None]},
        "many": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        "size": {"type": "number"},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}
TEXT = '{"name":"abé\\n","kind":"beta","many":[{"name":"xyz","kind":null}],"size":-1.5e3}'.encode()


class Nobody(Executor):
    """Takes work and leaves it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return Future()


NOBODY = Nobody()


class Held(Compiler):
    """Loads the rest when it is told to."""

    def __init__(self, service: GrammarService) -> None:
        self.__dict__.update(service._maker.compiler.__dict__)
        self.waiting: list[Callable[[], str]] = []
        self.rest: Remainder[xgr.CompiledGrammar] = Remainder(lambda: self.from_masks(""), NOBODY)

    def later(self, serialised: Callable[[], str]) -> Remainder[xgr.CompiledGrammar]:
        self.waiting.append(serialised)
        return self.rest


@pytest.fixture
def parted(byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch) -> tuple[Held, CompiledGrammar]:
    """The grammar as it is when only the first part has been loaded."""
    monkeypatch.setattr(nearest, "FIRST_US", 1_500.0)
    constraint = Constraint.json_schema(SCHEMA)
    held = Held(byte_service)
    compiled = decode(encode(byte_service._maker.compiler.compile(constraint)), held)
    assert len(held.waiting) == 1, "the grammar was not parted"
    return held, CompiledGrammar(constraint, "parted", compiled, byte_service.vocabulary)


def test_masks_near_the_start_are_there_and_the_others_are_waited_for(
    byte_service: GrammarService, parted: tuple[Held, CompiledGrammar]
) -> None:
    held, grammar = parted
    whole = byte_service.compile(Constraint.json_schema(SCHEMA))
    byte_service.vocabulary.masks.clear()
    size = byte_service.vocabulary.size
    row = np.zeros((2, words(size)), dtype=np.int32)
    early = 0
    matcher, reference = grammar.matcher(), whole.matcher()
    for byte in TEXT:
        fork = matcher.fork()
        if not held.rest.done():
            try:
                fork._matcher.fill_next_token_bitmask(row, 0)
                early += 1
            except RuntimeError:
                held.rest.set_result(held.from_masks(held.waiting[0]()))
        assert matcher.fill(row, 0) == reference.fill(row, 1)
        assert (row[0] == row[1]).all()
        assert matcher.accept(byte)
        assert reference.accept(byte)
    assert 5 < early < len(TEXT) / 2
    assert grammar.raw is held.rest.result()
    matcher.rollback(len(TEXT) - 3)
    assert matcher.accept(TEXT[3])
    assert grammar.accepts(TEXT)


def test_walks_show_the_same_masks(byte_service: GrammarService, parted: tuple[Held, CompiledGrammar]) -> None:
    held, grammar = parted
    held.rest.set_result(held.from_masks(held.waiting[0]()))
    whole = byte_service.compile(Constraint.json_schema(SCHEMA))
    row = np.zeros((2, words(byte_service.vocabulary.size)), dtype=np.int32)
    for seed in range(5):
        draw = random.Random(seed)
        first, reference = xgr.GrammarMatcher(grammar.compiled.raw), xgr.GrammarMatcher(whole.raw)
        for _ in range(40):
            reference.fill_next_token_bitmask(row, 1)
            try:
                first.fill_next_token_bitmask(row, 0)
            except RuntimeError:
                row[0] = row[1]  # a mask that is not there is never a wrong one
            assert (row[0] == row[1]).all()
            legal = [token for token in range(256) if row[1, token // 32] >> token % 32 & 1]
            if not legal:
                break
            token = draw.choice(legal)
            assert first.accept_token(token)
            assert reference.accept_token(token)


def store(service: GrammarService, constraint: Constraint) -> None:
    """On disk in two parts, as this process is told to part them."""
    compiler = service._maker.compiler
    compiled = compiler.compile(constraint)
    shortest = CompiledGrammar(constraint, "here", compiled, service.vocabulary).matcher().shortest_ending(0)
    about = {"kind": constraint.kind, "schema_hash": "0", "compile_ms": 1e6, "following_s": 0.0, "shortest": shortest}
    assert service.disk.put(service.key(constraint), encode(compiled), compiler, **about)


@pytest.mark.parametrize("fails", [True, False])
def test_what_could_not_be_loaded_is_made_again(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "FIRST_US", 1_500.0)
    service = GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=tmp_path))
    constraint, load = Constraint.json_schema(SCHEMA), Compiler._load
    store(service, constraint)

    def broken(_: Compiler, serialised: Callable[[], str]) -> xgr.CompiledGrammar:
        raise MemoryError(len(serialised()))

    monkeypatch.setattr(Compiler, "_load", broken if fails else load)
    lost = service.compile(constraint)
    assert (lost.source, lost.compiled.rest is None) == ("disk", False)
    service._maker.compiler.close()
    monkeypatch.setattr(Compiler, "_load", load)
    assert service.compile(constraint).source == ("compiled" if fails else "memory")
    assert service.compile(constraint).accepts(TEXT)
    service.close()


def test_what_is_not_there_yet_counts_in_the_cache(parted: tuple[Held, CompiledGrammar]) -> None:
    held, grammar = parted
    before = grammar.compiled.nbytes
    rest = held.from_masks(held.waiting[0]())
    held.rest.set_result(rest)
    assert before > rest.memory_size_bytes
    assert grammar.compiled.nbytes == before


def test_small_grammars_and_unknown_layouts_stay_whole() -> None:
    document = {"grammar": {"per_rule_fsms": [], "root_rule_id": 0}, "adaptive_token_mask_cache": []}
    assert nearest.nearest(document) is None
    entry = [[0, 0, 0], {"accepted_indices": list(range(4_000))}]
    assert nearest.nearest({**document, "adaptive_token_mask_cache": [entry] * 50}) is None
    assert nearest.nearest({}) is None
