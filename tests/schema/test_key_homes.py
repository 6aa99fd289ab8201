"""Keys of one set of characters beside declared names."""

from __future__ import annotations

import random
import re

import pytest

from engine.schema.automaton import Automaton
from engine.schema.grammar import Ref, Text, chars
from engine.schema.key_homes import HomeRules, home_of
from engine.schema.lower import lower
from engine.schema.pattern import from_pattern
from engine.schema.text import TextRules
from tests.schema.matching import Language

NAMES = ["config", "control", "cut", "a1"]


@pytest.mark.parametrize("pattern", ["^[a-zA-Z0-9_]*$", "^[a-z]([a-z0-9_.-]*)$", "^[^ ]+$", "^[!-~é日\\n]*$"])
def test_a_key_is_taken_if_and_only_if_it_matches_and_is_none_of_the_names(pattern: str) -> None:
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in NAMES},
        "patternProperties": {pattern: {}},
        "additionalProperties": False,
    }
    language = Language(lower(schema, conformance="spec").grammar)
    generator = random.Random(pattern)
    words = ["".join(generator.choices('acfgintou1_é日"\\\n ', k=generator.randint(0, 6))) for _ in range(120)]
    for word in [*words, *(name[:size] for name in NAMES for size in range(len(name))), "configs", "a12", "\x01", "😀"]:
        legal = bool(re.search(pattern.replace("$", r"\Z"), word)) and word not in NAMES
        assert language.accepts({word: 0}) == legal, word
    assert all(language.accepts({name: "x"}) and not language.accepts({name: 0}) for name in NAMES)


def test_a_home_is_worth_its_rules_only_behind_several_prefixes() -> None:
    words = Automaton.of(NAMES)
    assert home_of(from_pattern("^[a-z0-9]*$") - words) is not None
    assert home_of(from_pattern("^[a-z0-9]*$")) is None
    assert home_of(from_pattern("^[0-9]*$") - Automaton.of(["12", "345"])) is None
    assert home_of(from_pattern("^([a-z0-9]{2})*$") - words) is None


def test_prefixes_do_not_hold_the_set_once_more() -> None:
    names = from_pattern("^[a-z0-9]*$") - Automaton.of(["config", "cut"])
    texts = TextRules({})
    home = home_of(names)
    assert home is not None
    HomeRules(texts, names, home, chars(":")).write()
    prefixes = [rule for name, rule in texts.rules.items() if name.startswith("skh")]
    assert len(prefixes) == names.states - 1
    assert all(isinstance(symbol, Text | Ref) for rule in prefixes for way in rule.alternatives for symbol in way)
    assert len([name for name in texts.rules if name.startswith("skw")]) < 50
