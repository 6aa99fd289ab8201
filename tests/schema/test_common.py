"""The shared rules: what a new schema writes for its undeclared keys is among them, but for its own names."""

from __future__ import annotations

from engine.schema import lower
from engine.schema.common import SHAPES, common_grammars

FREE_WAYS = ("skd", "skc")
"""How the rules begin their names that leave the declared keys for good."""


def test_new_keys_need_no_new_ways_out_of_the_declared_ones() -> None:
    shared = {name for grammar in common_grammars() for name in grammar.rules}
    for names in (["title", "tags", "x"], ["$ref", "@id", "a b", "ZIP-code", "0"], ["é", "~", "!"]):
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        rules = lower(schema, conformance="spec").grammar.rules
        ways = {name for name in rules if name.startswith(FREE_WAYS)}
        assert len(ways) > 8
        assert len(ways & shared) >= 0.8 * len(ways)


def test_the_shapes_are_written_in_both_conformances() -> None:
    grammars = list(common_grammars())
    assert len(grammars) > 2 * len(SHAPES)
    assert all(grammar.to_ebnf().startswith("root ::=") for grammar in grammars)
