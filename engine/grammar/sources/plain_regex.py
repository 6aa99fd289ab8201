"""Regular expressions written so that XGrammar reads them as we do.

XGrammar has two readers of regular expressions. Both ignore lookahead and anchors in the middle with a warning, and
each has its own idea of `.`, `\\s`, escapes and case. Here characters are written by number, in positive classes, with
groups, alternatives and repeats alone.
"""

from __future__ import annotations

from typing import Literal

from engine.errors import SchemaInvalid, SchemaRefused
from engine.schema.automata.alphabet import SCALARS, Ranges, without
from engine.schema.regex.parser import parse
from engine.schema.regex.tree import Choice, Edge, Node, PatternInvalid, PatternUnsupported, Repeat, Sequence, Set
from engine.schema.regex.unicode_sets import LINE_FEED

Dot = Literal["any", "line", "ecma"]
_DOTS: dict[Dot, Ranges | None] = {"any": SCALARS, "line": without(LINE_FEED), "ecma": None}
_CARET = 0x5E
_SPECIAL_IN_JSON: Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C))


def plain_regex(pattern: str, flags: str, dot: Dot, param: str) -> str:
    """The pattern as a regular expression, its flags (`i`, `s`, `u`) worked in. Raises SchemaInvalid or SchemaRefused.
    Linear."""
    return _text(_read(pattern, flags, dot, param), param) or "(?:)"


def plain_ebnf(pattern: str, flags: str, dot: Dot, param: str, *, in_json: bool = False) -> str:
    """The same as an EBNF expression in parentheses. `in_json`: without what a JSON string must escape."""
    return f"({_expression(_read(pattern, flags, dot, param), param, in_json)})"


def _read(pattern: str, flags: str, dot: Dot, param: str) -> Node:
    any_character = _DOTS["any" if "s" in flags else dot]
    try:
        return parse(pattern, fold="i" in flags, any_character=any_character)
    except PatternInvalid as error:
        raise SchemaInvalid(f"{pattern[:80]!r} is not a regular expression: {error}", param=param) from None
    except PatternUnsupported as error:
        raise SchemaRefused(f"{pattern[:80]!r} cannot be enforced: {error}", param=param) from None


def _text(node: Node, param: str) -> str:
    if isinstance(node, Sequence):
        return "".join(f"(?:{_text(p, param)})" if isinstance(p, Choice) else _text(p, param) for p in node.parts)
    if isinstance(node, Choice):
        return "|".join(_text(part, param) or "(?:)" for part in node.parts)
    if isinstance(node, Set):
        return "\\^" if node.ranges == ((_CARET, _CARET),) else _class(node.ranges, param)
    if isinstance(node, Repeat):
        inside = _text(node.part, param)
        return f"(?:{inside}){_bounds(node)}" if inside else ""
    return _nothing(node, param)


def _expression(node: Node, param: str, in_json: bool) -> str:
    if isinstance(node, Sequence | Choice):
        parts = (_expression(part, param, in_json) for part in node.parts)
        if isinstance(node, Choice):
            return f"({' | '.join(parts)})"
        return " ".join(parts) or '""'
    if isinstance(node, Set):
        ranges = without([*without(node.ranges), *_SPECIAL_IN_JSON]) if in_json else node.ranges
        return '"^"' if ranges == ((_CARET, _CARET),) else _class(ranges, param)
    if isinstance(node, Repeat):
        return f"({_expression(node.part, param, in_json)}){_bounds(node)}"
    return _nothing(node, param) or '""'


def _nothing(node: Node, param: str) -> str:
    """An anchor at the edge of its part, where it changes nothing: the judge has refused any other."""
    if isinstance(node, Edge):
        return ""
    raise SchemaRefused("lookaround inside a larger grammar cannot be enforced", param=param)


def _bounds(node: Repeat) -> str:
    usual = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((node.minimum, node.maximum))
    if usual is not None or node.minimum == node.maximum:
        return usual or f"{{{node.minimum}}}"
    return f"{{{node.minimum},{'' if node.maximum is None else node.maximum}}}"


def _class(ranges: Ranges, param: str) -> str:
    """A caret never stands first, where it would negate."""
    if not ranges:
        raise SchemaRefused("a class that no character is in leaves nothing to write", param=param)
    spans = [(low + (low == _CARET), high) for low, high in ranges]
    caret = "^" if any(low == _CARET for low, _ in ranges) else ""
    return f"[{''.join(_span(low, high) for low, high in spans if low <= high)}{caret}]"


def _span(low: int, high: int) -> str:
    return _character(low) if low == high else f"{_character(low)}-{_character(high)}"


def _character(code_point: int) -> str:
    character = chr(code_point)
    if code_point > 0xFFFF or (character.isascii() and character.isalnum()):
        return character
    return f"\\u{code_point:04X}"
