"""Regular expressions for the validator's engine (fancy-regex): written so that it reads them as ECMA-262 does.

That engine takes `\\<`, `\\z`, `(?i)`, possessive repeats and nested classes for something of its own, its `.` takes a
carriage return, its word edges are Unicode's. So every set is written out, every other construct is written in the one
way that both read alike, and what has no such way is refused by name.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.patterns.syntax import parse_regex
from engine.patterns.tree import (
    WORD,
    BackReference,
    Choice,
    Class,
    Edge,
    Group,
    Look,
    Node,
    Repeat,
    Sequence,
    Undecidable,
    WordEdge,
)

_ALIKE = re.compile(r"[A-Za-z0-9 _@#%&,:;=!<>'\"~/^$|*+?-]*")
"""Patterns of these characters alone mean the same to both, unless repeats or an anchor's repeat stand together."""
_DOUBLED = re.compile(r"[*+?][*+?]|[$^][*+?]|(?:^|\|)[*+?]")
_BACKTRACKING = re.compile(r"\(\?<?[=!]|\\[1-9]")
_SURROGATES = (0xD800, 0xDFFF)


@lru_cache(maxsize=4096)
def for_engine(pattern: str) -> str:
    """The pattern as the engine must be given it. Raises NotARegex or Undecidable. Linear."""
    if _ALIKE.fullmatch(pattern) and not _DOUBLED.search(pattern):
        return pattern
    return _written(parse_regex(pattern), frozenset())[0]


def backtracks(written: str) -> bool:
    """Whether the engine goes back over the text for this pattern: then it may need any time, and a stack."""
    return _BACKTRACKING.search(written) is not None


def _written(node: Node, known: frozenset[int]) -> tuple[str, frozenset[int]]:
    """The text of a node, and the groups that have surely matched behind it; `known` have in front of it."""
    if isinstance(node, Sequence):
        pieces = []
        for part in node.parts:
            piece, known = _written(part, known)
            pieces.append(f"(?:{piece})" if isinstance(part, Choice) else piece)
        return "".join(pieces), known
    if isinstance(node, Choice):
        ways = [_written(part, known) for part in node.parts]
        return "|".join(text for text, _ in ways), frozenset.intersection(*(groups for _, groups in ways))
    if isinstance(node, Repeat):
        text, groups = _written(node.part, known)
        return f"(?:{text}){_bounds(node)}", groups if node.least else known
    if isinstance(node, Group):
        text, groups = _written(node.part, known)
        return f"({text})", groups | {node.number}
    if isinstance(node, Look):
        text, groups = _written(node.part, known)
        sign = ("" if node.ahead else "<") + ("!" if node.negative else "=")
        return f"(?{sign}{text})", groups if node.ahead and not node.negative else known
    return _atom(node, known), known


def _atom(node: Node, known: frozenset[int]) -> str:
    if isinstance(node, BackReference):
        if node.number not in known:
            raise Undecidable(f"a back-reference to group {node.number}, which need not have matched before it")
        return f"(?:\\{node.number})"
    if isinstance(node, Edge):
        return "$" if node.at_end else "^"
    if isinstance(node, WordEdge):
        word = class_text(Class(WORD))
        inside, outside = (f"(?<={word})", f"(?={word})"), (f"(?<!{word})", f"(?!{word})")
        ways = (inside, outside) if node.negative else ((inside[0], outside[1]), (outside[0], inside[1]))
        return f"(?:{''.join(ways[0])}|{''.join(ways[1])})"
    if isinstance(node, Class):
        return class_text(node)
    raise TypeError(f"unknown node {node!r}")


def _bounds(node: Repeat) -> str:
    usual = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.least, node.most))
    if usual is not None:
        return usual
    if node.least == node.most:
        return f"{{{node.least}}}"
    return f"{{{node.least},{'' if node.most is None else node.most}}}"


def class_text(node: Class) -> str:
    """A class with every member written by its number. An empty one matches nowhere."""
    ranges = [part for low, high in node.ranges for part in _scalars(low, high)]
    if not ranges and not node.properties:
        return "[\\u{0}-\\u{10FFFF}]" if node.negative else "(?!)"
    members = "".join(_span(low, high) for low, high in ranges)
    names = "".join(f"\\{'P' if negative else 'p'}{{{name}}}" for name, negative in node.properties)
    return f"[{'^' if node.negative else ''}{members}{names}]"


def _scalars(low: int, high: int) -> list[tuple[int, int]]:
    """A range without the halves of surrogate pairs, which no text holds."""
    first, last = _SURROGATES
    parts = [(low, min(high, first - 1)), (max(low, last + 1), high)]
    return [(start, end) for start, end in parts if start <= end]


def _span(low: int, high: int) -> str:
    return f"\\u{{{low:X}}}" if low == high else f"\\u{{{low:X}}}-\\u{{{high:X}}}"
