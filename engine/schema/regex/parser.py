"""ECMA-262 regular expressions (unicode mode) to a syntax tree.

Knows the grammar of patterns. Knows nothing of automata. As validators do, it takes the identity escapes that web
patterns are full of (`\\-`, `\\_`, `\\@`); as web browsers do, a lone `{`, `}` or `]` as itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.schema.automata.alphabet import Ranges, scalars, without
from engine.schema.regex.classes import DOT, word_edge
from engine.schema.regex.escapes import LOOKAROUNDS, Scanner
from engine.schema.regex.tree import (
    Choice,
    Edge,
    Look,
    Node,
    PatternUnsupported,
    Repeat,
    Sequence,
    Set,
)

DEPTH_LIMIT = 200
COUNT_LIMIT = 2**31


def parse(pattern: str, upper: bool = False, *, fold: bool = False, any_character: Ranges | None = None) -> Node:
    """The tree of `pattern` in its lower or upper reading (see `classes`). `fold`: the case of ASCII letters does
    not count; `any_character`: what a dot stands for, if not what ECMA-262 says.

    Raises PatternInvalid or PatternUnsupported. Linear in the pattern.
    """
    parser = _Parser(pattern, upper)
    parser.fold, parser.any_character = fold, any_character
    return parser.whole()


class _Parser(Scanner):
    """Recursive descent over alternatives, sequences, groups and classes."""

    depth = 0
    fold = False
    any_character: Ranges | None = None

    def whole(self) -> Node:
        node = self.choice()
        if self.at < len(self.text):
            raise self.invalid("unmatched )")
        return node

    def choice(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise PatternUnsupported(f"groups nested deeper than {DEPTH_LIMIT}")
        parts = [self.sequence()]
        while self.skip("|"):
            parts.append(self.sequence())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            assertion = self.assertion()
            if assertion is not None:
                parts.append(assertion)
            else:
                parts.append(self.quantified(self.atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def quantified(self, part: Node) -> Node:
        bounds = self.bounds()
        if bounds is None:
            return part
        self.skip("?")
        if self.bounds() is not None:
            raise self.invalid("nothing to repeat")
        return Repeat(part, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for sign, minimum, maximum in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.skip(sign):
                return minimum, maximum
        if self.peek() != "{":
            return None
        body, closed, _ = self.text[self.at + 1 :].partition("}")
        low, comma, high = body.partition(",")
        if not closed or not _is_digits(low) or (high and not _is_digits(high)):
            return None
        self.at += len(body) + 2
        least = int(low)
        most = least if not comma else (int(high) if high else None)
        if most is not None and most < least:
            raise self.invalid("numbers out of order in {}")
        return min(least, COUNT_LIMIT), most

    def assertion(self) -> Node | None:
        """`^`, `$`, `\\b`, `\\B` or a lookaround; None when something else comes."""
        node = self.edge() or self.lookaround()
        if node is not None and self.bounds() is not None:
            raise self.invalid("an assertion cannot be repeated")
        return node

    def edge(self) -> Node | None:
        for sign, at_end in (("^", False), ("$", True)):
            if self.skip(sign):
                return Edge(at_end)
        for sign, negative in (("\\b", False), ("\\B", True)):
            if self.skip(sign):
                return word_edge(negative)
        return None

    def lookaround(self) -> Node | None:
        for sign in LOOKAROUNDS:
            if self.skip(sign):
                negative = sign.endswith("!")
                self.upper ^= negative
                part = self.closed(self.choice())
                self.upper ^= negative
                return Look(part, "<" not in sign, negative)
        return None

    def atom(self) -> Node:
        character = self.text[self.at]
        self.at += 1
        if character == "(":
            return self.group()
        if character == "[":
            return Set(self.bracket())
        if character == "\\":
            return self.escape()
        if character == ".":
            return Set(self.any_character or DOT)
        if character in "*+?":
            self.at -= 1
            raise self.invalid("nothing to repeat")
        return Set(self.folded([(ord(character), ord(character))]))

    def group(self) -> Node:
        if self.skip("?<"):
            name, end, _ = self.text[self.at :].partition(">")
            if not end or not name.replace("$", "_").isidentifier():
                raise self.invalid("bad group name")
            self.at += len(name) + 1
        elif self.peek() == "?" and not self.skip("?:"):
            raise self.invalid("unknown kind of group")
        return self.closed(self.choice())

    def closed(self, node: Node) -> Node:
        if not self.skip(")"):
            raise self.invalid("missing )")
        return node

    def escape(self) -> Node:
        character = self.peek()
        if character == "k" or (character and character in "123456789"):
            raise PatternUnsupported("back-references are not regular")
        return Set(self.folded(self.escaped_set()))

    def bracket(self) -> Ranges:
        negative = self.skip("^")
        self.upper ^= negative
        spans: list[tuple[int, int]] = []
        while not self.skip("]"):
            if self.at >= len(self.text):
                raise self.invalid("missing ]")
            low = self.member()
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                spans.extend(self.span(low, self.member()))
            else:
                spans.extend(low)
        self.upper ^= negative
        return without(self.folded(spans)) if negative else self.folded(spans)

    def folded(self, spans: Iterable[tuple[int, int]]) -> Ranges:
        """The set, with both cases of its ASCII letters where case does not count."""
        found = list(spans)
        for low, high in found.copy() if self.fold else ():
            for start, end, distance in ((0x41, 0x5A, 0x20), (0x61, 0x7A, -0x20)):
                if max(low, start) <= min(high, end):
                    found.append((max(low, start) + distance, min(high, end) + distance))
        return scalars(found)

    def span(self, low: Ranges, high: Ranges) -> Ranges:
        if not all(len(part) == 1 and part[0][0] == part[0][1] for part in (low, high)):
            raise self.invalid("a class escape cannot bound a range")
        if low[0][0] > high[0][0]:
            raise self.invalid("range out of order")
        return ((low[0][0], high[0][0]),)

    def member(self) -> Ranges:
        character = self.text[self.at]
        self.at += 1
        if character != "\\":
            return ((ord(character), ord(character)),)
        if self.skip("b"):
            return ((8, 8),)
        return self.escaped_set()


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
