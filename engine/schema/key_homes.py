"""Keys out of one set of characters that are none of a few names: `^[a-z_]*$` beside declared properties.

Once a key has left the names, every further character of the set is legal: one looping state, the home. The characters
that lead there are split by halving the set, so that a set has a handful of rules, whatever the names are, and XGrammar
walks through the vocabulary for those alone instead of for each prefix of a name. Knows automata and JSON spelling.
"""

from __future__ import annotations

from engine.schema.alphabet import Ranges, intersect
from engine.schema.automaton import Automaton
from engine.schema.escapes import inline_escapes
from engine.schema.grammar import Chars, Ref, Sequence, Text, normalise_ranges
from engine.schema.suffixes import components, short_digest, suffix_digests
from engine.schema.text import RAW, TextRules

ASCII = 0x80
WIDE = 32
"""ASCII characters that the loop must take, else following each prefix by itself is as cheap."""
WAYS = 3
"""States that must lead to the loop."""

Points = tuple[int, ...]


def home_of(automaton: Automaton) -> int | None:
    """The state that loops on a large set, ends anywhere, and to which the prefixes of the names lead."""
    if any(len(circle) > 1 for circle in components(automaton)):
        return None
    for state in sorted(automaton.accepting):
        moves = automaton.moves(state)
        if len(moves) == 1 and moves[0][1] == state and len(_points(moves[0][0])) >= WIDE:
            return state if sum(state in row for row in automaton.table) > WAYS else None
    return None


class HomeRules:
    """Adds rules for the keys of one automaton to `texts.rules`; each derives what follows the opening quote."""

    def __init__(self, texts: TextRules, automaton: Automaton, home: int, follow: Chars | None) -> None:
        self.texts = texts
        self.automaton = automaton
        self.home = home
        self.follow = follow
        self.salt = short_digest(repr(follow and follow.ranges))[:4]
        self.names = [f"{texts.prefix}kh{self.salt}{digest}" for digest in suffix_digests(automaton)]
        self.loop = automaton.moves(home)[0][0]
        self.rest = texts.string(Automaton.characters(self.loop).star(), follow)
        self.roads: dict[Ranges, list[Ref]] = {}

    def write(self) -> Ref:
        """A rule for all keys of the automaton. AutomatonTooLarge over the rule limit. Linear in its moves."""
        for state in range(self.automaton.states):
            if state != self.home and self.names[state] not in self.texts.rules:
                self._state(state)
        return self.rest if self.home == 0 else Ref(self.names[0])

    def _state(self, state: int) -> None:
        """References alone, so that the state needs no mask of its own; a loop is written out."""
        found: list[Sequence] = [(Text('"'),)] if state in self.automaton.accepting else []
        for spans, target in self.automaton.moves(state):
            if target == self.home:
                found.extend((ref,) for ref in self._to_home(spans))
            elif target == state:
                found.extend(_spelled(spans, Ref(self.names[target])))
            else:
                found.extend((self._named(way),) for way in _spelled(spans, Ref(self.names[target])))
        self.texts.add(self.names[state], tuple(found), self.follow)

    def _to_home(self, spans: Ranges) -> list[Ref]:
        """References that together lead over `spans` to the home."""
        if spans not in self.roads:
            kept = frozenset(_points(intersect(spans, RAW)))
            pieces = _halved(_points(intersect(self.loop, RAW)), kept)
            beyond = tuple((max(low, ASCII), high) for low, high in spans if high >= ASCII)
            left = kept.difference(*pieces)
            sets = [*pieces, *((point,) for point in sorted(left))]
            ways: list[Sequence] = [(Chars(normalise_ranges((p, p) for p in piece)), self.rest) for piece in sets]
            ways.extend([(Chars(beyond), self.rest)] if beyond else [])
            ways.extend(inline_escapes([(spans, (self.rest,))]))
            self.roads[spans] = [self._named(way) for way in ways]
        return self.roads[spans]

    def _named(self, way: Sequence) -> Ref:
        name = f"{self.texts.prefix}kw{self.salt}{short_digest(repr(way))}"
        return self.texts.add(name, (way,), self.follow)


def _points(spans: Ranges) -> Points:
    """The ASCII characters of a set."""
    return tuple(point for low, high in spans if low < ASCII for point in range(low, min(high, ASCII - 1) + 1))


def _halved(points: Points, kept: frozenset[int]) -> list[Points]:
    """Those of `points` that are `kept`, as few halves of halves of `points`."""
    if not kept.intersection(points):
        return []
    if kept.issuperset(points):
        return [points]
    middle = len(points) // 2
    return _halved(points[:middle], kept) + _halved(points[middle:], kept)


def _spelled(spans: Ranges, target: Ref) -> list[Sequence]:
    """One character out of `spans` as json.dumps writes it, then `target`."""
    raw = intersect(spans, RAW)
    return ([(Chars(raw), target)] if raw else []) + inline_escapes([(spans, (target,))])
