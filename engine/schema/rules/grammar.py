"""The grammar that lowering produces: plain data, printed as EBNF for the matcher and analysed for shortest endings.

Rules should be right-recursive (a rule's references to itself or its chain stand last), since that is the form whose
masks are fast; the closing delimiter belongs inside the recursion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from engine.schema.automata.alphabet import normalise_ranges
from engine.schema.rules.guards import Guard

CARET = 0x5E

KEY_MARK = "\x01"
"""What the matcher's compiler sees behind a key that is none of those declared beside it; no JSON text holds it. A key
that is declared is spelled by two rules, since the compiler sees no guards: the mark tells which one it is."""
UNDECLARED, EITHER = "json.undeclared", "json.either"
"""Ends of the names of two rules of no text, behind such a key and behind any other key: the mark, and perhaps the
mark, where another rule for the same text could ask for it."""
WITHIN = ".in"
"""End of the names of rules whose texts stand in a string, once for each string around them."""
SET = ".set"
"""End of the names of rules of one character, before that."""
HOLDER = ".holder"
"""The same of rules that end a string behind the document that it holds."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One code point out of inclusive, sorted, disjoint `ranges`."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """These code points, one after another. The empty text is the empty word."""

    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    """Whatever the named rule derives."""

    name: str


Symbol = Chars | Text | Ref
Sequence = tuple[Symbol, ...]
Way = tuple[Sequence, Guard | None]
"""An alternative and what it asks of the document so far."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`name ::= alternative | alternative ...`, optionally `(= lookahead)`.

    `lookahead` must cover every code point that can follow the rule wherever it is used; None where the end of the
    document can follow. A lookahead too narrow loses legal tokens in silence, one too wide is only slower.

    `expression` derives the same as a regular expression of XGrammar's dialect and is printed in place of the
    alternatives: rules that refer to each other in a circle are compiled anew in every grammar, expressions are not.
    """

    name: str
    alternatives: tuple[Sequence, ...]
    lookahead: Chars | None = None
    expression: str | None = None
    printed: str | None = field(default=None, compare=False, repr=False)
    """The alternatives in print, where they are known."""
    guards: tuple[Guard | None, ...] = ()
    """What each alternative asks of the document so far; empty: nothing. The matcher's compiler never sees them."""
    least: Sequence | None = None
    """Where there are guards: a shortest text that obeys them from the start of the region, as symbols."""
    skeleton: str | None = None
    """The rule that the matcher's compiler sees in place of this one: it derives the same without guards."""
    _text: str | None = field(default=None, init=False, compare=False, repr=False)
    _references: tuple[str, ...] | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The rule in XGrammar's EBNF; kept, since grammars share rules."""
        if self._text is None:
            object.__setattr__(self, "_text", self._print())
        return self._text  # type: ignore[return-value]  # the line above set it

    def _print(self) -> str:
        if self.expression is not None:
            body = f"Regex({json.dumps(self.expression, ensure_ascii=False)})"
            return f"{self.name} ::= {body}" + (f" (= {_print_chars(self.lookahead)})" if self.lookahead else "")
        body = self.printed or " | ".join(dict.fromkeys(print_alternatives(self.alternatives)))
        if self.lookahead is None:
            return f"{self.name} ::= {body}"
        return f"{self.name} ::= ({body}) (= {_print_chars(self.lookahead)})"

    def text_with(self, names: Mapping[str, str]) -> str:
        """The same with other names for some rules."""
        if names.keys().isdisjoint(self.printed_references):
            return self.text
        return replace(self, printed=" | ".join(dict.fromkeys(print_alternatives(self.alternatives, names)))).text

    @property
    def printed_references(self) -> tuple[str, ...]:
        """Names that `text` mentions, each once."""
        if self._references is None:
            object.__setattr__(self, "_references", () if self.expression is not None else _names(self.alternatives))
        return self._references  # type: ignore[return-value]  # the line above set it

    @property
    def references(self) -> tuple[str, ...]:
        """Names that it needs: those in print, those of its least text, and its skeleton."""
        least = () if self.least is None else _names((self.least,))
        return (*self.printed_references, *least, *filter(None, (self.skeleton,)))


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules by name; `root` derives the whole document. Unreachable rules are legal."""

    rules: Mapping[str, Rule]
    root: str = "root"

    def followed(self) -> set[str]:
        """The rules that are reached from the root but by way of a skeleton. Linear."""
        reached, stack = {self.root}, [self.root]
        while stack:
            rule = self.rules[stack.pop()]
            ways = rule.alternatives if rule.least is None else (*rule.alternatives, rule.least)
            names = {symbol.name for way in ways for symbol in way if isinstance(symbol, Ref)} - reached
            reached |= names
            stack.extend(names)
        return reached

    def to_ebnf(self) -> str:
        """The grammar in XGrammar's EBNF, root first: without what an expression or skeleton stands for. Linear."""
        skeletons = {name: rule.skeleton for name, rule in self.rules.items() if rule.skeleton is not None}
        root = skeletons.get(self.root, self.root)
        reached = dict.fromkeys([root])
        stack = [root]
        while stack:
            for reference in self.rules[stack.pop()].printed_references:
                name = skeletons.get(reference, reference)
                if name not in reached:
                    reached[name] = None
                    stack.append(name)
        text = "\n".join([self.rules[name].text_with(skeletons) for name in reached])
        return text if root == "root" else f"root ::= {root}\n{text}"


