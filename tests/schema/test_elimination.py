"""Circles of states as one expression: the same language as the rules, and no circle left for XGrammar to recompile."""

from __future__ import annotations

import random

import pytest

from engine.schema.automaton import Automaton
from engine.schema.elimination import STATES, character_class, expression
from engine.schema.formats import from_format
from engine.schema.grammar import Grammar, Rule, Text, chars
from engine.schema.loose import loosened
from engine.schema.pattern import from_pattern
from engine.schema.text import TextRules
from tests.schema.matching import Language

FOLLOW = chars(",}")
CIRCLES = [
    "foo", "a.*b|\\\\", '^("[^"]*",)*$', "^([\\]^\\-/.*+?(){}|$[]+x+)*$", "[\\x00-\\x1f]{2}", "^(é+[^日]|😀)+$",
    "^(a|b.)*c$", "^([\\x7f\\x80-\\u{10FFFF}]+[ -~])+$", "^x(-[a-f]{1,3})+$",
]  # fmt: skip
LETTERS = 'fobac\\"^]-/.*,x\x00\x1f\x7f\né日😀\u2028\U0010ffff'


def document(automaton: Automaton) -> Grammar:
    rules: dict[str, Rule] = {}
    value = TextRules(rules).string(automaton, FOLLOW)
    rules["root"] = Rule("root", ((Text('["'), value, Text(",0]")),))
    return Grammar(rules)


@pytest.mark.parametrize("pattern", CIRCLES)
def test_an_expression_derives_what_its_rules_derive(pattern: str) -> None:
    automaton = from_pattern(pattern)
    grammar = document(automaton)
    assert loosened(automaton) is not automaton or any(rule.expression for rule in grammar.rules.values())
    plain = Grammar({name: Rule(name, rule.alternatives, rule.lookahead) for name, rule in grammar.rules.items()})
    printed, written_out = Language(grammar), Language(plain)
    generator = random.Random(pattern)
    for _ in range(300):
        word = "".join(generator.choices(LETTERS, k=generator.randint(0, 7)))
        assert printed.accepts([word, 0]) == written_out.accepts([word, 0]) == automaton.accepts(word), word


def printed_rules(grammar: Grammar) -> dict[str, set[str]]:
    """Names of the printed rules and what each refers to, itself left out."""
    names = [line.split(" ::= ")[0] for line in grammar.to_ebnf().split("\n")]
    return {name: set(grammar.rules[name].printed_references) - {name} for name in names}


@pytest.mark.parametrize("source", [*CIRCLES, "uri", "uri-reference", "iri", "json-pointer", "uri-template"])
def test_no_printed_rules_refer_to_each_other_in_a_circle(source: str) -> None:
    """XGrammar would compile them anew in every grammar."""
    successors = printed_rules(document(from_format(source) or from_pattern(source)))
    settled: set[str] = set()
    while len(settled) < len(successors):
        ready = {name for name in successors if name not in settled and successors[name] <= settled}
        assert ready
        settled |= ready


def test_large_automata_keep_their_rules() -> None:
    long = from_pattern("x" * STATES + "y")
    assert expression(long, 0, lambda spans: [character_class(spans)], "") is None
    assert any(len(rule.alternatives) > 1 for rule in document(long).rules.values())


@pytest.mark.parametrize(
    "members", ["]", "^", "-", "\\", "]^-\\", "[&&]", "\x00\x1f", "\x7f", "é日", "/", "a", "|()*+?.{}$"]
)
def test_classes_hold_exactly_their_members(members: str) -> None:
    symbol = chars(members)
    rule = Rule("root", ((symbol,),), None, character_class(symbol.ranges))
    language = Language(Grammar({"root": rule}))
    for letter in members + "b0~é本\x01":
        assert language.accepts_text(letter) == (letter in members), letter
