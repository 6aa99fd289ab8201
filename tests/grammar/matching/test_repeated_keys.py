"""No object gets a key twice, in any spelling; where that cannot be had it is named."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.errors import SchemaRefused
from engine.grammar import GrammarService
from engine.grammar.masks.bitmask import to_bools
from engine.request import Constraint
from engine.schema.reading.validator import parse_json
from engine.schema.verdicts.verdict import REPEATED_KEYS
from tests.grammar.fakes import byte_tokenizer

STOP, WIDTH = 256, 259


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    service = GrammarService(byte_tokenizer(), WIDTH, config=EngineConfig(cache_dir=tmp_path_factory.mktemp("cache")))
    yield service
    service.close()


FREE = {"type": "object", "additionalProperties": {"type": "integer"}}


@pytest.mark.parametrize("conformance", ["tight", "spec"])
@pytest.mark.parametrize(
    "schema", [{"type": "object"}, FREE, {"properties": {"a": {"type": "integer"}}}, {"required": list("abcdefgh")}]
)
def test_no_object_may_have_a_key_twice(service: GrammarService, schema: Any, conformance: str) -> None:
    grammar = service.compile(Constraint.json_schema(schema, conformance=conformance, require_enforced=True))
    needed = "".join(f',"{key}":0' for key in schema.get("required", "a") if key != "a")
    assert grammar.accepts(f'{{"a":1{needed}}}'.encode())
    for again in ("a", r"\u0061"):
        for text in (f'{{"a":1,"{again}":2{needed}}}', f'{{"{again}":2{needed},"a":1}}'):
            assert not grammar.accepts(text.encode()), text
    assert grammar.min_tokens_exact


def test_of_parameters_of_calls_it_is_named_and_can_be_refused(service: GrammarService) -> None:
    def tag(style: str, *, require_enforced: bool = False) -> Constraint:
        form = {"type": "json_schema", "json_schema": FREE, "style": style}
        return Constraint.structural_tag({"format": form}, conformance="spec", require_enforced=require_enforced)

    assert service.compile(tag("json", require_enforced=True)).verdicts
    found = service.compile(tag("qwen_xml")).verdicts
    assert [verdict.verdict for verdict in found if verdict.keyword == REPEATED_KEYS] == ["checked"]
    with pytest.raises(SchemaRefused, match=REPEATED_KEYS):
        service.compile(tag("qwen_xml", require_enforced=True))


@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_random_objects_end_without_repeated_keys(service: GrammarService, conformance: str) -> None:
    grammar = service.compile(Constraint.json_schema({"type": "object"}, conformance=conformance))
    draw = random.Random(3)
    for _ in range(20):
        matcher, mask = grammar.matcher(), np.zeros((1, 9), dtype=np.int32)
        for _ in range(150):
            assert matcher.fill(mask, 0) > 0
            legal = np.flatnonzero(to_bools(mask[0], WIDTH))
            favoured = [token for token in legal if chr(token) in '{"a:1,'] or legal.tolist()
            assert matcher.accept(draw.choice(favoured))
            assert matcher.retreat() is None
        ending = matcher.ending(1000)
        assert ending is not None
        parse_json(matcher.text([*matcher.token_ids, *ending]))


def test_an_ending_finishes_no_key_that_stands_already(service: GrammarService) -> None:
    matcher = service.compile(Constraint.json_schema({"type": "object"})).matcher()
    for byte in b'{"a":1,"a':
        assert matcher.accept(byte)
    ending = matcher.ending(100)
    assert ending is not None
    assert len(parse_json(matcher.text([*matcher.token_ids, *ending]))) == 2
