"""The keywords of objects as one object shape. Knows how keys fall to properties, patterns and the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.automata.tables import DEAD
from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location, Scope
from engine.schema.regex.pattern import is_sure, may_match
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.scalar_keywords import count, pattern_automaton
from engine.schema.sets.algebra import settle_object
from engine.schema.sets.lengths import FOLDED_LENGTH, in_states
from engine.schema.sets.shape import ObjectShape, Others
from engine.schema.sets.term import FALSE, TRUE, Term

KEY_CLASSES = 64
"""Regions into which the patterns of one object may cut the keys."""
WIDE_KEYS = 64
"""States of all regions that may read most characters: each costs the compiler 20 to 60 ms."""
_MOST = 0x10FFFF // 2

Pattern = tuple[Automaton, Term]


def object_shape(evaluator: Evaluator, at: Location, scope: Scope) -> tuple[ObjectShape | None, bool]:
    """What the object keywords of `at` allow (None: no object), and whether exactly that."""
    schema = at.schema
    patterns, held, exact = _patterns(evaluator, at, scope)
    named: dict[str, Term] = {}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for key in properties:
            term = evaluator.child(at, scope, "properties", key)
            named[key] = evaluator.terms.all_of([term, *(value for keys, value in patterns if keys.accepts(key))])
    others = _others(evaluator, at, scope, patterns) if held else (Others(Automaton.anything(), TRUE, True),)
    names = schema.get("required")
    required = frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
    item = ObjectShape(
        tuple(named.items()),
        others,
        required,
        (),
        count(schema.get("minProperties"), 0) or 0,
        count(schema.get("maxProperties"), None),
        declared=bool(properties),
    )
    item, names_exact = _restrict_names(evaluator, at, scope, item)
    return settle_object(evaluator.is_empty, item), exact and names_exact


def _patterns(evaluator: Evaluator, at: Location, scope: Scope) -> tuple[list[Pattern], bool, bool]:
    """patternProperties as automata, whether each of them has one, and whether they are exactly that: keys that one
    matches in some versions of Unicode alone are not written."""
    found: list[Pattern] = []
    held = exact = True
    patterns = at.schema.get("patternProperties")
    for pattern in patterns if isinstance(patterns, dict) else ():
        keys = pattern_automaton(evaluator.report, at, "patternProperties", pattern)
        if keys is None:
            held = exact = False
            evaluator.report.mark(at, "additionalProperties", "checked", "depends on a pattern that is not held")
        else:
            found.append((keys, evaluator.child(at, scope, "patternProperties", pattern)))
            if not is_sure(pattern):
                exact = False
                found.append((may_match(pattern) - keys, FALSE))
    return found, held, exact


def _others(evaluator: Evaluator, at: Location, scope: Scope, patterns: list[Pattern]) -> tuple[Others, ...]:
    """Keys without a property of their own, cut into regions by the patterns."""
    explicit = "additionalProperties" in at.schema
    additional = evaluator.child(at, scope, "additionalProperties") if explicit else TRUE
    try:
        regions, rest = _regions(patterns)
        others = [Others(region, evaluator.terms.all_of(values), True) for region, values in regions]
        others.append(Others(rest, additional, explicit))
        written = tuple(part for part in others if part.value != FALSE and not part.keys.is_empty)
        if sum(_wide_states(part.keys) for part in written) > WIDE_KEYS:
            raise AutomatonTooLarge(f"over {WIDE_KEYS} states that read most characters")
    except AutomatonTooLarge as error:
        for keyword in ("patternProperties", "additionalProperties"):
            evaluator.report.mark(at, keyword, "checked", f"the patterns cut the keys too finely: {error}")
        return (Others(Automaton.anything(), TRUE, True),)
    return written


def _wide_states(automaton: Automaton) -> int:
    """States that read most code points."""
    sizes = automaton.alphabet.sizes
    reads = (sum(size for size, target in zip(sizes, row, strict=True) if target != DEAD) for row in automaton.table)
    return sum(size > _MOST for size in reads)


def _regions(patterns: list[Pattern]) -> tuple[list[tuple[Automaton, list[Term]]], Automaton]:
    """Kinds of keys with what their values must satisfy, and the keys that no pattern speaks of."""
    rest = Automaton.anything()
    regions: list[tuple[Automaton, list[Term]]] = []
    for keys, value in patterns:
        cut: list[tuple[Automaton, list[Term]]] = []
        for region, values in regions:
            cut.extend([(region & keys, [*values, value]), (region - keys, values)])
        cut.append((rest & keys, [value]))
        regions = [part for part in cut if not part[0].is_empty]
        rest = rest - keys
        if len(regions) > KEY_CLASSES:
            raise AutomatonTooLarge(f"more than {KEY_CLASSES} kinds of keys")
    return regions, rest


def _restrict_names(evaluator: Evaluator, at: Location, scope: Scope, item: ObjectShape) -> tuple[ObjectShape, bool]:
    """propertyNames: only keys in the strings of its shape."""
    if at.draft < Draft.D6 or not isinstance(at.schema.get("propertyNames"), dict | bool):
        return item, True
    term = evaluator.child(at, scope, "propertyNames")
    shape = evaluator.shape(term)
    exact = evaluator.is_exact(term) and all(part.content is None for part in shape.strings)
    keys = Automaton.nothing()
    for part in shape.strings:
        names, whole = in_states(part)
        keys = keys | names
        if not whole:
            exact = False
            evaluator.report.mark(at, "propertyNames", "checked", f"a length over {FOLDED_LENGTH}")
    if not exact:
        evaluator.report.mark(at, "propertyNames", "checked", "what the names must be is not held exactly")
    named = tuple((key, term if keys.accepts(key) else FALSE) for key, term in item.named)
    cut = (Others(part.keys & keys, part.value, True) for part in item.others)
    others = tuple(part for part in cut if not part.keys.is_empty)
    if any(not keys.accepts(key) for key in item.required):
        named = (*named, *((key, FALSE) for key in sorted(item.required) if not keys.accepts(key)))
    return replace(item, named=named, others=others), exact


def string_list(value: Any) -> list[str]:
    """The strings of a list; nothing for what is no list."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
