"""Strings whose characters are counted and keys that are compared: a rule per state, each alternative with its guard.

The matcher's compiler never sees these rules but the ones without guards, which derive the same (`Rule.skeleton`). So
nothing here is written for its sake. Knows automata, JSON spelling and guards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from engine.schema.automata.alphabet import Ranges, intersect, without
from engine.schema.automata.automaton import Automaton
from engine.schema.automata.residuals import short_digest, suffix_digests
from engine.schema.regex.counting_automaton import CountingAutomaton, State
from engine.schema.rules.grammar import Chars, Ref, Rule, Sequence, Text, literal, one_of
from engine.schema.rules.guards import Enough, Guard, Length, Letter, Matching, Room, Unrepeated
from engine.schema.rules.layout import spelled
from engine.schema.sets.lengths import measures
from engine.schema.sets.words import ascending, shortest_word
from engine.schema.strings.json_escapes import inline_escapes, loop_escapes
from engine.schema.strings.string_rules import RAW, TextRules

SINGLE, ENDINGS, ASCII = 128, 512, 0x80
"""Characters of a set that are asked for one by one, and endings of keys up to which that is done."""


class Judge(Protocol):
    """The guards of one string."""

    def name(self) -> str:
        """What tells its rules from those of others."""

    def quote(self, state: int) -> Guard:
        """Before the closing quote."""

    def moves(self, spans: Ranges, target: int) -> Iterator[tuple[Ranges, Guard | None]]:
        """Before a character of `spans`, which leads to `target`; perhaps in parts."""

    def least(self, state: int) -> str | None:
        """A shortest text from this state on that obeys the guards, where the shortest of all does not."""


def write_counted(texts: TextRules, automaton: Automaton, every: bool, judge: Judge, follow: Chars | None) -> Ref:
    """Rules for what follows the opening quote, closing quote included, in `every` legal spelling or json.dumps' own.
    Linear in the automaton's moves."""
    salt = f"{judge.name()}{every}{follow and follow.ranges}"
    names = [f"sl{short_digest(digest + salt)}" for digest in suffix_digests(automaton)]
    for state, name in enumerate(names):
        if name in texts.rules:
            continue
        ways: list[Sequence] = []
        guards: list[Guard | None] = []
        if state in automaton.accepting:
            ways.append((literal('"'),))
            guards.append(judge.quote(state))
        for whole, target in automaton.moves(state):
            parts = list(judge.moves(whole, target))
            unasked = any(guard is None for _, guard in parts)
            for spans, guard in parts:
                spelled = _spelled(spans, Ref(names[target]), every, escaped=guard is None or not unasked)
                ways.extend(spelled)
                guards.extend([guard] * len(spelled))
        text = judge.least(state)
        least = None if text is None else (Text(f'{text}"'),)
        texts.write(Rule(name, tuple(ways), follow, guards=tuple(guards), least=least))
    return Ref(names[0])


def _spelled(spans: Ranges, target: Ref, every: bool, *, escaped: bool) -> list[Sequence]:
    """One character out of `spans` and what follows it; in `every` spelling the escapes, which do not tell characters
    apart, only where they are wanted."""
    if every:
        raw = intersect(spans, RAW)
        return [*([(one_of(raw), target)] if raw else []), *(loop_escapes((target,)) if escaped else [])]
    return [(*spelling, target) for spelling in _spellings(spans)]


@lru_cache(maxsize=4096)
def _spellings(spans: Ranges) -> list[Sequence]:
    """One character out of `spans`, as json.dumps writes it."""
    raw = intersect(spans, RAW)
    return [*([(one_of(raw),)] if raw else []), *inline_escapes([(spans, ())])]


