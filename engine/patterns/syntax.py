"""The judge's own reading of regular expressions: ECMA-262 in unicode mode, to a syntax tree.

Written apart from the compiler's parser on purpose: what one of them misreads, the other does not. Both take the
identity escapes that web patterns are full of (`\\-`, `\\_`, `\\@`) and a lone `{`, `}` or `]` as itself.
"""

from __future__ import annotations

import re

from engine.patterns.escapes import Scanner, one
from engine.patterns.tree import (
    LINE_ENDS,
    BackReference,
    Choice,
    Class,
    Edge,
    Group,
    Look,
    Node,
    NotARegex,
    Repeat,
    Sequence,
    Undecidable,
    WordEdge,
    outside,
)

DEPTH = 200
"""Groups within groups."""
COUNT = 1 << 31

_BOUNDS = re.compile(r"\{([0-9]+)(,)?([0-9]+)?\}")
_LOOKS = {"(?=": (True, False), "(?!": (True, True), "(?<=": (False, False), "(?<!": (False, True)}


def parse_regex(pattern: str) -> Node:
    """The tree of a pattern. Raises NotARegex or Undecidable. Linear."""
    return _Parser(pattern).whole()


class _Parser(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.groups = 0
        self.names: dict[str, int] = {}
        self.wanted: list[tuple[int | str, int]] = []

    def whole(self) -> Node:
        self._names_ahead()
        node = self.choice()
        if self.at < len(self.text):
            raise self.wrong("unmatched )")
        for reference, at in self.wanted:
            if isinstance(reference, int) and reference > self.groups:
                raise NotARegex(f"no group {reference} for the back-reference at character {at}")
        return node

    def _names_ahead(self) -> None:
        """Numbers of named groups, which a back-reference may name before they stand."""
        number, at, in_class = 0, 0, False
        while at < len(self.text):
            character = self.text[at]
            if character == "\\":
                at += 1
            elif character in "[]":
                in_class = character == "["
            elif character == "(" and not in_class:
                name = re.compile(r"\(\?<(?![=!])([^>]*)>").match(self.text, at)
                number += name is not None or not self.text.startswith("(?", at)
                if name is not None and self.names.setdefault(name[1], number) != number:
                    raise NotARegex(f"two groups are named {name[1]!r}")
            at += 1

    def choice(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise Undecidable(f"groups nested deeper than {DEPTH}")
        parts = [self.sequence()]
        while self.skip("|"):
            parts.append(self.sequence())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.term())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def term(self) -> Node:
        assertion = self.assertion()
        part = assertion or self.atom()
        bounds = self.bounds()
        if bounds is None:
            return part
        if assertion is not None:
            raise self.wrong("an assertion cannot be repeated")
        self.skip("?")
        if self.bounds() is not None:
            raise self.wrong("nothing to repeat")
        return Repeat(part, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for sign, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.skip(sign):
                return least, most
        found = _BOUNDS.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        low = int(found[1][:20])
        high = low if not found[2] else int(found[3][:20]) if found[3] else None
        if high is not None and high < low:
            raise self.wrong("numbers out of order in {}")
        return min(low, COUNT), high if high is None else min(high, COUNT)

    def assertion(self) -> Node | None:
        for sign, node in (("^", Edge(False)), ("$", Edge(True)), ("\\b", WordEdge(False)), ("\\B", WordEdge(True))):
            if self.skip(sign):
                return node
        for sign, (ahead, negative) in _LOOKS.items():
            if self.skip(sign):
                return Look(self.closed(self.choice()), ahead, negative)
        return None

    def atom(self) -> Node:
        character = self.next()
        if character == "(":
            return self.group()
        if character == "[":
            return self.bracket()
        if character == "\\":
            return self.escape()
        if character == ".":
            return Class(LINE_ENDS, negative=True, dot=True)
        if character in "*+?":
            self.at -= 1
            raise self.wrong("nothing to repeat")
        return one(ord(character))

    def group(self) -> Node:
        if self.skip("?:"):
            return self.closed(self.choice())
        if self.skip("?<"):
            name, end, _ = self.text[self.at :].partition(">")
            if not end or not name.replace("$", "_").isidentifier():
                raise self.wrong("bad group name")
            self.at += len(name) + 1
        elif self.skip("?"):
            raise self.wrong("unknown kind of group")
        self.groups += 1
        number = self.groups
        return Group(self.closed(self.choice()), number)

    def closed(self, node: Node) -> Node:
        if not self.skip(")"):
            raise self.wrong("missing )")
        return node

    def escape(self) -> Node:
        if self.at < len(self.text) and self.text[self.at] in "123456789":
            digits = re.compile("[0-9]+").match(self.text, self.at)
            self.at = digits.end() if digits else self.at
            number = int(digits[0][:9]) if digits else 0
            self.wanted.append((number, self.at))
            return BackReference(number)
        if self.skip("k"):
            name, end, _ = self.text[self.at + 1 :].partition(">")
            if not self.skip("<") or not end or name not in self.names:
                raise self.wrong("\\k names no group")
            self.at += len(name) + 1
            return BackReference(self.names[name])
        return self.escaped()

    def bracket(self) -> Node:
        negative = self.skip("^")
        ranges: list[tuple[int, int]] = []
        properties: list[tuple[str, bool]] = []
        while not self.skip("]"):
            low = self.member()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                ranges.append(self.span(low, self.member()))
            elif low.negative:
                ranges.extend(outside(low.ranges))
            else:
                ranges.extend(low.ranges)
                properties.extend(low.properties)
        return Class(tuple(ranges), tuple(properties), negative)

    def member(self) -> Class:
        if self.at >= len(self.text):
            raise self.wrong("missing ]")
        character = self.next()
        if character != "\\":
            return one(ord(character))
        return one(8) if self.skip("b") else self.escaped()

    def span(self, low: Class, high: Class) -> tuple[int, int]:
        ends = [part.ranges[0] for part in (low, high) if len(part.ranges) == 1 and not part.negative]
        if len(ends) < 2 or any(start != end for start, end in ends):
            raise self.wrong("a class escape cannot bound a range")
        if ends[0] > ends[1]:
            raise self.wrong("range out of order")
        return ends[0][0], ends[1][0]
