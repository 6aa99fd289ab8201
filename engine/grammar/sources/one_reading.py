"""Whether what comes next always tells how a text is read (LL(1), and LL(k) for texts: Rosenkrantz and Stearns 1970).

Where it does, XGrammar follows one reading of what stands around JSON, and a mask takes no longer than it does in JSON
alone. Knows rules only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import or_

from engine.schema.automata.alphabet import SCALARS, Ranges, intersect, normalise_ranges
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Sequence, Text, chars

_END = 1 << 256
"""Behind the whole text, beside the bits of bytes."""
_DIGITS, _IN_NUMBERS = chars("0123456789"), chars("0123456789.eE+-")


@dataclass(slots=True)
class _Known:
    """The bytes that a rule may begin with, whether it may be empty, and the bytes that may stand behind it."""

    first: int = 0
    nullable: bool = False
    follow: int = 0


def has_one_reading(grammar: Grammar) -> bool:
    """Of alternatives that begin with a text, it is enough that none of these texts begins with another. Linear times
    the rounds until nothing is new."""
    known = {name: _Known() for name in grammar.rules}
    known[grammar.root].follow = _END
    while sum(_learns(rule, known) for rule in grammar.rules.values()):
        pass
    return all(_is_decided(rule, known, grammar.rules) for rule in grammar.rules.values())


def in_outline(document: Grammar, name: str) -> tuple[Rule, Rule]:
    """Rules that begin as a JSON document does, the first of this name. Only behind a number do they go on: every other
    value tells where it ends."""
    begins = _beginnings(document)
    more = Rule(f"{name}.more", ((), (_IN_NUMBERS, Ref(f"{name}.more"))))
    is_number = bool(intersect(begins, _DIGITS.ranges))
    return Rule(name, ((Chars(begins), *([Ref(more.name)] if is_number else [])),)), more


def _beginnings(document: Grammar) -> Ranges:
    """The characters that a document may begin with; all where it is not plain to see."""
    found, reached = list[tuple[int, int]](), [document.root]
    for name in reached:
        for way in document.rules[name].alternatives:
            first = way[0] if way else Text("")
            if isinstance(first, Ref):
                reached += [first.name] if first.name not in reached else []
            elif isinstance(first, Text) and not first.text:
                return SCALARS
            else:
                found += first.ranges if isinstance(first, Chars) else [(ord(first.text[0]), ord(first.text[0]))]
    return normalise_ranges(found)


def _learns(rule: Rule, known: Mapping[str, _Known]) -> bool:
    """Whether this rule tells something new."""
    own, before = known[rule.name], [(part.first, part.nullable, part.follow) for part in _parts(rule, known)]
    for way in rule.alternatives:
        behind = own.follow
        first, nullable = 0, True
        for symbol in reversed(way):
            if isinstance(symbol, Ref):
                known[symbol.name].follow |= behind
            symbol_first, symbol_nullable = _first_of(symbol, known)
            behind = symbol_first | (behind if symbol_nullable else 0)
            first = symbol_first | (first if symbol_nullable else 0)
            nullable = nullable and symbol_nullable
        own.first |= first
        own.nullable |= nullable
    return before != [(part.first, part.nullable, part.follow) for part in _parts(rule, known)]


def _parts(rule: Rule, known: Mapping[str, _Known]) -> list[_Known]:
    return [known[name] for name in (rule.name, *rule.printed_references)]


def _first_of(symbol: Chars | Text | Ref, known: Mapping[str, _Known]) -> tuple[int, bool]:
    if isinstance(symbol, Ref):
        return known[symbol.name].first, known[symbol.name].nullable
    if isinstance(symbol, Text):
        return _leading(symbol.text[:1], symbol.text[:1]), not symbol.text
    return reduce(or_, (_leading(chr(low), chr(high)) for low, high in symbol.ranges), 0), False


def _leading(low: str, high: str) -> int:
    """The first bytes of the characters from `low` to `high`."""
    if not low:
        return 0
    first, last = (character.encode("utf-8", "surrogatepass")[0] for character in (low, high))
    return (1 << last + 1) - (1 << first)


def _is_decided(rule: Rule, known: Mapping[str, _Known], rules: Mapping[str, Rule]) -> bool:
    """By the texts that alternatives begin with, else by their first bytes."""
    texts = sorted(filter(None, (_text(way, rules) for way in rule.alternatives)))
    if any(longer.startswith(shorter) for shorter, longer in pairwise(texts)):
        return False
    seen = reduce(or_, (_leading(text[0], text[0]) for text in texts), 0)
    for way in rule.alternatives:
        if not _text(way, rules):
            selecting = _selecting(way, rule, known)
            if seen & selecting:
                return False
            seen |= selecting
    return True


def _text(way: Sequence, rules: Mapping[str, Rule]) -> str:
    """A text with which everything begins that this alternative derives, as far as rules without a choice tell."""
    for _ in rules:
        first = way[0] if way else None
        if isinstance(first, Text):
            return first.text
        if not isinstance(first, Ref) or len(rules[first.name].alternatives) > 1:
            return ""
        way = rules[first.name].alternatives[0]
    return ""


def _selecting(way: Sequence, rule: Rule, known: Mapping[str, _Known]) -> int:
    """The bytes at which this alternative may be taken."""
    found = 0
    for symbol in way:
        first, nullable = _first_of(symbol, known)
        found |= first
        if not nullable:
            return found
    return found | known[rule.name].follow
