"""Escape sequences of JSON strings, as alternatives that follow a backslash.

Knows RFC 8259 section 7 and UTF-16 surrogate pairs. Knows nothing of automata: it gets ranges and where they lead.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass

from engine.schema.alphabet import SCALARS, Ranges
from engine.schema.grammar import Chars, Ref, Sequence, chars, literal

SHORT = {0x22: '"', 0x5C: "\\", 0x2F: "/", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}
OPTIONAL = frozenset({0x2F})
LAST_BMP = 0xFFFF
FIRST_CONTROL_FREE = 0x20

HEX = chars("0123456789abcdefABCDEF")

Move = tuple[Ranges, Sequence]
Intern = Callable[[tuple[Sequence, ...]], Ref]


@dataclass(frozen=True)
class _Level:
    """One hex digit of an escape: it holds `bits` bits and starts at `first`; `before` is written ahead of it."""

    bits: int
    first: int = 0
    before: Sequence = ()


_BMP = (_Level(4), _Level(4), _Level(4), _Level(4))
_PAIR = (
    _Level(2, 8), _Level(4), _Level(4),
    _Level(2, 12, (literal("\\u"), chars("dD"))), _Level(4), _Level(4),
)  # fmt: skip


def canonical(code_point: int) -> str:
    """The spelling of json.dumps(ensure_ascii=False)."""
    if code_point in SHORT and code_point not in OPTIONAL:
        return "\\" + SHORT[code_point]
    return f"\\u{code_point:04x}" if code_point < FIRST_CONTROL_FREE else chr(code_point)


def inline_escapes(moves: ListLike[Move]) -> list[Sequence]:
    """json.dumps' own escapes as alternatives of one rule, backslash included.

    A rule that reaches itself through other rules is compiled anew in every grammar (XGrammar remembers only rules
    whose cycles are their own), so nothing here goes through a rule of its own.
    """
    found: list[Sequence] = [(literal("\\"), *sequence) for sequence in short_escapes(moves, False)]
    for spans, tail in moves:
        controls = [c for c in range(FIRST_CONTROL_FREE) if c not in SHORT and _inside(c, spans)]
        for sixteen in (0, 1):
            digits = [c & 15 for c in controls if c >> 4 == sixteen]
            if digits:
                found.append((literal(f"\\u00{sixteen}"), _lower_case(digits), *tail))
    return found


def loop_escapes(tail: Sequence) -> list[Sequence]:
    """Every escape of any character, all leading to `tail`, as alternatives of one rule (see `inline_escapes`)."""
    digit = chars("0123456789abcdefABCDEF")
    low = (literal("\\u"), chars("dD"), chars("cdefCDEF"), digit, digit)
    return [
        (literal("\\"), chars("".join(SHORT.values())), *tail),
        (literal("\\u"), chars("0123456789abcefABCEF"), digit, digit, digit, *tail),
        (literal("\\u"), chars("dD"), chars("01234567"), digit, digit, *tail),
        (literal("\\u"), chars("dD"), chars("89abAB"), digit, digit, *low, *tail),
    ]


ANY_STRING = (
    "([ -!#-\\[\\]-\ud7ff\ue000-\U0010ffff]|"
    r'\\["\/\\bfnrt]|\\u([0-9A-CE-Fa-ce-f][0-9A-Fa-f]|[dD]([0-7]|[89abAB][0-9A-Fa-f][0-9A-Fa-f]\\u[dD][c-fC-F]))'
    '[0-9A-Fa-f][0-9A-Fa-f])*"'
)
"""The rest of any string in every legal spelling, closing quote included, as a regular expression of XGrammar.

