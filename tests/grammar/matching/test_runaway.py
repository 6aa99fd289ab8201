"""Values that never end are closed at their guard; what is within the guards is left alone, whatever is taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, Limits
from engine.grammar import GrammarService, Matcher
from engine.request import Constraint
from engine.schema.automata.automaton import Automaton
from tests.grammar.fakes import byte_tokenizer
from tests.schema.number_sets import integers, numbers

LIMITS = Limits(string_chars=20, number_chars=6, array_items=4)
FREE: dict[str, Any] = {"type": "object", "additionalProperties": True}
PLENTY = 10_000


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    service = GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=folder, limits=LIMITS))
    yield service
    service.close()


def written(service: GrammarService, text: str, schema: dict[str, Any]) -> tuple[int, Any]:
    """How many bytes of `text` were kept, and the document that the ending then makes of them."""
    matcher = service.compile(Constraint.json_schema(schema)).matcher()
    for count, byte in enumerate(text.encode()):
        assert matcher.accept(byte)
        if not matcher.fits(PLENTY):
            matcher.rollback(1)
            ending = matcher.ending(PLENTY)
            assert ending is not None
            assert all(matcher.accept(token) for token in ending)
            return count, json.loads(bytes(token for token in matcher.token_ids if token < 256))
    return len(text.encode()), None


@pytest.mark.parametrize(
    ("endless", "kept"),
    [
        ('{"a":"' + "x" * 30, 6 + 20),
        ('{"a":"' + "é" * 30, 6 + 40),
        ('{"a":"' + '\\"' * 30, 6 + 40),
        ('{"a":' + "1" * 30, 5 + 6),
        ('{"a":[' + "1," * 30, 6 + 7),
        ('{"a":[{"b":[1,2],"c":3},[],"x,y,z,1,2,3",' + "1," * 30, 41 + 1),
        ('{"abcdefghijklmnopqrstuvwxyz', 2 + 20),
    ],
)
def test_what_outgrows_its_guard_is_closed_there(guarded: GrammarService, endless: str, kept: int) -> None:
    count, value = written(guarded, endless, FREE)
    assert count == kept
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"' + "x" * 20 + '","b":"12345678901234567890"}',
        '{"a":[1,2,3,4],"b":[1,2,3,4],"c":{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}}',
        '{"a":[[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4]]}',
        '{"a":123456,"b":-12345,"c":1.2e33}',
    ],
)
def test_what_is_within_the_guards_is_left_alone(guarded: GrammarService, text: str) -> None:
    assert written(guarded, text, FREE) == (len(text), None)


def matcher_behind(service: GrammarService, text: str) -> Matcher:
    matcher = service.compile(Constraint.json_schema(FREE)).matcher()
    for byte in text.encode():
        assert matcher.accept(byte)
    return matcher


def test_taking_tokens_back_and_forking_keep_the_count(guarded: GrammarService) -> None:
    matcher = matcher_behind(guarded, '{"a":"' + "x" * 21 + '","b":1')
    matcher.rollback(len('","b":1'))
    assert not matcher.fits(PLENTY)
    fork = matcher.fork()
    matcher.rollback(1)
    assert matcher.fits(PLENTY)
    assert not fork.fits(PLENTY)
    assert matcher.accept(ord("y"))
    assert not matcher.fits(PLENTY)


def test_a_number_within_a_string_is_text(guarded: GrammarService) -> None:
    assert matcher_behind(guarded, '{"a":["' + "12" * 10).fits(PLENTY)
    assert matcher_behind(guarded, '{"a":["' + "12" * 10 + '",123456').fits(PLENTY)
    assert not matcher_behind(guarded, '{"a":["' + "12" * 10 + '",1234567').fits(PLENTY)


def test_no_number_that_lowering_writes_outgrows_the_guard() -> None:
    """Such a guard would close documents that the schema allows."""
    plain = (numbers(), integers(), integers(integral_fractions=True))
    for automaton in (*plain, numbers(minimum=-1), numbers(multiple_of=0.25)):
        assert longest_word(automaton) <= Limits().number_chars


def longest_word(automaton: Automaton) -> int:
    """Characters of its longest word; the automaton has no circle, else this recurs for ever."""

    @cache
    def from_state(state: int) -> int:
        return max((1 + from_state(target) for _, target in automaton.moves(state)), default=0)

    return from_state(0)
