"""Rules that grammars share are analysed once, and no grammar takes another's for its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.grammar import GrammarService
from engine.grammar.pushdown.byte_grammar import Nonterminal, Symbols
from engine.grammar.shared.shared_rules import SharedRules
from engine.grammar.shared.table_budget import TableBudget
from engine.grammar.sources.documents import as_document
from engine.schema.lower import lower
from engine.schema.rules.grammar import Grammar, Ref, Text

NAMED = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "size": {"type": "number"}}}
SIZED = {"type": "object", "properties": {"size": {"type": "number"}, "tags": {"type": "array"}}, "required": ["tags"]}


def rules_of(schema: Any) -> Grammar:
    return as_document(lower(schema, conformance="spec").grammar)


def analysed(symbol: Nonterminal) -> tuple[Any, ...]:
    return symbol.tokens, symbol.size, symbol.keys, symbol.spread, symbol.first, symbol.nullable, symbol.asks


def test_a_later_grammar_finds_what_it_would_have_found_alone(byte_service: GrammarService) -> None:
    segmenter, known = byte_service.vocabulary.segmenter, SharedRules()
    for schema in (NAMED, SIZED, True, NAMED):
        grammar = rules_of(schema)
        alone, beside = Symbols(grammar, segmenter), Symbols(grammar, segmenter, known)
        assert list(map(analysed, beside.rules)) == list(map(analysed, alone.rules))
        assert (beside.costs, beside.names, beside.longer, beside.marked) == (
            alone.costs, alone.names, alone.longer, alone.marked,
        )  # fmt: skip


def test_shared_rules_are_the_same_and_where_documents_begin_is_not(byte_service: GrammarService) -> None:
    segmenter, known = byte_service.vocabulary.segmenter, SharedRules()
    first, second = (Symbols(rules_of(schema), segmenter, known) for schema in (NAMED, SIZED))
    shared = {id(rule) for rule in first.rules} & {id(rule) for rule in second.rules}
    assert len(shared) > len(second.rules) / 2
    assert not {id(first.root), *map(id, first.root.alternatives[0])} & shared


def test_a_rule_of_the_same_name_that_says_something_else_is_another(byte_service: GrammarService) -> None:
    segmenter, known = byte_service.vocabulary.segmenter, SharedRules()
    grammar = rules_of({"const": "abc"})
    Symbols(grammar, segmenter, known)
    name = next(name for name, rule in grammar.rules.items() if any(isinstance(p, Text) for p in rule.alternatives[0]))
    other = replace(grammar.rules[name], alternatives=((Text("other"),),), printed=None)
    found = Symbols(Grammar({**grammar.rules, name: other}, grammar.root), segmenter, known)
    assert next(rule for rule in found.rules if rule.name == name).size == len("other")


def test_what_is_known_is_forgotten_where_it_is_too_much(byte_service: GrammarService) -> None:
    segmenter, known = byte_service.vocabulary.segmenter, SharedRules(TableBudget(most_entries=100))
    grammars = [rules_of({"enum": [f"{letter}{number}" for number in range(999)]}) for letter in "abcd"]
    for grammar in grammars:
        assert Symbols(grammar, segmenter, known).root.best is not None
        assert Ref(grammar.root).name not in known.rules
    assert known.entries < 2_200
