"""Strings, numbers and keys as groups of rules, written once a process and shared by all grammars that need them.

Knows which rules belong together and their shortest text. Names are contents, so a group means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from engine.errors import LimitExceeded
from engine.schema.automata.automaton import Automaton
from engine.schema.automata.residuals import short_digest
from engine.schema.numbers.intervals import Numbers
from engine.schema.numbers.number_expressions import Parts, alternatives_of_set
from engine.schema.numbers.numerals import greatest, numerals
from engine.schema.rules.grammar import HOLDER, WITHIN, Chars, Ref, Rule, Text
from engine.schema.rules.guards import Enough, Length, Matching, Room
from engine.schema.rules.layout import spelled
from engine.schema.rules.shortest import Shortest
from engine.schema.strings.counted_strings import Comparing, Counting, CountingRepeats, Judge, write_counted
from engine.schema.strings.escaped import escaped, escaped_name
from engine.schema.strings.number_rules import write_known, write_number
from engine.schema.strings.string_rules import TextRules
from engine.schema.strings.weighted_lru import keeps

Kind = Literal["string", "every", "scalar", "text"]
"""`every`: strings in every legal spelling instead of json.dumps' own. `text`: strings as they are, without quotes."""


@dataclass(frozen=True)
class Group:
    """Rules that derive one text. `known`: a shortest one, where somebody knows it."""

    ref: Ref
    rules: tuple[Rule, ...]
    known: str | None = None

    @cached_property
    def shortest(self) -> str:
        """A shortest text, looked for when it is asked for: nobody asks that of a skeleton."""
        return Shortest({rule.name: rule for rule in self.rules})[self.ref.name] if self.known is None else self.known


TEXT_RULES = 10_000
"""Rules of strings and numbers, and of keys, that are kept for later schemas."""


def _rules(group: Group) -> int:
    return len(group.rules)


class Spelled:
    """The groups that one grammar uses, by the name of their first rule."""

    def __init__(self, limit: int) -> None:
        self.groups: dict[str, Group] = {}
        self.size = 0
        self._limit = limit

    def text(
        self, kind: Kind, automaton: Automaton, follow: Chars | None, length: Length | Matching | None = None
    ) -> Ref:
        """Rules for the words of an automaton, strings with their quotes; of some `length`, if there is one.

        LimitExceeded when they are too many.
        """
        if length is None:
            return self._keep(_written(kind, automaton, follow))
        return self._keep(_counted(kind, automaton, follow, length))

    def numbers(self, within: Numbers, follow: Chars | None, *, every_spelling: bool) -> list[Ref]:
        """Rules for the texts of these numbers; those of the greatest doubles apart. Errors as in `text`."""
        found = []
        for words in (numerals, greatest):
            known = alternatives_of_set(within, every_spelling=every_spelling, of_greatest=words is greatest)
            if known is not None:
                found.append(self._keep(_known(known, follow)))
            elif not (automaton := words(within, every_spelling)).is_empty:
                found.append(self.text("scalar", automaton, follow))
        return found

    def key(self, automaton: Automaton, follow: Chars | None, names: frozenset[str]) -> Ref:
        """Rules for keys out of an automaton that are none of these names, quotes included; none is written twice."""
        return self._keep(_key(automaton, follow, names))

    def content(self, name: str, rules: Mapping[str, Rule], shortest: str, length: Length, follow: Chars | None) -> Ref:
        """Rules for strings of this length that hold the documents of the rule `name`, quotes included."""
        inner = escaped_name(name)
        padding = max(0, length.low - len(shortest))
        ends = [_holder(length, padding, follow)] if length != Length(0, None) else []
        end = Ref(ends[0].name) if ends else Text('"')
        outer = Rule(f"sq{short_digest(f'{inner} {end} {follow}')}", ((Text('"'), Ref(inner), end),), follow)
        return self._keep(
            Group(Ref(outer.name), (outer, *ends, *escaped(rules.values())), spelled(shortest + " " * padding))
        )

    def _keep(self, group: Group) -> Ref:
        if group.ref.name not in self.groups:
            self.groups[group.ref.name] = group
            self.size += len(group.rules)
            if self.size > self._limit:
                raise LimitExceeded(f"the grammar has more than {self._limit} rules", param="schema")
        return group.ref


def _holder(length: Length, padding: int, follow: Chars | None) -> Rule:
    """The end of a string that holds a document: blanks as far as it is too short, which no document minds."""
    name = f"s{short_digest(f'{length} {padding} {follow}')}{HOLDER}{WITHIN}"
    ways = ((Text(" "), Ref(name)), (Text('"'),))
    guards = (Room(Length(length.low, length.low), 1), Enough(length))
    return Rule(name, ways, follow, guards=guards, least=(Text(" " * padding + '"'),))


@keeps(TEXT_RULES, _rules)
def _written(kind: Kind, automaton: Automaton, follow: Chars | None) -> Group:
    texts = TextRules({})
    if kind == "scalar":
        return _group(texts, write_number(texts, automaton, follow))
    if kind == "text":
        return _group(texts, texts.scalar(automaton, follow))
    return _quoted(texts, texts.string(automaton, follow, "any" if kind == "every" else "canonical"), follow)


@keeps(TEXT_RULES, _rules)
def _known(known: tuple[Parts, ...], follow: Chars | None) -> Group:
    texts = TextRules({})
    return _group(texts, write_known(texts, known, follow))


@keeps(TEXT_RULES, _rules)
def _key(automaton: Automaton, follow: Chars | None, names: frozenset[str]) -> Group:
    return _guarded(automaton, follow, Comparing(automaton, names))


@keeps(TEXT_RULES, _rules)
def _counted(kind: Kind, automaton: Automaton, follow: Chars | None, length: Length | Matching) -> Group:
    judge = Counting(automaton, length) if isinstance(length, Length) else CountingRepeats(automaton, length)
    return _guarded(automaton, follow, judge, every=kind == "every")


def _guarded(automaton: Automaton, follow: Chars | None, judge: Judge, *, every: bool | None = None) -> Group:
    """The rules of strings that are counted or compared, and those that the matcher's compiler sees."""
    every = automaton.alphabet.size == 1 if every is None else every
    plain = _written("every" if every else "string", automaton, follow)
    texts = TextRules({rule.name: rule for rule in plain.rules})
    body = write_counted(texts, automaton, every, judge, follow)
    name = f"sq{short_digest(body.name)}"
    texts.write(Rule(name, ((Text('"'), body),), follow, skeleton=plain.ref.name))
    return Group(Ref(name), tuple(texts.rules.values()))


def _quoted(texts: TextRules, body: Ref, follow: Chars | None) -> Group:
    """With the opening quote, as a rule of its own: its masks are remembered, those of rules in a circle are not."""
    return _group(texts, texts.add(f"sq{short_digest(body.name)}", ((Text('"'), body),), follow))


def _group(texts: TextRules, ref: Ref) -> Group:
    return Group(ref, tuple(texts.rules.values()))
