"""Repeated keys: noticed in any spelling and at any cut of the text, and taken back by the matcher."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.errors import SchemaRefused
from engine.grammar import GrammarService
from engine.grammar.bitmask import to_bools
from engine.grammar.key_watch import KeyState
from engine.request import Constraint
from engine.schema.validator import JsonInvalid, parse_json
from engine.schema.verdict import REPEATED_KEYS
from tests.grammar.fakes import byte_tokenizer

STOP, WIDTH = 256, 259


class Pairs(list[tuple[str, Any]]):
    """An object that may hold a key twice."""


values = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(st.sampled_from('abé"\\'), inner), max_size=4).map(Pairs)
    ),
    max_leaves=8,
)


def write(value: Any, ascii_only: bool) -> str:
    if isinstance(value, Pairs):
        members = (f"{json.dumps(key, ensure_ascii=ascii_only)}:{write(part, ascii_only)}" for key, part in value)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(part, ascii_only) for part in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


@given(values, st.booleans(), st.integers(1, 7))
def test_it_sees_what_the_parser_sees_at_any_cut(value: Any, ascii_only: bool, size: int) -> None:
    text = write(value, ascii_only).encode()
    state, seen = KeyState(), []
    for at in range(0, len(text), size):
        state = state.read(text[at : at + size])
        seen += [state.repeated] if state.repeated is not None else []
    if seen:
        assert text[seen[0] : seen[0] + 1] == b'"'
        with pytest.raises(JsonInvalid, match="duplicate key"):
            parse_json(text)
    else:
        parse_json(text)
    assert state.offset == len(text)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    service = GrammarService(byte_tokenizer(), WIDTH, config=EngineConfig(cache_dir=tmp_path_factory.mktemp("cache")))
    yield service
    service.close()


@pytest.mark.parametrize(
    ("schema", "conformance", "word"),
    [
        ({"type": "object"}, "tight", "enforced"),
        ({"properties": {"a": {"type": "integer"}}}, "spec", "checked"),
        ({"properties": {"a": {"type": "integer"}}, "additionalProperties": False, "type": "object"}, "tight", None),
        ({"type": "integer"}, "spec", None),
    ],
)
def test_where_keys_could_repeat_it_is_named(service: GrammarService, schema: Any, conformance: str, word: Any) -> None:
    grammar = service.compile(Constraint.json_schema(schema, conformance=conformance, require_enforced=True))
    words = [verdict.verdict for verdict in grammar.verdicts if verdict.keyword == REPEATED_KEYS]
    assert words == ([] if word is None else [word])
    assert grammar.min_tokens_exact


def test_a_checked_keyword_is_still_refused_by_name(service: GrammarService) -> None:
    schema = {"type": "object", "required": list("abcdefgh")}
    with pytest.raises(SchemaRefused, match="required"):
        service.compile(Constraint.json_schema(schema, conformance="spec", require_enforced=True))


@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_random_objects_end_without_repeated_keys(service: GrammarService, conformance: str) -> None:
    grammar = service.compile(Constraint.json_schema({"type": "object"}, conformance=conformance))
    draw, taken_back = random.Random(3), 0
    for _ in range(20):
        matcher, mask = grammar.matcher(), np.zeros((1, 9), dtype=np.int32)
        for _ in range(150):
            assert matcher.fill(mask, 0) > 0
            legal = np.flatnonzero(to_bools(mask[0], WIDTH))
            favoured = [token for token in legal if chr(token) in '{"a:1,'] or legal.tolist()
            assert matcher.accept(draw.choice(favoured))
            taken_back += matcher.retreat() is not None
        ending = matcher.ending(1000)
        assert ending is not None
        parse_json(matcher.text([*matcher.token_ids, *ending]))
    assert taken_back > 3


def test_an_ending_finishes_no_key_that_stands_already(service: GrammarService) -> None:
    matcher = service.compile(Constraint.json_schema({"type": "object"})).matcher()
    for byte in b'{"a":1,"a':
        assert matcher.accept(byte)
    ending = matcher.ending(100)
    assert ending is not None
    assert len(parse_json(matcher.text([*matcher.token_ids, *ending]))) == 2
