"""Syntax trees of regular expressions, and what can go wrong on the way to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.schema.automata.alphabet import Ranges


class PatternInvalid(Exception):
    """Not an ECMA-262 regular expression."""


class PatternUnsupported(Exception):
    """A legal expression whose language is not regular, or that this translation leaves out; says which part."""


@dataclass(frozen=True, slots=True)
class Set:
    """One code point out of `ranges`."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """All parts, one after another; no parts: the empty word."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`minimum` to `maximum` (None: no limit) times the part. Greedy and lazy have the same language."""

    part: Node
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Edge:
    """`^` (at the start) or `$` (at the end of the text)."""

    at_end: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Lookahead or lookbehind; `negative`: must not match. Word edges are written with these."""

    part: Node
    ahead: bool
    negative: bool


Node = Set | Sequence | Choice | Repeat | Edge | Look


def walk(node: Node) -> Iterator[Node]:
    """The node and everything inside it."""
    yield node
    if isinstance(node, Sequence | Choice):
        for part in node.parts:
            yield from walk(part)
    elif isinstance(node, Repeat | Look):
        yield from walk(node.part)
