"""XGrammar's printed grammars read back into our own form, for constraints that did not start as a schema.

Knows the printed notation only: rules of parenthesised alternatives, literals, character classes (also starred),
references (also repeated), lookaheads (skipped: they never change the language) and tag dispatch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.grammar.sources.tag_dispatch import dispatch_rules
from engine.schema.automata.alphabet import normalise_ranges, without
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Sequence, Symbol, Text

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<klass>\[(?:[^\]\\]|\\.)*\])
    | (?P<count>\{-?\d+,\s*-?\d+\})
    | (?P<name>[A-Za-z_][\w.\-]*)
    | (?P<mark>::=|\(=|[()|*,=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}
_MOST_REQUIRED = 2_000
_MOST_OPTIONAL = 256


class NotReadable(ValueError):
    """The grammar uses something that has no rule form here (token-level formats, very long repeats)."""


def read(printed: str, root: str = "root") -> Grammar:
    """The grammar of `str(xgrammar.Grammar)`. Linear. Raises NotReadable."""
    return _Reader(printed).grammar(root)


class _Reader:
    def __init__(self, printed: str) -> None:
        self._tokens = list(_tokens(printed))
        self._at = 0
        self._rules: dict[str, Rule] = {}

    def grammar(self, root: str) -> Grammar:
        while self._at < len(self._tokens):
            name = self._take("name")
            self._take("mark", "::=")
            if self._peek() == ("name", "TagDispatch"):
                self._dispatch(name)
            else:
                self._rules[name] = Rule(name, self._body(name))
            if self._peek() == ("mark", "(="):
                self._skip_group()
        return Grammar(self._rules, root)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, kind: str, value: str | None = None) -> str:
        found = self._peek()
        if found[0] != kind or (value is not None and found[1] != value):
            raise NotReadable(f"expected {value or kind}, got {found[1]!r}")
        self._at += 1
        return found[1]

    def _skip_group(self) -> None:
        depth = 0
        while self._at < len(self._tokens):
            mark = self._tokens[self._at]
            self._at += 1
            depth += (mark[0] == "mark" and mark[1] in ("(", "(=")) - (mark == ("mark", ")"))
            if not depth:
                return

    def _body(self, name: str) -> tuple[Sequence, ...]:
        self._take("mark", "(")
        alternatives = [self._alternative(name)]
        while self._peek() == ("mark", "|"):
            self._at += 1
            alternatives.append(self._alternative(name))
        self._take("mark", ")")
        return tuple(alternatives)

    def _alternative(self, name: str) -> Sequence:
        if self._peek()[0] == "text":
            return _literal(self._take("text"))
        self._take("mark", "(")
        symbols: list[Symbol] = []
        while self._peek() != ("mark", ")"):
            symbols.extend(self._element(name))
        self._at += 1
        return tuple(symbols)

    def _element(self, name: str) -> Sequence:
        kind, value = self._peek()
        self._at += 1
        if kind == "text":
            return _literal(value)
        if kind == "klass":
            ranges = _ranges(value)
            if self._peek() == ("mark", "*"):
                self._at += 1
                return (self._star(name, Chars(ranges)),)
            return (Chars(ranges),)
        if kind == "name" and self._peek() != ("mark", "("):
            if self._peek()[0] == "count":
                low, high = (int(part) for part in self._take("count")[1:-1].split(","))
                return self._repeat(name, Ref(value), low, high)
            return (Ref(value),)
        raise NotReadable(f"{value} has no rule form")

    def _fresh(self, name: str) -> str:
        return f"{name}.{len(self._rules)}"

    def _star(self, name: str, symbol: Symbol) -> Ref:
        star = self._fresh(name)
        self._rules[star] = Rule(star, ((), (symbol, Ref(star))))
        return Ref(star)

    def _repeat(self, name: str, symbol: Symbol, low: int, high: int) -> Sequence:
        if low > _MOST_REQUIRED:
            raise NotReadable(f"a repeat of {low}")
        if high < 0 or high - low > _MOST_OPTIONAL:
            return (*[symbol] * low, self._star(name, symbol))
        rest: Sequence = ()
        for _ in range(high - low):
            optional = self._fresh(name)
            self._rules[optional] = Rule(optional, ((), (symbol, *rest)))
            rest = (Ref(optional),)
        return (*[symbol] * low, *rest)

    def _dispatch(self, name: str) -> None:
        self._at += 1
        self._take("mark", "(")
        triggers: list[tuple[str, str]] = []
        excludes: list[str] = []
        loop = True
        while self._peek() != ("mark", ")"):
            if self._peek() == ("mark", "("):
                self._at += 1
                trigger = _decode(self._take("text"))
                self._take("mark", ",")
                triggers.append((trigger, self._take("name")))
                self._take("mark", ")")
            else:
                option = self._take("name")
                self._take("mark", "=")
                if option == "excludes":
                    excludes = self._texts()
                else:
                    loop = self._take("name") == "true"
            if self._peek() == ("mark", ","):
                self._at += 1
        self._at += 1
        self._rules.update(dispatch_rules(name, triggers, excludes, loop=loop))

    def _texts(self) -> list[str]:
        self._take("mark", "(")
        found = []
        while self._peek() != ("mark", ")"):
            if self._peek() == ("mark", ","):
                self._at += 1
            else:
                found.append(_decode(self._take("text")))
        self._at += 1
        return found


def _tokens(printed: str) -> Iterator[tuple[str, str]]:
    position, printed = 0, printed.rstrip()
    while position < len(printed):
        match = _TOKEN.match(printed, position)
        if match is None or match.lastgroup is None:
            raise NotReadable(f"cannot read {printed[position : position + 40]!r}")
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _literal(printed: str) -> Sequence:
    text = _decode(printed)
    return (Text(text),) if text else ()


def _decode(printed: str) -> str:
    return "".join(chr(code_point) for code_point, _ in _characters(printed[1:-1]))


def _characters(body: str) -> Iterator[tuple[int, bool]]:
    """Code points, and whether each stood plainly (an escaped minus is no range)."""
    for match in _ESCAPE.finditer(body):
        x, u, long, short, plain = match.groups()
        if plain is not None:
            yield ord(plain), True
        elif short is not None:
            yield ord(_SHORT.get(short, short)), False
        else:
            yield int(x or u or long, 16), False


def _ranges(printed: str) -> tuple[tuple[int, int], ...]:
    body = printed[1:-1]
    negated = body.startswith("^")
    parts = list(_characters(body[1:] if negated else body))
    spans: list[tuple[int, int]] = []
    index = 0
    while index < len(parts):
        if index + 2 < len(parts) and parts[index + 1] == (0x2D, True):
            spans.append((parts[index][0], parts[index + 2][0]))
            index += 3
        else:
            spans.append((parts[index][0], parts[index][0]))
            index += 1
    ranges = normalise_ranges(spans)
    return without(ranges) if negated else ranges
