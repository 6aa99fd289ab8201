"""Tidies a grammar: drops what derives nothing or is never reached, merges equal rules, names rules by content.

A rule is printed once: its name is a digest of what is printed. Knows grammars only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from engine.schema.automata.components import components
from engine.schema.rules.grammar import Ref, Rule, Sequence, print_alternatives
from engine.schema.rules.guards import contents

Rules = Mapping[str, Rule]
_SLOT, _OR = "\0", "\1"
"""In place of a name that is not given yet, and between alternatives; printed rules hold neither."""


def prune(rules: Rules, root: str, productive: Iterable[str]) -> dict[str, Rule]:
    """Only alternatives that derive something, only rules that `root` reaches. Names without a rule are left alone."""
    alive = set(productive)
    kept: dict[str, Rule] = {}
    stack = [root]
    while stack:
        name = stack.pop()
        if name in kept:
            continue
        rule = rules[name]
        if not alive.issuperset(rule.printed_references):
            rule = _without_dead(rule, alive)
        kept[name] = rule
        stack.extend(name for name in rule.references if name in rules)
    return kept


def _without_dead(rule: Rule, alive: set[str]) -> Rule:
    living = [number for number, sequence in enumerate(rule.alternatives) if _derives(sequence, alive)]
    guards = tuple(rule.guards[number] for number in living) if rule.guards else ()
    return replace(rule, alternatives=tuple(rule.alternatives[number] for number in living), guards=guards)


def _derives(sequence: Sequence, alive: set[str]) -> bool:
    return all(not isinstance(x, Ref) or x.name in alive for x in sequence)


def canonical(rules: Rules, root: str) -> tuple[dict[str, Rule], str]:
    """Equal rules merged, each named by what it derives. Names without a rule are contents already."""
    names: dict[str, str] = {}
    printed: dict[str, list[str]] = {}
    successors = {name: [x for x in rule.printed_references if x in rules] for name, rule in rules.items()}
    for component in components(successors):
        first = rules[component[0]]
        if len(component) == 1 and first.name not in first.printed_references:
            printed[first.name] = print_alternatives(first.alternatives, names)
            names[first.name] = f"r{_digest(_OR.join(printed[first.name]), first)}"
        else:
            _name_component(rules, component, names, printed)
    refs = {old: Ref(new) for old, new in names.items()}
    merged: dict[str, Rule] = {}
    for name, rule in rules.items():
        if names[name] not in merged:
            merged[names[name]] = _renamed(rule, names[name], refs, printed[name])
    return merged, names[root]


def _name_component(rules: Rules, members: list[str], names: dict[str, str], printed: dict[str, list[str]]) -> None:
    """Partition refinement inside one cycle of rules; everything outside has its name. Fills `names` and `printed`."""
    texts: dict[str, list[str]] = {}
    inside: dict[str, list[str]] = {}
    names.update(dict.fromkeys(members, _SLOT))  # until they are known
    known = frozenset(members)
    for name in members:
        alternatives = rules[name].alternatives
        texts[name] = _OR.join(print_alternatives(alternatives, names)).split(_SLOT)
        inside[name] = [x.name for sequence in alternatives for x in sequence if isinstance(x, Ref) and x.name in known]
    begun = {name: _digest(_SLOT.join(texts[name]), rules[name]) for name in members}
    labels, classes = begun, 0
    while (found := len(set(labels.values()))) != classes:
        classes = found
        labels = {name: _digest(begun[name] + "".join([labels[part] for part in inside[name]])) for name in members}
    whole = "".join(sorted(set(labels.values())))  # another cycle may agree with this one as far as was looked
    names.update([(name, f"r{_digest(label + whole)}") for name, label in labels.items()])
    for name in members:
        parts = [*(text + names[part] for text, part in zip(texts[name], inside[name], strict=False)), texts[name][-1]]
        printed[name] = "".join(parts).split(_OR)


def _digest(printed: str, rule: Rule | None = None) -> str:
    content = printed
    if rule is not None and rule.lookahead is not None:
        content += str(rule.lookahead.ranges)
    if rule is not None and rule.guards:
        content += contents(rule.guards)
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=7).hexdigest()


def _renamed(rule: Rule, name: str, refs: Mapping[str, Ref], printed: list[str]) -> Rule:
    sequences: list[Sequence] = [
        tuple([refs.get(x.name, x) if isinstance(x, Ref) else x for x in s]) for s in rule.alternatives
    ]
    guards = rule.guards or (None,) * len(sequences)
    unique = {(text, guard): s for text, guard, s in zip(printed, guards, sequences, strict=True)}
    return Rule(
        name,
        tuple(unique.values()),
        rule.lookahead,
        printed=" | ".join(dict.fromkeys(text for text, _ in unique)),
        guards=tuple(guard for _, guard in unique) if rule.guards else (),
        least=rule.least and tuple([refs.get(x.name, x) if isinstance(x, Ref) else x for x in rule.least]),
    )
