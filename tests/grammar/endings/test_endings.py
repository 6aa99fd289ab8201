"""Shortest endings: exact against brute force, legal from anywhere, cheap while not needed."""

# ruff: noqa: E501 - a schema a line reads best
from __future__ import annotations

import itertools
import json
import random
from collections import deque
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.grammar import GrammarService, Matcher
from engine.grammar.endings.completion_table import CompletionTable
from engine.grammar.endings.least_text import least_text
from engine.grammar.masks.bitmask import draw, from_ids, to_bools, words
from engine.grammar.pieces import at_once
from engine.grammar.pushdown.byte_grammar import Symbols
from engine.grammar.vocabulary.shortest_tokenization import NEVER, Segmenter
from engine.request import Constraint
from engine.schema.reading.validator import Validator
from engine.schema.rules.grammar import Grammar, Ref, Rule, Text, chars

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 3}, "b": {"enum": ["abc", "zzzz"]}}, "required": ["a", "b"]},
    {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}, "minItems": 2}]}, "minItems": 1},
    {"$defs": {"n": {"type": "object", "properties": {"v": {"type": "number"}, "n": {"$ref": "#/$defs/n"}}, "required": ["v"]}}, "$ref": "#/$defs/n"},
    {"type": "string", "pattern": "^[0-9]{4}-[a-z]+$"},
    {"type": ["boolean", "null"]},
]  # fmt: skip


def legal(m: Matcher) -> list[int]:
    size = m.grammar.vocabulary.size
    row = np.zeros((1, words(size)), dtype=np.int32)
    m.fill(row, 0)
    return [int(i) for i in np.flatnonzero(to_bools(row[0], size))]


def brute_force(m: Matcher, limit: int) -> int | None:
    """Breadth first over tokens: the true number of tokens to the end."""
    queue = deque([(m.fork(), 0)])
    while queue:
        state, used = queue.popleft()
        if state.terminated:
            return used
        if used < limit:
            for token in legal(state):
                fork = state.fork()
                assert fork.accept(token)
                queue.append((fork, used + 1))
    return None


@pytest.mark.parametrize(
    ("constraint", "prefix"),
    [
        (Constraint.choice(["yes", "no", "aaaab"]), ""),
        (Constraint.choice(["aaaaaa", "ab00", "bbb"]), ""),
        (Constraint.regex("[ab]{4,9}c"), "b"),
        (Constraint.regex("(abab|00)00"), ""),
        (Constraint.json_schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}), ""),
        (Constraint.json_schema({"type": "array", "items": {"type": "null"}, "minItems": 1}), "["),
    ],
)
def test_the_ending_is_the_shortest_there_is(byte_service: GrammarService, constraint: Constraint, prefix: str) -> None:
    m = byte_service.compile(constraint).matcher()
    assert all(m.accept(byte) for byte in prefix.encode())
    need = m.need()
    assert need <= 7
    assert brute_force(m, need - 1) is None
    assert brute_force(m, need) == need


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:40])
def test_every_state_of_a_random_walk_can_be_ended_within_its_need(byte_service: GrammarService, schema: dict) -> None:
    grammar = byte_service.compile(Constraint.json_schema(schema))
    validator = Validator(schema)
    draw = random.Random(7)
    for _ in range(6):
        m = grammar.matcher()
        for _ in range(40):
            m.accept(draw.choice(legal(m)))
            if m.terminated:
                break
            assert m.fits(m.need())
            ending = m.ending(m.need())
            assert ending is not None
            assert not m.fits(len(ending) - 1)
            assert m.ending(len(ending) - 1) is None
            fork = m.fork()
            assert all(fork.accept(token) for token in ending)
            assert fork.terminated
            text = b"".join(byte_service.vocabulary.texts[t] or b"" for t in fork.token_ids)
            assert validator.check(text).ok, text


def test_the_followed_place_and_the_matcher_agree_about_the_end(byte_service: GrammarService) -> None:
    draw = random.Random(3)
    for schema in SCHEMAS:
        m = byte_service.compile(Constraint.json_schema(schema)).matcher()
        for _ in range(60):
            assert m._track is not None
            assert m._track.alive
            assert m._track.at.place.completed == m.completed
            m.accept(draw.choice(legal(m)))
            if m.terminated:
                break


def test_rollback_brings_back_the_need(byte_service: GrammarService) -> None:
    m = byte_service.compile(Constraint.json_schema(SCHEMAS[0])).matcher()
    needs = [m.need()]
    for byte in b'{"a":"xyz\\n","b":"z':
        assert m.accept(byte)
        needs.append(m.need())
    for steps in (1, 3, 5):
        m.rollback(steps)
        needs = needs[:-steps]
        assert m.need() == needs[-1]


def test_a_text_the_vocabulary_cannot_write_has_no_ending() -> None:
    segmenter = Segmenter.of({b"a": 0, b"ab": 1})
    rules = {
        "root": Rule("root", ((Text("a"), Ref("x")), (Text("c"),))),
        "x": Rule("x", ((chars("bc"),), (Text("a"), Ref("x")))),
    }
    completions = CompletionTable(Grammar(rules), segmenter, 9)
    assert completions.pushdown.start.tokens == NEVER
    assert at_once(completions.ending(completions.start)) is None


