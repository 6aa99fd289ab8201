"""The JSON string layer: automata over the characters of a value become right-recursive rules over the document.

One rule per automaton state, each with the caller's lookahead; rules are named by what they derive, so equal parts of
two schemas are the same text and the matcher's compiler reuses their masks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from engine.schema.automata.alphabet import SCALARS, Ranges, intersect
from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.automata.residuals import short_digest, suffix_digests
from engine.schema.rules.grammar import Chars, Ref, Rule, Sequence, Symbol, fused, literal, one_of
from engine.schema.rules.layout import spelled
from engine.schema.strings.json_escapes import ANY_STRING, inline_escapes, loop_escapes

Spelling = Literal["canonical", "any"]
Onward = list[tuple[Ranges, Sequence]]

RULE_LIMIT = 20_000
SHORT_ROAD = 3
RAW: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))


@lru_cache(maxsize=4096)
def raw(spans: Ranges) -> Ranges:
    """Those that may stand in a string as they are."""
    return intersect(spans, RAW)


class TextRules:
    """Adds rules to `rules`; every method returns the Ref to use."""

    def __init__(self, rules: dict[str, Rule], limit: int = RULE_LIMIT) -> None:
        self.rules = rules
        self.limit = limit

    def string(self, automaton: Automaton, follow: Chars | None, escapes: Spelling = "canonical") -> Ref:
        """Values in `automaton`, written as JSON after the opening quote, closing quote included.

        `canonical` spells as json.dumps(ensure_ascii=False) does, `any`, for automata that tell no characters apart, in
        every legal way. `follow` must hold every
        character that can come next, None where the document can end. ValueError for the empty language;
        AutomatonTooLarge over `limit` rules. Linear in the automaton.
        """
        return _StringWriter(self, automaton, follow, escapes == "any").write()

    def scalar(self, automaton: Automaton, follow: Chars | None) -> Ref:
        """The automaton's words as they are: numbers and other text outside strings. Errors as in `string`."""
        return _Writer(self, automaton, follow).write()

    def expression(self, expression: str, automaton: Automaton, follow: Chars | None) -> Ref:
        """The same for words that this expression of XGrammar's dialect says exactly: one rule in print."""
        return _Writer(self, automaton, follow, expression).write()

    def add(
        self, name: str, alternatives: tuple[Sequence, ...], follow: Chars | None, expression: str | None = None
    ) -> Ref:
        """One rule, unless it is there already."""
        if name not in self.rules:
            self.write(Rule(name, alternatives, follow, expression))
        return Ref(name)

    def write(self, rule: Rule) -> None:
        """A rule that is not there yet."""
        if len(self.rules) >= self.limit:
            raise AutomatonTooLarge(f"more than {self.limit} rules")
        self.rules[rule.name] = rule


class _Writer:
    """One automaton as rules. States that only lead on along one road are written out in the rules before them."""

    kind = "scalar"
    end = ""

    def __init__(self, rules: TextRules, automaton: Automaton, follow: Chars | None, whole: str | None = None) -> None:
        """`whole`: the automaton as an expression, where somebody knows a short one."""
        if automaton.is_empty:
            raise ValueError("the empty language has no rules")
        self.whole = whole
        self.rules = rules
        self.automaton = automaton
        self.follow = follow
        self.moves = [self.automaton.moves(state) for state in range(self.automaton.states)]
        self.entries = self.find_entries()
        self.names: list[str] = []
        self.refs: list[Ref] = []

    def write(self) -> Ref:
        salt = f"{self.kind}{self.follow and self.follow.ranges}"
        self.names = [self.name(digest + salt) for digest in suffix_digests(self.automaton)]
        self.refs = list(map(Ref, self.names))
        for state in sorted(self.entries):
            if self.names[state] not in self.rules.rules:
                whole = self.whole if state == 0 else None
                self.rules.add(self.names[state], self.alternatives(state), self.follow, whole or self.known(state))
        return self.refs[0]

    def known(self, state: int) -> str | None:  # noqa: ARG002 - strings know one
        """An expression for all that is accepted from a state, where there is a short one."""
        return None

    def name(self, content: str) -> str:
        return "s" + short_digest(content)

    def find_entries(self) -> set[int]:
        """The start, every state with a choice, and where a long road (over SHORT_ROAD) is entered from two sides."""
        ways_in = [0] * self.automaton.states
        for moves in self.moves:
            for _, target in moves:
                ways_in[target] += 1
        roads = {state for state in range(self.automaton.states) if self.is_road(state)}
        kept = {state for state in roads if ways_in[state] == 1 or self.road_length(state, roads) <= SHORT_ROAD}
        return {0} | (set(range(self.automaton.states)) - kept)

    def is_road(self, state: int) -> bool:
        """One way on, written as one symbol, or the end."""
        moves = self.moves[state]
        if state in self.automaton.accepting:
            return not moves
        return len(moves) == 1 and self.is_plain(moves[0][0])

    def road_length(self, state: int, roads: set[int]) -> int:
        length = 0
        while state in roads and length <= SHORT_ROAD and self.moves[state]:
            state = self.moves[state][0][1]
            length += 1
        return length

    def is_plain(self, spans: Ranges) -> bool:
        """Whether these characters are written as one symbol."""
        return bool(spans)

    def alternatives(self, state: int) -> tuple[Sequence, ...]:
        done: list[Sequence] = [(literal(self.end),)] if state in self.automaton.accepting else []
        onward = [(spans, self.tail(target)) for spans, target in self.moves[state]]
        return tuple(done + self.spellings(onward))

    def tail(self, state: int) -> Sequence:
        """What follows on reaching `state`: its rule, or the rest of the road to the next rule or the end."""
        symbols: list[Symbol] = []
        while state not in self.entries:
            if not self.moves[state]:
                return fused([*symbols, literal(self.end)])
            spans, state = self.moves[state][0]
            ((low, high), *others) = spans
            symbols.append(one_of(spans) if others or low != high else literal(self.spell(low)))
        return (*fused(symbols), self.refs[state])

    def spell(self, code_point: int) -> str:
        return chr(code_point)

    def spellings(self, onward: Onward) -> list[Sequence]:
        """The characters of each move, written out, and what follows them."""
        return [(one_of(spans), *tail) for spans, tail in onward]


class _StringWriter(_Writer):
    """The same inside quotes: characters raw where that is legal, and escaped."""

    end = '"'

    def __init__(self, rules: TextRules, automaton: Automaton, follow: Chars | None, every: bool) -> None:
        self.every = every
        self.kind = "any" if every else "canonical"
        super().__init__(rules, automaton, follow)

    def is_plain(self, spans: Ranges) -> bool:
        return not self.every and (spans[0][0] == spans[-1][1] or raw(spans) == spans)

    def known(self, state: int) -> str | None:
        free = self.every and state in self.automaton.accepting and self.moves[state] == ((SCALARS, state),)
        return ANY_STRING if free else None

    def spell(self, code_point: int) -> str:
        return spelled(chr(code_point))[1:-1]

    def spellings(self, onward: Onward) -> list[Sequence]:
        plain = super().spellings([(part, tail) for whole, tail in onward if (part := raw(whole))])
        return plain + (loop_escapes(onward[0][1]) if self.every and onward else inline_escapes(onward))
