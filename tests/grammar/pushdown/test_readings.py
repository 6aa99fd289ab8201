"""Texts of many readings: a byte that begins very many is refused by the rules, readings that grow close the text."""

from __future__ import annotations

import json
import time
from contextlib import closing
from copy import copy
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.errors import LimitExceeded
from engine.grammar import GrammarService
from engine.grammar.matching.readings import Readings
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

ROOM = 1 << 20
JSON = r"""root ::= value
value ::= "{" ws (text ":" ws value ("," ws text ":" ws value)*)? "}" ws | "[" ws (value ("," ws value)*)? "]" ws
    | text | [0-9]+ ws | ("true" | "false" | "null") ws
text ::= "\"" ([^"\\] | "\\" ["\\/bfnrt])* "\"" ws
ws ::= ([ \n] ws)?"""


@pytest.mark.parametrize("grammar", [
    'root ::= ("a" | "aa"){0,100} ("a"*){100}', 'root ::= ("a"* "b"?){100}', 'root ::= x x x x\nx ::= "a" x | ""',
    'root ::= root root | "a"', "root ::= ws ws ws\nws ::= [ab]*",
])  # fmt: skip
def test_a_text_of_ever_more_readings_is_closed(grammar: str, byte_service: GrammarService) -> None:
    matcher = byte_service.compile(Constraint.ebnf(grammar)).matcher()
    while matcher.fits(ROOM):
        assert matcher.tokens < 3_000
        assert matcher.accept(ord("a"), legal=True)
    matcher.rollback(1)
    assert matcher.ending(ROOM) == (byte_service.vocabulary.stop_token_ids[0],)


def test_a_long_text_of_few_readings_goes_on(byte_service: GrammarService) -> None:
    """Though white space can be read in two ways behind each bracket."""
    matcher = byte_service.compile(Constraint.ebnf(JSON)).matcher()
    text = json.dumps([{"name": f"number {n}", "values": [n, True, {}]} for n in range(150)], indent=2)
    for byte in text.encode():
        assert matcher.accept(byte, legal=True)
        assert matcher.fits(ROOM)
    assert matcher.completed


class Bytes:
    """A matcher that takes so long for each byte, and refuses a `!`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.taken = seconds, list[bytes]()

    def accept_string(self, text: bytes) -> bool:
        spend(self.seconds * len(text))
        if b"!" in text:
            return False
        self.taken.append(text)
        return True

    def rollback(self, steps: int) -> None:
        del self.taken[len(self.taken) - steps :]

    fork = copy


@pytest.mark.parametrize(("text", "taken"), [(b"a" * 64, True), (b"a" * 63 + b"!", False)])
def test_a_long_token_is_taken_whole_or_not_at_all_and_taken_back(text: bytes, taken: bool) -> None:
    readings, matcher = Readings(), Bytes(0)
    assert readings.take(matcher, lambda: readings.read(matcher, b"short"), 5)
    assert readings.take(matcher, lambda: readings.read(matcher, text), len(text)) == taken
    assert b"".join(matcher.taken) == b"short" + text * taken
    assert not readings.too_many
    other = readings.fork()
    for one in (readings, other):
        again = copy(matcher)
        again.taken = list(matcher.taken)
        again.rollback(one.back(1 + taken))
        assert again.taken == []


def test_a_long_token_that_takes_too_long_is_not_read_to_its_end() -> None:
    readings, matcher = Readings(), Bytes(0.002)
    started = time.thread_time()
    assert not readings.take(matcher, lambda: readings.read(matcher, b"a" * 640), 640)
    assert time.thread_time() - started < 0.1  # to its end it takes more than a second
    assert readings.too_many
    assert not matcher.taken
    assert readings.take(matcher, lambda: readings.read(matcher, b"the end of a text"), 17)


def test_a_text_is_closed_before_a_token_that_takes_too_long(tmp_path: Path) -> None:
    """Blanks that can be read in very many ways, 64 in a token."""
    blanks = 258
    service = GrammarService(byte_tokenizer([b" " * 64]), blanks + 1, config=EngineConfig(cache_dir=tmp_path))
    with closing(service):
        matcher = service.compile(Constraint.ebnf('root ::= ("a" | " " | "  " | "   "){0,300} (" "*){60}')).matcher()
        started = time.thread_time()
        while matcher.accept(blanks, legal=True) and matcher.fits(ROOM):
            assert matcher.tokens < 40
        assert time.thread_time() - started < 2
        assert not matcher.fits(ROOM)
        assert isinstance(matcher.fail(token_id=blanks), LimitExceeded)


class Slow:
    """A matcher that takes long to copy so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def fork(self) -> None:
        self.times -= 1
        spend(0.005 if self.times >= 0 else 0)


def spend(seconds: float) -> bool:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return True


def test_one_slow_token_or_copy_is_not_the_fault_of_the_text() -> None:
    readings = Readings()
    for slow in (0.015, 0, 0.015):
        readings.take(Slow(1), lambda slow=slow: spend(slow), 1)
        assert not readings.too_many
    readings.take(Slow(1), lambda: spend(0.015), 1)
    assert readings.too_many
    readings = Readings()
    readings.take(Slow(2), lambda: spend(0.012), 1)
    assert readings.too_many


CROWDED = [
    "root ::= " + " | ".join(f'[a-z]+ "{n}"' for n in range(1_100)),
    'root ::= [0-9]{30} ("x" | inner)\ninner ::= ' + " | ".join(f'[a-z] "{n}"' for n in range(1_100)),
    "root ::= " + " ".join(f"part{n}?" for n in range(1_100))
    + "".join(f'\npart{n} ::= [a-z] "{n}"' for n in range(1_100)),
]  # fmt: skip
SPARSE = [
    "root ::= " + " | ".join(f'"word{n}"' for n in range(3_000)),
    'root ::= "1" | "2" | root "," root',
    "root ::= " + " | ".join(f'"{chr(0x4E00 + n)}" [a-z]+' for n in range(300)),
]


@pytest.mark.parametrize("grammar", CROWDED)
def test_a_byte_that_begins_very_many_readings_is_refused(grammar: str, byte_service: GrammarService) -> None:
    with pytest.raises(LimitExceeded, match="alternatives can begin with the same byte"):
        byte_service.compile(Constraint.ebnf(grammar))


@pytest.mark.parametrize("grammar", SPARSE)
def test_words_however_many_and_rules_that_begin_with_themselves_are_not(
    grammar: str, byte_service: GrammarService
) -> None:
    assert byte_service.compile(Constraint.ebnf(grammar)).min_tokens


def test_nor_are_members_of_json(byte_service: GrammarService) -> None:
    schema = {"properties": {f"key{n}": {"type": "integer"} for n in range(1_200)}}
    assert byte_service.compile(Constraint.lark(f"start: %json {json.dumps(schema)}")).min_tokens


def test_nor_are_keys_of_bounded_length_each_of_whose_characters_is_asked_for(byte_service: GrammarService) -> None:
    constraint = Constraint.lark(f"start: %json {json.dumps({'propertyNames': {'maxLength': 2}})}")
    assert byte_service.compile(constraint).accepts(rb'{"\u0061\n":1,"\"":2,"":3}')
    assert not byte_service.compile(constraint).accepts(rb'{"\u0061":1,"a":2}')
