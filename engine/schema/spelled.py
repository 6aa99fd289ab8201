"""Strings, numbers and keys as groups of rules, written once a process and shared by all grammars that need them.

Knows which rules belong together and their shortest text. Names are contents, so a group means the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import LimitExceeded
from engine.schema.automaton import Automaton, AutomatonTooLarge
from engine.schema.counted_text import Comparing, Counting, Spelling, write_counted
from engine.schema.grammar import Chars, Ref, Rule, Text
from engine.schema.guards import Length
from engine.schema.kept import keeps
from engine.schema.key_exits import Site
from engine.schema.key_homes import HomeRules, home_of
from engine.schema.keys import KeyRules, has_circles, leaves_often
from engine.schema.number_rules import write_number
from engine.schema.other_keys import other_key, shortest_other
from engine.schema.shortest import Shortest
from engine.schema.suffixes import short_digest
from engine.schema.text import TextRules

Kind = Literal["string", "every", "scalar", "key", "unwatched", "text"]
"""`every`: strings in every legal spelling instead of json.dumps' own. `unwatched`: keys that may stand twice.
`text`: strings as they are, without quotes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that derive one text; `shortest` is a shortest one."""

    ref: Ref
    rules: tuple[Rule, ...]
    shortest: str


TEXT_RULES = 10_000
KEY_RULES = 8_000
"""Rules of strings and numbers, and of keys, that are kept for later schemas."""


def _rules(group: Group) -> int:
    return len(group.rules)


class Spelled:
    """The groups that one grammar uses, by the name of their first rule."""

    def __init__(self, prefix: str, limit: int) -> None:
        self.groups: dict[str, Group] = {}
        self.size = 0
        self._prefix = f"{prefix}s"
        self._limit = limit

    def text(self, kind: Kind, automaton: Automaton, follow: Chars | None, length: Length | None = None) -> Ref:
        """Rules for the words of an automaton, strings with their quotes; strings of some `length`, if there is one.

        LimitExceeded when they are too many.
        """
        try:
            if length is None:
                return self._keep(_written(self._prefix, kind, automaton, follow))
            return self._keep(_counted(self._prefix, kind, automaton, follow, length))
        except AutomatonTooLarge as error:
            raise LimitExceeded(f"a string, number or key needs too large a grammar: {error}", param="schema") from None

    def other_key(self, names: frozenset[str], follow: Chars, *, watched: bool) -> Ref:
        """Rules for every key but these names, quotes included."""
        return self._keep(_other_key(self._prefix, names, follow, watched))

    def _keep(self, group: Group) -> Ref:
        if group.ref.name not in self.groups:
            self.groups[group.ref.name] = group
            self.size += len(group.rules)
            if self.size > self._limit:
                raise LimitExceeded(f"the grammar has more than {self._limit} rules", param="schema")
        return group.ref


@keeps(TEXT_RULES, _rules)
def _written(prefix: str, kind: Kind, automaton: Automaton, follow: Chars | None) -> Group:
    texts = TextRules({}, prefix)
    if kind == "scalar":
        return _group(texts, write_number(texts, automaton, follow))
    if kind == "text":
        return _group(texts, texts.scalar(automaton, follow))
    if kind == "key":
        return _compared(_written(prefix, "unwatched", automaton, follow), prefix, automaton, follow)
    if kind == "unwatched":
        assert follow is not None
        home = home_of(automaton)
        if home is not None:
            return _quoted(texts, HomeRules(texts, automaton, home, follow).write(), follow)
        return _quoted(texts, KeyRules(texts, follow).write(automaton), follow)
    if kind == "string" and leaves_often(automaton):
        return _quoted(texts, KeyRules(texts, follow, fine=True).write(automaton), follow)
    return _quoted(texts, texts.string(automaton, follow, "any" if kind == "every" else "canonical"), follow)


def _compared(plain: Group, prefix: str, automaton: Automaton, follow: Chars | None) -> Group:
    """The rules of keys that are compared, and those that the matcher's compiler sees."""
    texts = TextRules({rule.name: rule for rule in plain.rules}, prefix)
    spelling: Spelling = "free" if home_of(automaton) is None and not has_circles(automaton) else "canonical"
    return _guarded(texts, plain, write_counted(texts, automaton, spelling, Comparing(automaton), follow), follow)


@keeps(TEXT_RULES, _rules)
def _counted(prefix: str, kind: Kind, automaton: Automaton, follow: Chars | None, length: Length) -> Group:
    """The rules of strings with lengths, and those without that the matcher's compiler sees."""
    plain = _written(prefix, kind, automaton, follow)
    texts = TextRules({rule.name: rule for rule in plain.rules}, prefix)
    spelling: Spelling = "every" if kind == "every" else "free" if leaves_often(automaton) else "canonical"
    judge = Counting(automaton, length)
    return _guarded(texts, plain, write_counted(texts, automaton, spelling, judge, follow), follow)


def _guarded(texts: TextRules, plain: Group, body: Ref, follow: Chars | None) -> Group:
    name = f"{texts.prefix}q{short_digest(body.name)}"
    texts.write(Rule(name, ((Text('"'), body),), follow, skeleton=plain.ref.name))
    return _group(texts, Ref(name))


@keeps(KEY_RULES, _rules)
def _other_key(prefix: str, names: frozenset[str], follow: Chars, watched: bool) -> Group:
    rules = other_key(Site(prefix, follow, watched), names)
    return Group(Ref(rules[0].name), rules, shortest_other(names))


def _quoted(texts: TextRules, body: Ref, follow: Chars | None) -> Group:
    """With the opening quote, as a rule of its own: its masks are remembered, those of rules in a circle are not."""
    return _group(texts, texts.add(f"{texts.prefix}q{short_digest(body.name)}", ((Text('"'), body),), follow))


def _group(texts: TextRules, ref: Ref) -> Group:
    return Group(ref, tuple(texts.rules.values()), Shortest(texts.rules)[ref.name])
