"""Regular expressions inside larger grammars: ECMA-262 with flags, and what a dot stands for there."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from engine.patterns.syntax import parse_regex
from engine.patterns.tree import (
    BackReference,
    Choice,
    Class,
    Edge,
    Group,
    Node,
    Ranges,
    Repeat,
    Sequence,
    Undecidable,
    WordEdge,
    outside,
)

Dot = Literal["any", "line", "ecma"]
"""Every character; all but the line feed (as Lark has it); all but ECMA-262's line ends."""
_LINE_FEED: Ranges = ((0x0A, 0x0A),)
_SPECIAL_IN_JSON: Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C))


def read_regex(pattern: str, flags: str = "", *, dot: Dot = "ecma", in_json: bool = False) -> Node:
    """The tree of a pattern, flags worked in: `i` (letters of ASCII in either case), `s` (a dot takes line ends), `u`.

    `in_json` leaves out what a JSON string must escape. A part sees its own characters alone: anchors at its edges
    change nothing, and what looks beyond (lookaround, word edges, anchors in the middle) is refused, as back-references
    are. Raises NotARegex or Undecidable.
    """
    unknown = set(flags) - set("isu")
    if unknown:
        raise Undecidable(f"the flag {min(unknown)!r} of a regular expression")
    node = _changed(parse_regex(pattern), "any" if "s" in flags else dot, "i" in flags, in_json)
    return _alone(node, first=True, last=True)


def _alone(node: Node, *, first: bool, last: bool) -> Node:
    """The node without its anchors; `first` and `last`: it begins, or ends, where the expression does."""
    if isinstance(node, Class):
        return node
    if isinstance(node, Sequence):
        return Sequence(tuple(_alone(part, first=start, last=end) for part, start, end in _edges(node, first, last)))
    if isinstance(node, Choice):
        return Choice(tuple(_alone(part, first=first, last=last) for part in node.parts))
    if isinstance(node, Group):
        return _alone(node.part, first=first, last=last)
    if isinstance(node, Repeat):
        return Repeat(_alone(node.part, first=False, last=False), node.least, node.most)
    if isinstance(node, Edge) and (last if node.at_end else first):
        return Sequence(())
    raise Undecidable(f"{_name(node)} inside a larger grammar")


def _edges(node: Sequence, first: bool, last: bool) -> list[tuple[Node, bool, bool]]:
    """The parts, and whether only anchors stand before and behind each."""
    anchors = [isinstance(part, Edge) for part in node.parts]
    return [(part, first and all(anchors[:at]), last and all(anchors[at + 1 :])) for at, part in enumerate(node.parts)]


def _name(node: Node) -> str:
    if isinstance(node, Edge):
        return f"the anchor {'$' if node.at_end else '^'} in the middle of an expression"
    return {WordEdge: "a word edge", BackReference: "a back-reference"}.get(type(node), "a lookaround")


def _changed(node: Node, dot: Dot, fold: bool, in_json: bool) -> Node:
    if isinstance(node, Class):
        if node.dot and dot != "ecma":
            node = Class(_LINE_FEED if dot == "line" else (), negative=True)
        if fold:
            node = replace(node, ranges=(*node.ranges, *_other_case(node.ranges)))
        return _without(node, _SPECIAL_IN_JSON) if in_json else node
    if isinstance(node, Sequence | Choice):
        return type(node)(tuple(_changed(part, dot, fold, in_json) for part in node.parts))
    if isinstance(node, Repeat | Group):
        return replace(node, part=_changed(node.part, dot, fold, in_json))
    return node


def _other_case(ranges: Ranges) -> Ranges:
    """The letters of ASCII whose other case is in the ranges."""
    found = []
    for first, last, distance in ((0x41, 0x5A, 32), (0x61, 0x7A, -32)):
        for low, high in ranges:
            start, end = max(low, first), min(high, last)
            if start <= end:
                found.append((start + distance, end + distance))
    return tuple(found)


def _without(node: Class, removed: Ranges) -> Class:
    if node.negative:
        return replace(node, ranges=(*node.ranges, *removed))
    if node.properties:
        raise Undecidable("a property in an expression for JSON strings")
    return Class(outside((*outside(node.ranges), *removed)))