One state that loops on most characters: XGrammar knows without following them that it takes most tokens, and following
a document costs half of what the same rule in recursive form does.
"""


def short_escapes(moves: ListLike[Move], every: bool) -> list[Sequence]:
    """`n`, `"`, `\\` ... grouped by where they lead; `every` adds the escapes that nobody needs."""
    found: list[Sequence] = []
    for spans, tail in moves:
        letters = "".join(
            letter
            for code_point, letter in SHORT.items()
            if _inside(code_point, spans) and (every or code_point not in OPTIONAL)
        )
        if letters:
            found.append((chars(letters), *tail))
    return found


def unicode_escapes(moves: ListLike[Move], every: bool, intern: Intern) -> list[Sequence]:
    """`uXXXX` and surrogate pairs; only what has no other spelling, in lower case, unless `every`."""
    spans = [(low, high, tail) for ranges, tail in moves for low, high in ranges]
    if not every:
        spans = _controls(spans)
    if not spans:
        return []
    if every and len(moves) == 1 and moves[0][0] == SCALARS:
        return [(literal("u"), _any_code_point(moves[0][1], intern))]
    case = _both_cases if every else _lower_case
    return [(literal("u"), intern(_Tree(intern, case).first_digit(sorted(spans, key=lambda span: span[0]))))]


def _controls(spans: list[tuple[int, int, Sequence]]) -> list[tuple[int, int, Sequence]]:
    return [
        (code_point, code_point, tail)
        for low, high, tail in spans
        for code_point in range(low, min(high, FIRST_CONTROL_FREE - 1) + 1)
        if code_point not in SHORT
    ]


def _any_code_point(tail: Sequence, intern: Intern) -> Ref:
    """What `_Tree` makes of all code points with one tail, without the search."""
    last = intern(((HEX, *tail),))
    third = intern(((HEX, last),))
    second = intern(((HEX, third),))
    low = intern(((literal("\\u"), chars("dD"), chars("cdefCDEF"), third),))
    high = intern(((HEX, intern(((HEX, low),))),))
    surrogate = intern(((chars("01234567"), third), (chars("89abAB"), high)))
    return intern(((chars("0123456789abcefABCEF"), second), (chars("dD"), surrogate)))


class _Tree:
    """Digits as rules, equal subtrees shared."""

    def __init__(self, intern: Intern, case: Callable[[list[int]], Chars]) -> None:
        self.intern = intern
        self.case = case
        self.full: dict[tuple[tuple[_Level, ...], Sequence], Sequence] = {}

    def first_digit(self, spans: list[tuple[int, int, Sequence]]) -> tuple[Sequence, ...]:
        """The four digits of a code unit; `d8` to `db` open a pair."""
        plain = [span for span in spans if span[0] <= LAST_BMP]
        pairs = [(low - 0x10000, high - 0x10000, tail) for low, high, tail in _from(spans, 0x10000)]
        groups: dict[Sequence, list[int]] = {}
        for digit in range(16):
            inside = _clip(plain, digit << 12, (digit << 12) + 0xFFF)
            if digit == 0xD:
                rest = self.alternatives(_BMP[1:], digit << 12, inside) + self.alternatives(_PAIR, 0, pairs)
                onward: Sequence | None = (self.intern(rest),) if rest else None
            else:
                onward = self.onward(_BMP[1:], digit << 12, inside)
            if onward is not None:
                groups.setdefault(onward, []).append(digit)
        return tuple((self.case(digits), *onward) for onward, digits in groups.items())

    def alternatives(
        self, levels: tuple[_Level, ...], base: int, spans: list[tuple[int, int, Sequence]]
    ) -> tuple[Sequence, ...]:
        """The next digit and all that follows it, digits grouped by what follows. `spans` lie in this subtree."""
        level, rest = levels[0], levels[1:]
        size = 1 << sum(deeper.bits for deeper in rest)
        groups: dict[Sequence, list[int]] = {}
        for digit in range(1 << level.bits):
            low = base + digit * size
            onward = self.onward(rest, low, _clip(spans, low, low + size - 1))
            if onward is not None:
                groups.setdefault(onward, []).append(level.first + digit)
        return tuple((*level.before, self.case(digits), *onward) for onward, digits in groups.items())

    def onward(self, levels: tuple[_Level, ...], base: int, spans: list[tuple[int, int, Sequence]]) -> Sequence | None:
        if not spans:
            return None
        first, last, tail = spans[0]
        if not levels:
            return tail
        if len(spans) > 1 or last - first + 1 < 1 << sum(level.bits for level in levels):
            return (self.intern(self.alternatives(levels, base, spans)),)
        if (levels, tail) not in self.full:
            self.full[levels, tail] = (self.intern(self.alternatives(levels, base, spans)),)
        return self.full[levels, tail]


def _clip(spans: list[tuple[int, int, Sequence]], low: int, high: int) -> list[tuple[int, int, Sequence]]:
    return [(max(a, low), min(b, high), tail) for a, b, tail in spans if a <= high and b >= low]


def _from(spans: list[tuple[int, int, Sequence]], low: int) -> list[tuple[int, int, Sequence]]:
    return [(max(a, low), b, tail) for a, b, tail in spans if b >= low]


def _inside(code_point: int, spans: Ranges) -> bool:
    for low, high in spans:
        if code_point <= high:
            return low <= code_point
    return False


def _lower_case(digits: list[int]) -> Chars:
    return chars("".join(f"{digit:x}" for digit in digits))


def _both_cases(digits: list[int]) -> Chars:
    text = "".join(f"{digit:x}" for digit in digits)
    return chars(text + text.upper())
