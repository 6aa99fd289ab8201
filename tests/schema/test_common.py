"""The shared rules: what a new schema writes for its undeclared keys is among them, but for its own names."""

from __future__ import annotations

import pytest

from engine.schema import lower
from engine.schema.common import SHAPES, common_grammars
from engine.schema.grammar import Grammar

FREE_WAYS = ("skd", "skc")
"""How the rules begin their names that leave the declared keys for good."""


@pytest.fixture(scope="module")
def grammars() -> list[Grammar]:
    return list(common_grammars())


def test_new_keys_need_no_new_ways_out_of_the_declared_ones(grammars: list[Grammar]) -> None:
    shared = {name for grammar in grammars for name in grammar.rules}
    for names in (["title", "tags", "x"], ["$ref", "@id", "a b", "ZIP-code", "0"], ["é", "~", "!"]):
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        rules = lower(schema, conformance="spec").grammar.rules
        ways = {name for name in rules if name.startswith(FREE_WAYS)}
        assert len(ways) > 8
        assert len(ways & shared) >= 0.8 * len(ways)


def test_the_shapes_are_written_in_both_conformances(grammars: list[Grammar]) -> None:
    assert len(grammars) > 2 * len(SHAPES)
    assert all(grammar.to_ebnf().startswith("root ::=") for grammar in grammars)


def test_what_is_learnt_ahead_is_written_as_grammars_write_it(grammars: list[Grammar]) -> None:
    """A rule learnt in another form is not recognised, and its masks are computed anew in every process."""
    learnt = {name: rule.text for grammar in grammars for name, rule in grammar.rules.items()}
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "zq": {"minLength": 3}}}
    rules = lower(schema, conformance="spec").grammar.rules
    shared = [name for name in rules if name in learnt and name not in ("root", "roads")]
    assert len(shared) > 30
    assert all(rules[name].text == learnt[name] for name in shared)
    assert any(rules[name].expression for name in shared)


def test_letters_that_stand_next_to_each_other_are_known(grammars: list[Grammar]) -> None:
    shared = {name for grammar in grammars for name in grammar.rules}
    rules = lower({"properties": {"zqXkv_jwY": {"type": "null"}}}, conformance="spec").grammar.rules
    pairs = [name for name in rules if name.startswith("skb")]
    assert len(pairs) == len("zqXkv_jwY")
    assert len([name for name in pairs if name not in shared]) <= 1


@pytest.mark.parametrize(
    ("pattern", "own"), [("^qz", 0), ("^.+$", 0), (r"^\S+$", 0), ("^(ab|cd)", 0), ("hidden", 1), ("^[a-z_]+$", 0)]
)
@pytest.mark.parametrize("place", ["value", "key"])
def test_what_follows_a_match_is_known(grammars: list[Grammar], pattern: str, own: int, place: str) -> None:
    learnt = {line for grammar in grammars for line in grammar.to_ebnf().split("\n")}
    value = {"type": "array", "items": {"type": "string", "pattern": pattern}}
    key = {"type": "object", "patternProperties": {pattern: {"type": "string"}}, "additionalProperties": False}
    grammar = lower(value if place == "value" else key, conformance="spec").grammar
    strings = [line for line in grammar.to_ebnf().split("\n") if line.startswith("s")]
    assert any(text in learnt for text in strings)
    wide = [text for text in strings if "\U0010ffff" in text or "U0010ffff" in text or "a-z" in text]
    assert len([text for text in wide if text not in learnt]) == own
