"""The tokens of XGrammar's EBNF: names, strings, classes, numbers and signs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.patterns.tree import MAX_CODE_POINT, Class

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+ | \#[^\n]*)
    | (?P<string>"(?:\\[^\r\n]|[^"\\\r\n])*")
    | (?P<class>\[(?:\\[^\r\n]|[^\]\\\r\n])*\])
    | (?P<name>[A-Za-z_.-][A-Za-z0-9_.-]*)
    | (?P<number>[0-9]+)
    | (?P<sign>::=|\(=|[(){}|,*+?=])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]+)|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_CONTROLS = {"n": 10, "r": 13, "t": 9, "b": 8, "f": 12, "a": 7, "v": 11, "0": 0, "e": 27}
_IN_STRINGS = "\"\\/'?"
_IN_CLASSES = _IN_STRINGS + "^$.*+()[]{}|-"


class WrongGrammar(ValueError):
    """The text is no grammar of the dialect; the message says where."""


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is name, string, class, number, end, or the sign itself."""

    kind: str
    text: str
    line: int


def tokens(source: str) -> list[Token]:
    """All tokens, an `end` last. Raises WrongGrammar. Linear."""
    return [*_tokens(source), Token("end", "the end of the grammar", source.count("\n") + 1)]


def _tokens(source: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise WrongGrammar(f"unexpected {source[at : at + 20]!r} in line {line}")
        if found.lastgroup != "space":
            kind = found[0] if found.lastgroup == "sign" else str(found.lastgroup)
            yield Token(kind, found[0], line)
        line += found[0].count("\n")
        at = found.end()


def string_of(token: Token) -> str:
    """What a string stands for."""
    return "".join(chr(code) for code, _ in _characters(token, token.text[1:-1], _IN_STRINGS))


def class_of(token: Token) -> Class:
    """The code points of a class; `-` between two characters is a range."""
    inside = token.text[1:-1]
    negative = inside.startswith("^")
    members = list(_characters(token, inside[negative:], _IN_CLASSES))
    ranges, at = [], 0
    while at < len(members):
        low = high = members[at][0]
        if at + 2 < len(members) and members[at + 1][1]:
            high = members[at + 2][0]
            at += 2
        if high < low:
            raise WrongGrammar(f"a range out of order in {token.text} in line {token.line}")
        ranges.append((low, high))
        at += 1
    return Class(tuple(ranges), negative=negative)


def _characters(token: Token, text: str, escapable: str) -> Iterator[tuple[int, bool]]:
    """Code points, and whether each is a dash that was written plainly."""
    for found in _ESCAPE.finditer(text):
        hexadecimal = found[1] or found[2] or found[3]
        if hexadecimal:
            code = int(hexadecimal, 16)
            if code > MAX_CODE_POINT or (token.kind == "string" and 0xD800 <= code < 0xE000):
                raise WrongGrammar(f"no such character: {found[0]} in line {token.line}")
            yield code, False
        elif found[4] is None:
            yield ord(found[5]), found[5] == "-"
        elif found[4] in escapable:
            yield ord(found[4]), False
        elif found[4] in _CONTROLS:
            yield _CONTROLS[found[4]], False
        else:
            raise WrongGrammar(f"{found[0]} is no escape, in line {token.line}")
