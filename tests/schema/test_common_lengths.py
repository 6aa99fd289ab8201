"""After the common lengths have been learnt, an unseen schema with lengths brings hardly a string rule of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from engine.schema.common import chains, lengths
from engine.schema.lower import lower


@cache
def learnt() -> frozenset[str]:
    return frozenset(line for grammar in (*lengths(), *chains()) for line in grammar.to_ebnf().split("\n"))


@pytest.mark.parametrize(
    ("bounds", "own"),
    [
        ({"minLength": 1, "maxLength": 50}, 0),
        ({"minLength": 1, "maxLength": 128}, 0),
        ({"maxLength": 77}, 0),
        ({"minLength": 7}, 0),
        ({"minLength": 3, "maxLength": 40}, 2),
    ],
)
def test_the_rules_of_a_length_are_known(bounds: dict[str, Any], own: int) -> None:
    schema = {"type": "object", "properties": {"unseen": {"type": "string", **bounds}}, "required": ["unseen"]}
    lines = set(lower(schema).grammar.to_ebnf().split("\n")) - learnt()
    assert len([line for line in lines if "\\U0010ffff" in line]) == own


@pytest.mark.parametrize(
    "strings",
    [
        {"pattern": "^[a-zA-Z0-9_-]{1,255}$"},
        {"pattern": "^.*$", "maxLength": 60},
        {"pattern": "^[a-z0-9-]*$", "minLength": 3, "maxLength": 63},
        {"pattern": r"^\d+\.\d+.*$", "maxLength": 32},
    ],
)
def test_a_counted_set_of_characters_brings_few_rules(strings: dict[str, Any]) -> None:
    item = {"type": "array", "items": {"type": "string", **strings}}
    lines = lower(item, conformance="spec").grammar.to_ebnf().split("\n")
    counted = [line for line in lines if line.startswith("s") and ("a-z" in line or "\\U0010ffff" in line)]
    assert len(counted) >= 28
    assert len([line for line in counted if line not in learnt()]) <= 4