def key_marks(*, marked: bool) -> tuple[Rule, Rule]:
    """The rules `UNDECLARED` and `EITHER` of a grammar in which some key is `marked`, or none."""
    mark = f'"{_escape(ord(KEY_MARK), "")}"'
    either = f'"" | {mark}' if marked else '""'
    return Rule(UNDECLARED, ((),), printed=mark), Rule(EITHER, ((),), printed=either)


def _names(alternatives: tuple[Sequence, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([x.name for sequence in alternatives for x in sequence if isinstance(x, Ref)]))


SHORT_SET = 8
"""Ranges of a set that is looked up faster than another one would cost, by each garbage collection that meets it."""


@lru_cache(maxsize=4096)
def literal(text: str) -> Text:
    """The one symbol of this text: kept rules are made of a few thousand different symbols."""
    return Text(text)


def one_of(ranges: tuple[tuple[int, int], ...]) -> Chars:
    """A symbol for one code point out of normalised ranges; the same for the same short ones."""
    return _one_of(ranges) if len(ranges) <= SHORT_SET else Chars(ranges)


_one_of = lru_cache(maxsize=4096)(Chars)


@lru_cache(maxsize=1024)
def chars(*ranges: tuple[int, int] | str) -> Chars:
    """`chars("ab", (0x30, 0x39))`: single characters from strings and inclusive code-point ranges, normalised."""
    spans: list[tuple[int, int]] = []
    for part in ranges:
        spans.extend([(ord(c), ord(c)) for c in part] if isinstance(part, str) else [part])
    return Chars(normalise_ranges(spans))


def fused(symbols: list[Symbol]) -> Sequence:
    """Neighbouring literals as one."""
    found: list[Symbol] = []
    for symbol in symbols:
        if found and isinstance(symbol, Text) and isinstance(found[-1], Text):
            symbol = Text(found.pop().text + symbol.text)  # type: ignore[union-attr]  # the line above saw a Text
        found.append(symbol)
    return tuple(found)


def print_alternatives(alternatives: Iterable[Sequence], names: Mapping[str, str] | None = None) -> list[str]:
    """Each alternative in XGrammar's EBNF; `names` stand for what rules are called in it."""
    found: list[str] = []
    for sequence in alternatives:
        parts: list[str] = []
        for symbol in sequence:
            if isinstance(symbol, Ref):
                parts.append(names.get(symbol.name, symbol.name) if names else symbol.name)
            elif isinstance(symbol, Chars):
                parts.append(_print_chars(symbol))
            elif symbol.text:
                parts.append(_print_text(symbol.text))
        found.append(" ".join(parts) or '""')
    return found


@lru_cache(maxsize=4096)
def _print_text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return " ".join(f'"{run}"' for run in _runs(text))


def _runs(text: str) -> Iterator[str]:
    """Escaped pieces of a literal, each with at most one numeric escape, which stands last (see `_print_chars`)."""
    run = ""
    for char in text:
        piece = _escape(ord(char), '"\\')
        run += piece
        if len(piece) > 2:
            yield run
            run = ""
    if run:
        yield run


@lru_cache(maxsize=4096)
def _print_chars(symbol: Chars) -> str:
    """XGrammar reads any number of hex digits after a numeric escape, so spans that begin with one are printed first.

    At most one such span ends in a numeric escape (the one that leaves ASCII), and it is the last of them.
    A class that begins with a caret is read as a negation even when the caret is escaped, so it never does.
    """
    if symbol.ranges == ((CARET, CARET),):
        return '"^"'
    spans = sorted(symbol.ranges, key=lambda span: not _is_hex_digit(span[0]))
    if spans[0][0] == CARET:
        low, high = spans[0]
        spans = [*spans[1:], (low, high)] if len(spans) > 1 else [(low + 1, high), (low, low)]
    return "[" + "".join(_print_span(low, high) for low, high in spans) + "]"


def _print_span(low: int, high: int) -> str:
    first = _escape(low, "]\\^-[")
    return first if low == high else first + "-" + _escape(high, "]\\^-[")


def _is_hex_digit(code_point: int) -> bool:
    return code_point < 0x80 and chr(code_point) in "0123456789abcdefABCDEF"


def _escape(code_point: int, special: str) -> str:
    if code_point == 0x20 or (0x20 < code_point < 0x7F and chr(code_point) not in special):
        return chr(code_point)
    if 0x20 < code_point < 0x7F:
        return "\\" + chr(code_point)
    return f"\\U{code_point:08x}"
