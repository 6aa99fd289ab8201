"""The right-hand side of a grammar's rule: literals, names, and ``( ) ? * + % |``."""

from __future__ import annotations

import re

Expr = tuple[str, tuple["Expr", ...]] | str
"""A symbol, or ('or' | 'seq' | '?' | '+' | '%', parts); `x*` is `(x+)?`."""

_TOKEN = re.compile(r"\s*(?:('(?:[^'\\]|\\.)+')|(\w+)|([()?*+%|])|#[^\n]*)")


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match:
                raise ValueError(f"grammar: not understood: {text[at : at + 40]!r}")
            at = match.end()
            if found := match[1] or match[2] or match[3]:
                self._tokens.append(found)
        self._tokens.reverse()

    def peek(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def alternatives(self) -> Expr:
        parts = [self._sequence()]
        while self.peek() == "|":
            self._tokens.pop()
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else ("or", tuple(parts))

    def _sequence(self) -> Expr:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self._repeated())
        return parts[0] if len(parts) == 1 else ("seq", tuple(parts))

    def _repeated(self) -> Expr:
        part = self._atom()
        while self.peek() in ("?", "*", "+", "%"):
            operator = self._tokens.pop()
            if operator == "%":
                part = ("%", (part, self._atom()))
            elif operator == "*":
                part = ("?", (("+", (part,)),))
            else:
                part = (operator, (part,))
        return part

    def _atom(self) -> Expr:
        token = self._tokens.pop()
        if token != "(":
            if token in ")?*+%|":
                raise ValueError(f"grammar: {token!r} has nothing before it")
            return token
        inner = self.alternatives()
        if self.peek() != ")":
            raise ValueError("grammar: a parenthesis is not closed")
        self._tokens.pop()
        return inner


def parse_expression(text: str) -> Expr:
    reader = _Reader(text)
    found = reader.alternatives()
    if reader.peek():
        raise ValueError(f"grammar: {reader.peek()!r} closes nothing")
    return found
