"""Keys that are not declared: the complement of a handful of names, written so that masks compile fast.

Knows automata, tries and JSON spelling. A state from which every ending is legal is one shared rule; the characters
that lead there are split into ranges that all schemas share, so the compiler meets almost only rules it knows.
Measured with 30 declared keys: 60 ms instead of 5,500 for one rule per state with its characters inside.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

from engine.schema.alphabet import Ranges, intersect
from engine.schema.automaton import Automaton
from engine.schema.escapes import ESCAPED, any_escape, canonical, inline_escapes
from engine.schema.grammar import Chars, Ref, Sequence, Text, one_of
from engine.schema.suffixes import components, short_digest, suffix_digests
from engine.schema.text import RAW, TextRules

FIRST, ASCII = 0x20, 0x80
MANY = 2
_ALL: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))


class KeyRules:
    """Adds rules for keys to `texts.rules`; each derives what follows the opening quote, closing quote included."""

    def __init__(self, texts: TextRules, follow: Chars | None, *, fine: bool = False) -> None:
        """`fine`: only along ranges, never without one character: more rules a state, fewer different ones."""
        self.texts = texts
        self.follow = follow
        self.fine = fine
        self.salt = short_digest(repr(follow and follow.ranges))[:4]
        self._free_roads: dict[Ranges, list[Ref]] = {}
        self._free = texts.plain(follow)
        """The rest of a key of which nothing is asked any more, in every legal spelling."""

    def write(self, automaton: Automaton) -> Ref:
        """A rule for the keys in `automaton`. AutomatonTooLarge over the rule limit."""
        free = _free_state(automaton)
        if free is None or has_circles(automaton):
            return self.texts.string(automaton, self.follow)
        names = [f"{self.texts.prefix}k{self.salt}{digest}" for digest in suffix_digests(automaton)]
        for state in range(automaton.states):
            if state != free and names[state] not in self.texts.rules:
                self._state(automaton, state, free, names)
        return self._free if free == 0 else Ref(names[0])

    def roads(self) -> tuple[Ref, ...]:
        """All rules that lead from a declared name to where all is legal: without one character, or along one range."""
        points = range(FIRST, ASCII) if not self.fine else ()
        found = [ref for point in points for ref in self._to_free(_without(((point, point),)))]
        pieces = sorted(piece for low, high in RAW for piece in _all_ranges(low, high))
        found.extend(self._named("c", ((Chars((piece,)), self._free),)) for piece in pieces)
        return tuple(dict.fromkeys(found))

    def _state(self, automaton: Automaton, state: int, free: int, names: list[str]) -> None:
        """One rule whose alternatives are references alone, so that the state itself needs no mask.

        A loop is written out: a rule that reaches itself through another is compiled anew in every grammar.
        """
        alternatives: list[Sequence] = [(self._quote,)] if state in automaton.accepting else []
        for spans, target in automaton.moves(state):
            if target == free:
                alternatives.extend((ref,) for ref in self._to_free(spans))
            elif target == state:
                alternatives.extend(_spelled(spans, Ref(names[target])))
            else:
                alternatives.extend((ref,) for ref in self._onward(spans, Ref(names[target])))
        self.texts.add(names[state], tuple(alternatives), self.follow)

    def _onward(self, spans: Ranges, target: Ref) -> list[Ref]:
        return [self._named("e", (sequence,)) for sequence in _spelled(spans, target)]

    def _to_free(self, spans: Ranges) -> list[Ref]:
        """References that together lead over `spans` to the state where all is legal."""
        if spans not in self._free_roads:
            self._free_roads[spans] = self._write_roads(spans)
        return self._free_roads[spans]

    def _write_roads(self, spans: Ranges) -> list[Ref]:
        free = self._free
        whole, pieces, escapes = _roads(spans, self.fine)
        found = [self._named("d", ((Chars(whole), free),))] if whole else []
        found.extend(self._named("c", ((Chars((piece,)), free),)) for piece in pieces)
        if len(escapes) == len(ESCAPED):
            return [*found, self._escape]
        return [*found, *(self._named("c", ((Text(canonical(c)), free),)) for c in escapes)]

    @cached_property
    def _quote(self) -> Ref:
        return self._named("q", ((Text('"'),),))

    @cached_property
    def _escape(self) -> Ref:
        """An escape that json.dumps would write, then anything: others could spell a declared name."""
        return self._named("x", any_escape(self._free))

    def _named(self, kind: str, alternatives: tuple[Sequence, ...]) -> Ref:
        name = f"{self.texts.prefix}k{kind}{self.salt}{short_digest(repr(alternatives))}"
        return self.texts.add(name, alternatives, self.follow)


def has_circles(automaton: Automaton) -> bool:
    """Whether several states lead to each other."""
    return any(len(circle) > 1 for circle in components(automaton))


def leaves_often(automaton: Automaton) -> bool:
    """Whether several states go on to where all is legal on most characters, and none of them lies in a circle.

    Strings that are none of a few values are like this. As rules of `KeyRules` they share what they have in common.
    """
    free = _free_state(automaton)
    if free is None or automaton.states <= MANY or has_circles(automaton):
        return False
    wide = [t for s in range(automaton.states) for spans, t in automaton.moves(s) if s != free and _is_wide(spans)]
    return wide.count(free) > MANY


def _is_wide(spans: Ranges) -> bool:
    return spans[-1][1] >= ASCII and sum(min(high, ASCII) - low for low, high in spans if low < ASCII) > ASCII // 2


def _free_state(automaton: Automaton) -> int | None:
    """The state from which every string is accepted, if there is one."""
    for state in sorted(automaton.accepting):
        if all(target == state for target in automaton.table[state]):
            return state
    return None


def _without(gone: Ranges) -> Ranges:
    """All scalar values but these."""
    kept: list[tuple[int, int]] = []
    for low, high in _ALL:
        for first, last in gone:
            if low <= last and first <= high:
                if low < first:
                    kept.append((low, first - 1))
                low = last + 1
        if low <= high:
            kept.append((low, high))
    return tuple(kept)


def _spelled(spans: Ranges, target: Ref) -> list[Sequence]:
    """One character out of `spans` as json.dumps writes it, then `target`."""
    raw = intersect(spans, RAW)
    found: list[Sequence] = [(one_of(raw), target)] if raw else []
    if raw == spans:
        return found
    return found + inline_escapes([(spans, (target,))])


def _escapes(spans: Ranges) -> tuple[int, ...]:
    return tuple(c for c in ESCAPED if any(low <= c <= high for low, high in spans))


@lru_cache(maxsize=4096)
def _roads(spans: Ranges, fine: bool) -> tuple[Ranges, tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Raw characters as one set (when at most one ASCII character is missing) or as shared ranges, and the escapes."""
    raw = intersect(spans, RAW)
    covered = sum(min(high, ASCII - 1) - low + 1 for low, high in raw if low < ASCII)
    if not fine and spans and spans[-1][1] >= ASCII and covered >= ASCII - len(ESCAPED) - 1:
        return raw, (), _escapes(spans)
    return (), tuple(piece for low, high in raw for piece in canonical_ranges(low, high)), _escapes(spans)


def _all_ranges(low: int, high: int) -> set[tuple[int, int]]:
    """Every range that `canonical_ranges` can give inside these bounds."""
    size, found = ASCII, set(canonical_ranges(low, high))
    while size:
        starts = range(0, ASCII, size)
        found |= {(start, start + size - 1) for start in starts if low <= start and start + size - 1 <= high}
        size //= 2
    return found


def canonical_ranges(low: int, high: int) -> list[tuple[int, int]]:
    """`low` to `high` as few ranges out of a fixed tree over ASCII, and what lies beyond as one."""
    found: list[tuple[int, int]] = []
    if high >= ASCII:
        found.append((max(low, ASCII), high))
    stack = [(0, ASCII)]
    while stack:
        start, end = stack.pop()
        if low <= start and end - 1 <= high:
            found.append((start, end - 1))
        elif start <= high and low < end:
            middle = (start + end) // 2
            stack.extend([(start, middle), (middle, end)])
    return sorted(found)
