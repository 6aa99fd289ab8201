"""Keys that are not declared: the complement of a handful of names, written so that masks compile fast.

Knows automata and JSON spelling. A state from which every ending is legal is one shared rule; the characters that lead
there are split into ranges that all schemas share, so the compiler meets almost only rules it knows. Measured with
30 declared keys: 60 ms instead of 5,500 for one rule per state with its characters inside.
"""

from __future__ import annotations

from engine.schema.alphabet import Ranges
from engine.schema.automaton import Automaton
from engine.schema.escapes import canonical
from engine.schema.grammar import Chars, Ref, Rule, Sequence, Text, chars
from engine.schema.suffixes import short_digest, suffix_digests
from engine.schema.text import RAW, TextRules, intersect

ASCII = 0x80
ESCAPED = frozenset({*range(0x20), 0x22, 0x5C})


class KeyRules:
    """Adds rules for keys to `texts.rules`; each derives what follows the opening quote, closing quote included."""

    def __init__(self, texts: TextRules, follow: Chars) -> None:
        self.texts = texts
        self.follow = follow
        self.salt = short_digest(repr(follow.ranges))[:4]
        self._done: dict[Automaton, Ref] = {}

    def write(self, automaton: Automaton) -> Ref:
        """A rule for the keys in `automaton`. AutomatonTooLarge over the rule limit."""
        if automaton.is_universal:
            return self._free()
        if automaton not in self._done:
            self._done[automaton] = self._write(automaton)
        return self._done[automaton]

    def _write(self, automaton: Automaton) -> Ref:
        free = _free_state(automaton)
        if free is None:
            return self.texts.string(automaton, self.follow)
        names = [f"{self.texts.prefix}k{self.salt}{digest}" for digest in suffix_digests(automaton)]
        for state in range(automaton.states):
            if state != free and names[state] not in self.texts.rules:
                self._state(automaton, state, free, names)
        return Ref(names[0])

    def _state(self, automaton: Automaton, state: int, free: int, names: list[str]) -> None:
        """One rule whose alternatives are references alone, so that the state itself needs no mask."""
        alternatives: list[Sequence] = [(self._quote(),)] if state in automaton.accepting else []
        for spans, target in automaton.moves(state):
            if target == free:
                alternatives.extend((ref,) for ref in self._to_free(spans))
            else:
                alternatives.extend((ref,) for ref in self._onward(spans, Ref(names[target])))
        self.texts.add(names[state], tuple(alternatives), self.follow)

    def _onward(self, spans: Ranges, target: Ref) -> list[Ref]:
        found: list[Ref] = []
        raw = intersect(spans, RAW)
        if raw:
            found.append(self._named("e", ((Chars(raw), target),)))
        escapes = [c for c in sorted(ESCAPED) if any(low <= c <= high for low, high in spans)]
        if escapes:
            found.append(self._named("e", tuple((Text(canonical(c)), target) for c in escapes)))
        return found

    def _to_free(self, spans: Ranges) -> list[Ref]:
        """References that together lead over `spans` to the state where all is legal."""
        free = self._free()
        missing = [c for c in range(ASCII) if c not in ESCAPED and not any(a <= c <= b for a, b in spans)]
        found: list[Ref] = []
        if len(missing) <= 1 and spans[-1][1] >= ASCII:
            found.append(self._named("d", ((Chars(intersect(spans, RAW)), free),)))
        else:
            pieces = [piece for low, high in intersect(spans, RAW) for piece in canonical_ranges(low, high)]
            found.extend(self._named("c", ((Chars((piece,)), free),)) for piece in pieces)
        escapes = [c for c in sorted(ESCAPED) if any(low <= c <= high for low, high in spans)]
        if len(escapes) == len(ESCAPED):
            found.append(self._escape())
        else:
            found.extend(self._named("c", ((Text(canonical(c)), free),)) for c in escapes)
        return found

    def _free(self) -> Ref:
        """The rest of a key of which nothing is asked any more, in every legal spelling."""
        return self.texts.plain(self.follow)

    def _quote(self) -> Ref:
        return self._named("q", ((Text('"'),),))

    def _escape(self) -> Ref:
        """An escape that json.dumps would write, then anything: others could spell a declared name."""
        free = self._free()
        low = Text("\\u00"), Chars(((0x30, 0x31),)), chars("0123456789abcdef"), free
        return self._named("x", ((Text("\\"), chars('"\\bfnrt'), free), low))

    def _named(self, kind: str, alternatives: tuple[Sequence, ...]) -> Ref:
        name = f"{self.texts.prefix}k{kind}{self.salt}{short_digest(repr(alternatives))}"
        return self.texts.add(name, alternatives, self.follow)


def _free_state(automaton: Automaton) -> int | None:
    """The state from which every string is accepted, if there is one."""
    for state in sorted(automaton.accepting):
        if all(target == state for target in automaton.table[state]):
            return state
    return None


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
