"""Lookaheads cover what can follow: wherever a grammar stands, its mask allows exactly the tokens it accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgrammar as xg

from engine.schema import lower
from engine.schema.rules.grammar import KEY_MARK
from tests.schema.matching import BYTES, PIECES, compact, compiler

VOCABULARY = [*BYTES, *PIECES]
_COMPILER = compiler(VOCABULARY)
WORDS = (len(VOCABULARY) + 1 + 31) // 32

FAMILIES: list[tuple[str, Any, Any]] = [
    ("strings and keys", {"type": "object", "properties": {"a": {"type": "string"}, "ab": {"minLength": 2}},
     "required": ["a"]}, {"b": 'x"\n', "a": "ab", "ab": "é\\u", "abc": "a,", "": [1, "a", {}]}),
    ("numbers", {"type": "array", "items": {"type": "number", "minimum": -10}}, [0, -1, 1.5, 10, 1e5, 3.25]),
    ("patterns and formats", {"type": "array", "items": {"anyOf": [{"pattern": "^a[b\"]*$"}, {"format": "date"}]}},
     ["ab", 'a"b"', "2024-02-29", "a"]),
    ("unanchored patterns", {"type": "array", "items": {"anyOf": [{"pattern": "a[b\"]"}, {"pattern": "1,$"}]}},
     ["xaab", 'a"', "11,", "a,1,"]),
    ("none of a few values", {"type": "array", "items": {"type": "string", "not": {"enum": ["ab\"", "abc", "1,"]}}},
     ["ab", 'ab"a', "1", "xa", "é\n"]),
    ("names of one set", {"properties": {"ab": {"type": "null"}, "abc": {"type": "null"}, "b": {"type": "null"}},
     "propertyNames": {"pattern": "^[!-~]*$"}, "type": "object", "additionalProperties": {"type": "integer"}},
     {"a": 1, "ab": None, 'ab"': 2, "abca": 3, "\\": 4}),
    ("nested", {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "maxProperties": 2,
     "additionalProperties": {"enum": ["a", 1, None, True]}}}}}, {"a": [{}, {"a": 1}, {"x": "a", "y": None}], "z": {}}),
    ("tuples", {"prefixItems": [{"const": "ab"}, {"type": "boolean"}], "items": {"type": "null"}}, ["ab", True, None]),
    ("alternatives", {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]},
     {"b": {"a": [[]]}, "ab": 1}),
]  # fmt: skip


def _mask(matcher: xg.GrammarMatcher) -> np.ndarray:
    words = np.zeros((1, WORDS), dtype=np.int32)
    matcher.fill_next_token_bitmask(words)
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)


@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
@pytest.mark.parametrize("conformance", ["tight", "spec"])
@pytest.mark.parametrize(("schema", "document"), [f[1:] for f in FAMILIES], ids=[f[0] for f in FAMILIES])
def test_mask_and_matcher_agree_on_every_token(schema: Any, document: Any, conformance: Any, whitespace: Any) -> None:
    grammar = lower(schema, conformance=conformance, whitespace=whitespace).grammar
    matcher = xg.GrammarMatcher(_COMPILER.compile_grammar(xg.Grammar.from_ebnf(grammar.to_ebnf())))
    for byte in compact(document).encode():
        mask = _mask(matcher)
        for token in range(len(VOCABULARY)):
            if token >= len(BYTES) or chr(token) in '",:}]\\0a ':
                accepted = matcher.fork().accept_token(token)
                assert bool(mask[token]) == accepted, (VOCABULARY[token], byte)
        if not matcher.accept_token(byte) and not (matcher.accept_string(KEY_MARK) and matcher.accept_token(byte)):
            assert conformance == "tight"
            break