def test_endless_and_doubling_rules_cost_nothing() -> None:
    segmenter = Segmenter.of({b"a": 0})
    endless = Grammar({"root": Rule("root", ((Text("a"), Ref("root")),))})
    assert not CompletionTable(endless, segmenter, 9).productive
    doubling = {f"r{i}": Rule(f"r{i}", ((Ref(f"r{i + 1}"), Ref(f"r{i + 1}")),)) for i in range(60)}
    doubling["r60"] = Rule("r60", ((Text("a"),),))
    completions = CompletionTable(Grammar(doubling, "r0"), segmenter, 9)
    assert completions.productive
    assert completions.pushdown.start.tokens == NEVER
    assert at_once(completions.ending(completions.start)) is None


@given(
    st.lists(st.sampled_from([b"a", b"ab", b"abc", b"b", b"ca"]), min_size=1, max_size=6), st.text("abc", max_size=9)
)
@settings(max_examples=60, deadline=None)
def test_cutting_is_minimal(vocabulary: list[bytes], text: str) -> None:
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    data = text.encode()
    best = next(
        (n for n in range(len(data) + 1) for parts in itertools.product(ids, repeat=n) if b"".join(parts) == data), None
    )
    cut = Segmenter.of(ids).cut(data)
    assert (None if cut is None else len(cut)) == best
    if cut is not None:
        assert b"".join(list(ids)[i] for i in cut) == data


def test_minimal_derivations_prefer_fewer_tokens_over_fewer_bytes() -> None:
    segmenter = Segmenter.of({b"x": 0, b"y": 1, b"long": 2})
    rules = {"root": Rule("root", ((Text("xy"),), (Text("long"),)))}
    assert Symbols(Grammar(rules), segmenter).root.tokens == 1


@pytest.mark.parametrize("ids", [[0], [31], [63, 64, 65], [5, 40, 95], list(range(96))])
def test_a_draw_is_always_a_set_bit_and_reaches_every_one(ids: list[int]) -> None:
    row, chance = from_ids(ids, 96), random.Random(1)
    assert {draw(row, chance) for _ in range(1_500)} == set(ids)


ONE_OF_TWO = {
    "type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True, "contains": {"required": ["k"]},
    "items": {"type": "object", "properties": {"k": {"type": "integer", "minimum": 0, "maximum": 1}}, "required": ["k"], "additionalProperties": False},
}  # fmt: skip


@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_an_ending_after_going_back_begins_with_no_banned_token_and_passes(
    conformance: Literal["tight", "spec"], byte_service: GrammarService
) -> None:
    m = byte_service.compile(Constraint.json_schema(ONE_OF_TWO, conformance=conformance)).matcher()
    taken = None
    for token in m.grammar.vocabulary.segmenter.cut(b'[{"k":0},{"k":0},{"k":1}]') or ():
        assert m.accept(token)
        taken = taken or m.retreat()
        if taken:
            break
    assert taken, "the same object twice: back to where the array went wrong"
    assert m.restricted
    ending = m.ending(40)
    assert ending is not None
    assert not m.bans(ending[0])
    assert Validator(ONE_OF_TWO).check(m.text([*m.token_ids, *ending])).ok, "such an ending was there"
    assert all(m.accept(token) for token in ending)
    assert m.terminated


@pytest.mark.parametrize(("constraint", "written"), [
    (Constraint.choice(["yes", "no", "yellow"]), ""),
    (Constraint.choice(["yes", "no", "yellow"]), "ye"),
    (Constraint.regex("a*[0-9]{3}"), "aa"),
    (Constraint.regex("[a-c]?d"), "a"),
    (Constraint.json_schema({"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 1}), "[1"),
    (Constraint.lark('start: "x" /[0-9]+/ "y"'), "x1"),
])  # fmt: skip
def test_whatever_is_banned_there_is_an_ending_wherever_there_was_one(
    constraint: Constraint, written: str, byte_service: GrammarService
) -> None:
    """Bans are taken one after another until nothing legal is left: other endings first, at last a banned one."""
    m = byte_service.compile(constraint).matcher()
    for token in m.grammar.vocabulary.segmenter.cut(written.encode()) or ():
        assert m.accept(token)
    while True:
        fork, free = m.fork(), set(legal(m))
        ending = fork.ending(30)
        assert ending is not None
        assert not free or ending[0] in free
        assert all(fork.accept(token) for token in ending)
        assert fork.terminated
        if not free:
            return
        m.ban(from_ids([ending[0]], m.grammar.vocabulary.size))


RUNAWAY = {"type": "object", "properties": {"a": {"enum": ["a", 2]}}, "additionalProperties": {"enum": ["a", 2]}, "minProperties": 3,
           "if": {"properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
           "then": {"required": ["b", "a"], "maxProperties": 1}, "else": {"required": ["z"]}}  # fmt: skip


def test_an_ending_writes_no_members_without_end(byte_service: GrammarService) -> None:
    """Some member must be none of `if`: it is written, however cheap the others are."""
    grammar = byte_service.compile(Constraint.json_schema(RUNAWAY))
    assert grammar.completions is not None
    matcher = grammar.matcher()
    assert matcher.accept(ord("{"))
    assert matcher._track is not None
    at = matcher._track.at
    written = [at_once(least_text(stack, at.cursor)) for stack in at.place.stacks]
    assert all(text is not None and Validator(RUNAWAY).check(b"{" + text).ok for text in written)