@dataclass(frozen=True, slots=True)
class Counting:
    """Code points are counted."""

    automaton: Automaton
    length: Length

    def name(self) -> str:
        return f"{self.length.low}-{self.length.high}"

    def quote(self, state: int) -> Guard:  # noqa: ARG002 - the same everywhere
        return Enough(self.length)

    def moves(self, spans: Ranges, target: int) -> Iterator[tuple[Ranges, Guard | None]]:
        found = measures(self.automaton)
        most = found.most[target] if self.length.low else None
        yield spans, Room(self.length, 1 + found.fewest[target], None if most is None else 1 + most)

    def least(self, state: int) -> str | None:
        most = measures(self.automaton).most[state]
        low = self.length.low if most is None else min(self.length.low, most)  # less is left only behind other ones
        word = shortest_word(self.automaton, state, low)
        return spelled(word)[1:-1]


@dataclass(frozen=True, slots=True)
class CountingRepeats:
    """The repeats of a pattern are counted; `automaton` leaves out how often each may come."""

    automaton: Automaton
    region: Matching

    def name(self) -> str:
        return repr(self.region)

    def quote(self, state: int) -> Guard:  # noqa: ARG002 - the same everywhere
        return Enough(self.region)

    def moves(self, spans: Ranges, target: int) -> Iterator[tuple[Ranges, Guard | None]]:  # noqa: ARG002 - see above
        for kind in self.region.automaton.kinds:
            part = intersect(spans, self.region.automaton.spans(kind))
            if part:
                yield part, Letter(self.region, kind)

    def least(self, state: int) -> str | None:
        """Of all counts that there may be, by those that need most."""
        counts = _beside(self.region.automaton, self.automaton)[state]
        word = self.region.least(max(counts, key=self.region.automaton.fewest))
        return spelled(word)[1:-1]


@lru_cache(maxsize=4)
def _beside(counting: CountingAutomaton, automaton: Automaton) -> dict[int, list[State]]:
    return counting.beside(automaton)


class Comparing:
    """Keys are compared with those declared beside them, `names`, and those of their object. Where few endings are
    left, each character is asked for by itself: one that leads to nothing but keys that cannot be is no way on."""

    def __init__(self, automaton: Automaton, names: frozenset[str] = frozenset()) -> None:
        self.automaton = automaton
        self.names = names
        self._letters = frozenset(map(ord, "".join(names)))
        self._known: dict[int, tuple[str, ...] | None] = {}

    def name(self) -> str:
        return f"key{sorted(self.names)}"

    def quote(self, state: int) -> Guard:  # noqa: ARG002 - the same everywhere
        return Unrepeated(names=self.names)

    def moves(self, spans: Ranges, target: int) -> Iterator[tuple[Ranges, Guard | None]]:
        rest = self._endings(target)
        if rest is None:
            yield spans, None
            return
        single = [c for low, high in spans for c in range(low, min(high, low + SINGLE) + 1) if c < ASCII or low == high]
        single += [c for c in sorted(self._letters) if c >= ASCII and any(low <= c <= high for low, high in spans)]
        for c in dict.fromkeys(single):
            yield ((c, c),), Unrepeated(tuple(chr(c) + text for text in rest), self.names)
        beyond = intersect(spans, without((c, c) for c in single))
        if beyond:
            yield beyond, None

    def _endings(self, state: int) -> tuple[str, ...] | None:
        """All texts up to the end of the key from here; None where they are many."""
        if state not in self._known:
            self._known[state] = self._spell(state)
        return self._known[state]

    def _spell(self, state: int) -> tuple[str, ...] | None:
        if measures(self.automaton).most[state] is None:
            return None
        found = [""] if state in self.automaton.accepting else []
        for spans, target in self.automaton.moves(state):
            rest = self._endings(target)
            size = sum(high - low + 1 for low, high in spans)
            if rest is None or len(found) + size * len(rest) > max(ENDINGS, len(self.names)):
                return None
            found.extend(chr(c) + text for low, high in spans for c in range(low, high + 1) for text in rest)
        return tuple(found)

    def least(self, state: int) -> str | None:
        """Any will do but, from the start, a declared one."""
        if state or not self.names:
            return None
        word = next((word for word in ascending(self.automaton) if word not in self.names), None)
        return None if word is None else spelled(word)[1:-1]
