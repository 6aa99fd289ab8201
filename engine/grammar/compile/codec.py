"""A compiled grammar as bytes: what the disk cache keeps and what a compile worker sends back.

Verdicts, the rules that lowering wrote, and the recipe: whoever reads it has XGrammar make its own form anew, which
takes less than reading one that is written out would.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from engine.grammar.compile.compiler import Compiled, Compiler, Least
from engine.grammar.sources.recipe import Recipe
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Sequence, Symbol, Text
from engine.schema.rules.guards import Packing, unpacked, unpacked_shared
from engine.schema.verdicts.verdict import Verdict


def encode(compiled: Compiled) -> bytes:
    """Three lines: what XGrammar will take, about it, its rules. 0.1 milliseconds a kilobyte."""
    grammar, packing = compiled.grammar, Packing()
    rules = [] if grammar is None else [_plain_rule(rule, packing) for rule in grammar.rules.values()]
    about = {
        "verdicts": [asdict(verdict) for verdict in compiled.verdicts],
        "root": None if grammar is None else grammar.root,
        "recipe": asdict(compiled.recipe),
        "least": compiled.least,
        "shared": packing.shared,
    }
    return b"\n".join((_printed(compiled.cooked_s), _printed(about), _printed(rules)))


def decode(content: bytes, compiler: Compiler) -> Compiled:
    """The inverse; XGrammar compiles. Raises ValueError, KeyError, TypeError or RuntimeError for an unknown layout."""
    _, head, body = content.split(b"\n")
    about = json.loads(head)
    shared = unpacked_shared(about["shared"])
    rules = {plain[0]: _rule(plain, shared) for plain in json.loads(body)}
    grammar = None if about["root"] is None else Grammar(rules, about["root"])
    recipe = Recipe(**about["recipe"])
    verdicts = tuple(Verdict(**verdict) for verdict in about["verdicts"])
    tokens, nbytes = about["least"] or ((), 0)
    least = Least(tuple(tokens), nbytes) if about["least"] else None
    return Compiled(compiler.cook(recipe), grammar, verdicts, recipe, cooking_s(content), least)


def cooking_s(content: bytes) -> float:
    """What XGrammar will take to compile it, in CPU seconds."""
    return float(content.partition(b"\n")[0])


def _printed(part: Any) -> bytes:
    return json.dumps(part, separators=(",", ":")).encode("ascii")


def _plain_rule(rule: Rule, packing: Packing) -> list[Any]:
    ahead = None if rule.lookahead is None else rule.lookahead.ranges
    plain: list[Any] = [rule.name, [[_plain(symbol) for symbol in sequence] for sequence in rule.alternatives], ahead]
    if rule.guards or rule.skeleton is not None:
        least = None if rule.least is None else [_plain(symbol) for symbol in rule.least]
        plain += [packing.packed(rule.guards), least, rule.skeleton]
    return plain


def _plain(symbol: Symbol) -> Any:
    """A text is a string, a reference a list of its name, a character set a list of ranges."""
    if isinstance(symbol, Text):
        return symbol.text
    return [symbol.name] if isinstance(symbol, Ref) else symbol.ranges


def _rule(plain: list[Any], shared: list[Any]) -> Rule:
    name, alternatives, ahead, *counted = plain
    ways = tuple(_sequence(parts) for parts in alternatives)
    ahead = None if ahead is None else _chars(ahead)
    if not counted:
        return Rule(name, ways, ahead)
    guards, least, skeleton = counted
    least = None if least is None else _sequence(least)
    return Rule(name, ways, ahead, guards=unpacked(guards, shared), least=least, skeleton=skeleton)


def _sequence(parts: list[Any]) -> Sequence:
    return tuple(Text(part) if isinstance(part, str) else _named(part) for part in parts)


def _named(part: list[Any]) -> Symbol:
    return Ref(part[0]) if isinstance(part[0], str) else _chars(part)


def _chars(ranges: list[list[int]]) -> Chars:
    return Chars(tuple((low, high) for low, high in ranges))
