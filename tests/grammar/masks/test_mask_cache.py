"""Masks by place: what is copied is what would have been computed, bans stay with their matcher, memory is bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.grammar import GrammarService, Matcher
from engine.grammar.masks.bitmask import to_bools
from engine.grammar.masks.mask_cache import OVERHEAD_BYTES, MaskCache
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

WIDTH = 272
SCHEMAS = [
    {"type": "object", "properties": {"ab": {"type": "string"}, "ac": {"type": "integer"}}, "required": ["ab"]},
    {"type": "array", "items": {"enum": ["é", "è", "x", 1, None]}},
    {"type": "object", "patternProperties": {"^x": {"type": "string", "maxLength": 3}}},
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    config = EngineConfig(cache_dir=tmp_path_factory.mktemp("cache"))
    service = GrammarService(byte_tokenizer([b'","', b'":"', b'"}', b"\xc3"]), WIDTH, config=config)
    yield service
    service.close()


def filled(matcher: Matcher) -> np.ndarray:
    mask = np.zeros((1, (WIDTH + 31) // 32), dtype=np.int32)
    assert matcher.fill(mask, 0) == to_bools(mask[0], WIDTH).sum()
    return mask[0]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_a_kept_mask_is_the_computed_one(service: GrammarService, schema: object, conformance: str) -> None:
    compiled = service.compile(Constraint.json_schema(schema, conformance=conformance))
    masks, draw, hits = compiled.vocabulary.masks, random.Random(5), 0
    for _ in range(12):
        matcher = compiled.matcher()
        for _ in range(40):
            before = len(masks)
            kept = filled(matcher).copy()
            hits += len(masks) == before
            anew = matcher.fork()
            anew._masks = MaskCache()
            assert (filled(anew) == kept).all()
            token = draw.choice(np.flatnonzero(to_bools(kept, WIDTH)).tolist())
            assert matcher.accept(token)
            if matcher.terminated:
                break
    assert hits > 20


def test_the_second_step_in_a_string_is_a_copy(service: GrammarService) -> None:
    matcher = service.compile(Constraint.json_schema({"type": "string"})).matcher()
    for byte in b'"a':
        filled(matcher)
        assert matcher.accept(byte)
    known = len(matcher.grammar.vocabulary.masks)
    for byte in b"some longer text":
        filled(matcher)
        assert matcher.accept(byte)
    assert len(matcher.grammar.vocabulary.masks) == known


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    row = np.zeros(8, dtype=np.int32)
    each = row.nbytes + OVERHEAD_BYTES
    cache = MaskCache(limit_bytes=3 * each)
    places = range(5)
    for number, place in enumerate(places):
        row[0] = number
        cache.put(place, row)
        assert cache.get(places[0]) is not None
    assert cache.nbytes == 3 * each
    assert [cache.get(place) is not None for place in places] == [True, False, False, True, True]
    assert cache.get(places[4]).bits[0] == 4  # type: ignore[union-attr]
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_what_masks_are_kept_for_counts_too() -> None:
    row = np.zeros(8, dtype=np.int32)
    cache = MaskCache(limit_bytes=100_000)
    for number in range(100):
        cache.put((number, frozenset(f"{number} {value}" for value in range(100)), b"x" * 5_000), row)
    assert 1 < len(cache) < 20
    assert cache.nbytes <= 100_000
