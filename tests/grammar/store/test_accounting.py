"""What the memory cache believes a grammar takes is what it takes."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from engine.grammar import GrammarService
from engine.grammar.compile.codec import decode, encode
from engine.grammar.compile.compiler import Compiled
from engine.grammar.compiled_grammar import _rule_bytes
from engine.grammar.pushdown.byte_grammar import Symbols
from engine.request import Constraint
from engine.schema.rules.grammar import Grammar, Rule

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
