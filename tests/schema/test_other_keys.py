"""Undeclared keys: everything but the names, whatever the names share."""

from __future__ import annotations

import json
import random

import pytest

from engine.schema.grammar import Grammar, Ref, Rule, Text, chars
from engine.schema.key_exits import PLAIN, Site, exits
from engine.schema.other_keys import other_key, shortest_other
from engine.schema.shortest import Shortest
from engine.schema.text import TextRules
from tests.schema.matching import Language

SITE = Site("s", chars(":"))
NAMES = [
    ["a", "ab", "abc", "b"], ["", "x"], ['"', "\\", "\n", "a\x01"], ["é", "éa", "日", "\U0001f600", "~é"],
    ["name", "names", "note", "no"], [*"abcxyz"], ["\ud800", "a"],
]  # fmt: skip


def _grammar(names: list[str]) -> Grammar:
    rules = {rule.name: rule for rule in other_key(SITE, names)}
    first = next(iter(rules))
    return Grammar({**rules, "root": Rule("root", ((Text("{"), Ref(first), Text(":0}")),))})


@pytest.mark.parametrize("names", NAMES)
def test_a_key_is_taken_if_and_only_if_it_is_none_of_the_names(names: list[str]) -> None:
    language = Language(_grammar(names))
    generator = random.Random(repr(names))
    letters = sorted({letter for name in names for letter in name if not "\ud800" <= letter <= "\udfff"} | set('aX"\n'))
    words = ["".join(generator.choices(letters, k=generator.randint(0, 5))) for _ in range(200)]
    for word in [*words, *(name for name in names if name.isprintable()), "é~", "\x7f"]:
        assert language.accepts({word: 0}) == (word not in names), word


@pytest.mark.parametrize("names", NAMES)
def test_its_shortest_text_is_one(names: list[str]) -> None:
    found = shortest_other(frozenset(names))
    rules = {rule.name: rule for rule in other_key(SITE, names)}
    assert json.loads(found) not in names
    assert len(found) == len(Shortest(rules)[next(iter(rules))])


def test_no_character_leads_out_twice_or_not_at_all() -> None:
    for gone in ("", "a", "az", "aZ09", '"\n', "é"):
        grammar = Grammar({rule.name: rule for rule in exits(SITE, gone).rules}, "unused")
        roads = tuple((Text('{"'), ref, Text(":0}")) for ref in exits(SITE, gone).refs)
        language = Language(Grammar({**grammar.rules, "root": Rule("root", roads)}))
        for letter in (*PLAIN, '"', "\\", "\n", "\x1f", "é", "日"):
            assert language.accepts({letter: 0}) == (letter not in gone), (gone, letter)


def test_a_free_string_is_one_expression() -> None:
    texts = TextRules({})
    free = texts.rules[texts.plain(chars(":")).name]
    assert free.text.startswith(f"{free.name} ::= Regex(")
    assert len(texts.rules) == 1
