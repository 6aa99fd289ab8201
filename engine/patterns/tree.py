"""Syntax trees of regular expressions as the judge reads them, and the sets that ECMA-262 names."""

from __future__ import annotations

from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]

MAX_CODE_POINT = 0x10FFFF
DIGIT: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))


class NotARegex(ValueError):
    """The text is no regular expression of the dialect; the message says where."""


class Undecidable(ValueError):
    """A legal expression with a part that cannot be judged here; the message names it."""


class Node:
    """A part of an expression, or of a grammar (`earley` adds kinds of its own)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Class(Node):
    """One code point: of `ranges` or with one of `properties` (text of `\\p{...}`, whether negated); or none."""

    ranges: Ranges
    properties: tuple[tuple[str, bool], ...] = ()
    negative: bool = False
    dot: bool = False
    """It was written as a dot, which flags and dialects read differently."""


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    """`most` is None for no limit; greedy or lazy is the same language."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Group(Node):
    """A capturing group with its number."""

    part: Node
    number: int


@dataclass(frozen=True, slots=True)
class Edge(Node):
    """`^` or `$`: the start or the end of the text."""

    at_end: bool


@dataclass(frozen=True, slots=True)
class WordEdge(Node):
    negative: bool


@dataclass(frozen=True, slots=True)
class Look(Node):
    part: Node
    ahead: bool
    negative: bool


@dataclass(frozen=True, slots=True)
class BackReference(Node):
    number: int


def outside(ranges: Ranges) -> Ranges:
    """The code points that are in none of the ranges."""
    free, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            free.append((start, low - 1))
        start = max(start, high + 1)
    return (*free, (start, MAX_CODE_POINT)) if start <= MAX_CODE_POINT else tuple(free)
