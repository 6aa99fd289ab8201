"""What the memory cache believes a grammar takes is what it takes."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig
from engine.grammar import GrammarService
from engine.grammar.compile.codec import decode, encode
from engine.grammar.compile.compiler import Compiled
from engine.grammar.compiled_grammar import _rule_bytes
from engine.grammar.masks.bitmask import cleared
from engine.grammar.pushdown.byte_grammar import Symbols
from engine.request import Constraint
from engine.schema.rules.grammar import Grammar, Rule
from tests.grammar.fakes import byte_tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {f"key{i}": {"type": "string", "pattern": f"^[a-f]{{{i}}}x[0-9]+$"} for i in range(1, 12)},
}


@pytest.fixture(scope="module")
def compiled(byte_service: GrammarService) -> Compiled:
    return byte_service._maker.compiler.compile(Constraint.json_schema(SCHEMA))


def test_rules_and_their_symbols_count(byte_service: GrammarService, compiled: Compiled) -> None:
    stored = decode(encode(compiled), byte_service._maker.compiler)
    assert stored.grammar is not None
    byte_service.flush()  # what other threads make at the start is not counted
    gc.collect()
    tracemalloc.start()
    rules = {name: Rule(name, rule.alternatives, rule.lookahead) for name, rule in stored.grammar.rules.items()}
    grammar = Grammar(rules, stored.grammar.root)
    symbols = Symbols(grammar, byte_service.vocabulary.segmenter)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert symbols.root.best is not None
    assert 0.5 < _rule_bytes(grammar) / taken < 2


def test_the_cache_counts_them(byte_service: GrammarService) -> None:
    grammar = byte_service.compile(Constraint.json_schema(SCHEMA))
    assert grammar.compiled.grammar is not None
    assert grammar.nbytes > grammar.raw.memory_size_bytes + _rule_bytes(grammar.compiled.grammar)


@pytest.mark.parametrize("schema", [SCHEMA, {"type": "object"}, {"$ref": "#/$defs/a", "$defs": {"a": {
    "properties": {"next": {"$ref": "#/$defs/a"}, "name": {"maxLength": 3}}, "required": ["name"]}}}])  # fmt: skip
def test_a_grammar_that_nobody_holds_is_gone_at_once(schema: dict[str, Any], tmp_path: Path) -> None:
    """Without a full collection, for which a busy engine never stops."""
    service = GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=tmp_path))
    with closing(service):
        service.compile(Constraint.json_schema({"const": 1}))
        gc.disable()
        try:
            grammar = service.compile(Constraint.json_schema(schema))
            matcher = grammar.matcher()
            for byte in b'{"':
                matcher.fill(cleared(1, 258), 0)
                assert matcher.fits(500)
                assert matcher.accept(byte, legal=True)
            assert grammar.completions is not None
            held = [weakref.ref(part) for part in (grammar, grammar.completions.pushdown, matcher)]
            service._memory.clear()
            assert all(part() is not None for part in held)
            del grammar, matcher
            until = time.monotonic() + 10  # a thread may be writing it for the disk
            while any(part() is not None for part in held) and time.monotonic() < until:
                time.sleep(0.01)
            assert [part() for part in held] == [None, None, None]
        finally:
            gc.enable()
