"""The rules of whole documents: written, tidied up, and with them those of strings, numbers and keys.

A document may be that of a caller, or one that a string holds. Knows writers; not what they write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.canonical import canonical, prune
from engine.schema.rules.grammar import EITHER, UNDECLARED, Rule
from engine.schema.rules.shortest import Shortest
from engine.schema.sets.term import Term
from engine.schema.strings.terminals import Group


@dataclass(frozen=True, slots=True)
class Document:
    """`name` derives a document; `shortest` is a shortest one. Without the rules of marks behind keys."""

    name: str
    rules: Mapping[str, Rule]
    shortest: str


def write_document(make: Callable[[], ValueWriter], root: Term) -> Document | None:
    """None where there is no document. Written anew where values turned out to be impossible, so that no guard counts
    on a member that cannot be; those of which something was left out with all that they allow."""
    impossible = whole = frozenset[Term]()
    while True:
        writer = make()
        writer.impossible, writer.whole = impossible, whole
        name = writer.write(root)
        known = {key: group.shortest for key, group in writer.spelled.groups.items()}
        known |= {UNDECLARED: "", EITHER: ""}
        texts = Shortest(writer.rules, known, writer.fewest)
        found = writer.found_impossible(texts)
        if left_out := found & writer.narrowed:
            whole |= left_out
            continue
        if found <= impossible or name not in texts:
            break
        impossible |= found
    if name not in texts:
        return None
    for rule in writer.fewest:
        writer.rules[rule] = replace(writer.rules[rule], least=texts.way(rule))
    text = texts[name]
    rules, name = canonical(prune(writer.rules, name, texts), name)
    for group in _used(rules, writer.spelled.groups):
        rules.update([(rule.name, rule) for rule in group.rules])
    return Document(name, rules, text)


def _used(rules: Mapping[str, Rule], groups: Mapping[str, Group]) -> list[Group]:
    """The groups of text rules that some rule refers to, in order of name."""
    names = set(chain.from_iterable([rule.printed_references for rule in rules.values()]))
    return [groups[name] for name in sorted(names & groups.keys())]
