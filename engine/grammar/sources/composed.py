"""Grammars around our own: a Lark grammar or structural tag whose JSON Schemas have been lowered (`schema.embed`).

XGrammar compiles the whole. The rule form, from which endings and forced text come, is put together here: XGrammar
prints the outside with a mark for each schema, and the marks are replaced by the rules that lowering wrote, since what
it prints of those cannot always be read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Any

import xgrammar as xgr

from engine.grammar.sources.documents import as_document
from engine.grammar.sources.ebnf_reader import NotReadable, read
from engine.grammar.sources.one_reading import has_one_reading, in_outline
from engine.grammar.sources.recipe import Recipe
from engine.grammar.sources.regex_parts import plain_in_lark, plain_in_tag
from engine.schema.embed import Embedded, Part
from engine.schema.rules.grammar import Grammar, Ref, Rule, Sequence, Text

_MOST_DYNAMIC = 128
"""More schemas may begin alike, and their masks then take too long for a step; as many as one schema's alternatives."""


@dataclass(frozen=True, slots=True)
class Composed:
    """What makes the masks, and the rule form, None without one."""

    recipe: Recipe
    rules: Callable[[], Grammar | None]


def composed_lark(embedded: Embedded, info: xgr.TokenizerInfo) -> Composed:
    """Raises RuntimeError where XGrammar cannot read the grammar.

    Masks are made when a document first comes to them where the outside is read in one way; several readings of JSON at
    once take some masks seconds, which no step can wait for.
    """
    source = plain_in_lark(embedded.source)
    real = {name: part.to_ebnf() for name, part in embedded.grammars.items()}
    if not embedded.parts:
        return Composed(Recipe("lark", source, real, dynamic=False), lambda: None)
    marks = {name: xgr.Grammar.from_ebnf(_marked(number)) for number, name in enumerate(embedded.grammars)}
    outside = _read(xgr.Grammar.from_lark(source, tokenizer_info=info, named_grammars=marks))
    dynamic = outside is not None and has_one_reading(_outlined(outside, embedded))
    return Composed(Recipe("lark", source, real, dynamic=dynamic), lambda: _rules(outside, embedded))


def composed_tag(embedded: Embedded) -> Composed:
    """The same for a tag, whose schemas are formats `{"type": "grammar", "grammar": NAME}` in `source`."""
    numbers = {name: number for number, name in enumerate(embedded.grammars)}
    marked = plain_in_tag(_with_grammars(embedded.source, {name: _marked(number) for name, number in numbers.items()}))
    written = {_marked(numbers[name]): part.to_ebnf() for name, part in embedded.grammars.items()}

    def rules() -> Grammar | None:
        return _rules(_read(xgr.Grammar.from_structural_tag(marked)), embedded)

    text = json.dumps(_with_grammars(marked, written))
    dynamic = len(embedded.parts) <= _MOST_DYNAMIC and not _has_own(embedded.source, numbers.keys())
    return Composed(Recipe("structural_tag", text, dynamic=dynamic), rules)


def _has_own(part: Any, ours: Set[str]) -> bool:
    """Whether it holds a grammar of the caller's own."""
    if isinstance(part, list):
        return any(_has_own(item, ours) for item in part)
    if not isinstance(part, dict):
        return False
    own = part.get("type") == "grammar" and part.get("grammar") not in ours
    return own or any(_has_own(value, ours) for value in part.values())


def _with_grammars(part: Any, texts: dict[str, str]) -> Any:
    """A copy of a tag with other texts in its grammar formats."""
    if isinstance(part, list):
        return [_with_grammars(item, texts) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "grammar" and part.get("grammar") in texts:
        return {**part, "grammar": texts[part["grammar"]]}
    return {key: _with_grammars(value, texts) for key, value in part.items()}


def _mark(number: int) -> str:
    """A text of private-use characters in which no other mark stands."""
    return f"\U000f0000{number}\U000f0001"


def _marked(number: int) -> str:
    return f'root ::= "{_mark(number)}"'


def _read(outside: xgr.Grammar) -> Grammar | None:
    try:
        return read(str(outside))
    except NotReadable:
        return None


def _outlined(outside: Grammar, embedded: Embedded) -> Grammar:
    """With the outline of each document in place of its mark."""
    outlines = [in_outline(part, _mark(number)) for number, part in enumerate(embedded.grammars.values())]
    marks = {rule.name: Ref(rule.name) for rule, _ in outlines}
    rules = {name: _unmarked(rule, marks) for name, rule in outside.rules.items()}
    return Grammar({**rules, **{rule.name: rule for pair in outlines for rule in pair}}, outside.root)


def _rules(whole: Grammar | None, embedded: Embedded) -> Grammar | None:
    if whole is None:
        return None
    placed = [
        _placed(grammar, number, part)
        for number, (part, grammar) in enumerate(zip(embedded.parts, embedded.grammars.values(), strict=True))
    ]
    marks = {_mark(number): Ref(grammar.root) for number, grammar in enumerate(placed)}
    rules = {name: _unmarked(rule, marks) for name, rule in whole.rules.items()}
    for grammar in placed:
        rules.update(grammar.rules)
    return Grammar(rules, whole.root)


def _placed(grammar: Grammar, number: int, part: Part) -> Grammar:
    """The same grammar under names that no other one has; a JSON document with a mark at its end."""
    prefix = f"{part.style}.{number}."
    rules = {
        prefix + rule.name: replace(
            rule,
            name=prefix + rule.name,
            printed=None,
            alternatives=tuple(_prefixed(way, prefix) for way in rule.alternatives),
            least=None if rule.least is None else _prefixed(rule.least, prefix),
            skeleton=None if rule.skeleton is None else prefix + rule.skeleton,
        )
        for rule in grammar.rules.values()
    }
    placed = Grammar(rules, prefix + grammar.root)
    return as_document(placed, prefix) if part.style == "json" else placed


def _prefixed(way: Sequence, prefix: str) -> Sequence:
    return tuple(Ref(prefix + symbol.name) if isinstance(symbol, Ref) else symbol for symbol in way)


def _unmarked(rule: Rule, marks: dict[str, Ref]) -> Rule:
    ways = tuple(
        tuple(marks.get(symbol.text, symbol) if isinstance(symbol, Text) else symbol for symbol in way)
        for way in rule.alternatives
    )
    return Rule(rule.name, ways, rule.lookahead)
