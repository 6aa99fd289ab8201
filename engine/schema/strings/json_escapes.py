"""Escape sequences of JSON strings, as alternatives that follow a backslash.

Knows RFC 8259 section 7 and UTF-16 surrogate pairs. Knows nothing of automata: it gets ranges and where they lead.
"""

from __future__ import annotations

from collections.abc import Sequence as ListLike
from functools import lru_cache

from engine.schema.automata.alphabet import Ranges
from engine.schema.rules.grammar import Sequence, chars, literal

SHORT = {0x22: '"', 0x5C: "\\", 0x2F: "/", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}
OPTIONAL = frozenset({0x2F})
FIRST_CONTROL_FREE = 0x20

Move = tuple[Ranges, Sequence]


def inline_escapes(moves: ListLike[Move]) -> list[Sequence]:
    """json.dumps' own escapes as alternatives of one rule, backslash included."""
    return [(*escape, *tail) for kind in (_short, _controls) for spans, tail in moves for escape in kind(spans)]


@lru_cache(maxsize=4096)
def _short(spans: Ranges) -> list[Sequence]:
    letters = "".join(SHORT[c] for c in SHORT if c not in OPTIONAL and _inside(c, spans))
    return [(literal("\\"), chars(letters))] if letters else []


@lru_cache(maxsize=4096)
def _controls(spans: Ranges) -> list[Sequence]:
    controls = [c for c in range(FIRST_CONTROL_FREE) if c not in SHORT and _inside(c, spans)]
    digits = ["".join(f"{c & 15:x}" for c in controls if c >> 4 == sixteen) for sixteen in (0, 1)]
    return [(literal(f"\\u00{sixteen}"), chars(part)) for sixteen, part in enumerate(digits) if part]


def loop_escapes(tail: Sequence) -> list[Sequence]:
    """Every escape of any character, all leading to `tail`, as alternatives of one rule."""
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


def _inside(code_point: int, spans: Ranges) -> bool:
    return any(low <= code_point <= high for low, high in spans)
