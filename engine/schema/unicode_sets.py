"""Named sets of code points: what ECMA-262 calls white space and line ends, and the properties of `\\p{...}`."""

from __future__ import annotations

import sys
import unicodedata
from functools import lru_cache

from engine.schema.alphabet import Ranges, scalars

LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
SPACE: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip


class UnknownProperty(Exception):
    """No such Unicode property."""


_CATEGORY_NAMES = {
    "letter": "L", "cased_letter": "LC", "uppercase_letter": "Lu", "lowercase_letter": "Ll", "titlecase_letter": "Lt",
    "modifier_letter": "Lm", "other_letter": "Lo", "mark": "M", "nonspacing_mark": "Mn", "spacing_mark": "Mc",
    "enclosing_mark": "Me", "number": "N", "decimal_number": "Nd", "letter_number": "Nl", "other_number": "No",
    "symbol": "S", "math_symbol": "Sm", "currency_symbol": "Sc", "modifier_symbol": "Sk", "other_symbol": "So",
    "punctuation": "P", "connector_punctuation": "Pc", "dash_punctuation": "Pd", "open_punctuation": "Ps",
    "close_punctuation": "Pe", "initial_punctuation": "Pi", "final_punctuation": "Pf", "other_punctuation": "Po",
    "separator": "Z", "space_separator": "Zs", "line_separator": "Zl", "paragraph_separator": "Zp", "other": "C",
    "control": "Cc", "format": "Cf", "private_use": "Co", "unassigned": "Cn", "digit": "Nd", "punct": "P",
}  # fmt: skip


def property_ranges(name: str) -> Ranges:
    """The set of `\\p{name}`: a general category, `gc=...`, Any, ASCII. Raises UnknownProperty."""
    key, equals, value = name.partition("=")
    if equals and key in ("General_Category", "gc"):
        name = value
    if name == "Any":
        return ((0, 0xD7FF), (0xE000, 0x10FFFF))
    if name == "ASCII":
        return ((0, 0x7F),)
    short = _CATEGORY_NAMES.get(name.lower(), name)
    spans = _category(short)
    if not spans:
        raise UnknownProperty(f"unknown property {name!r}")
    return spans


@lru_cache(maxsize=64)
def _category(short: str) -> Ranges:
    wanted = {"Lu", "Ll", "Lt"} if short == "LC" else {part for part in _by_category() if part.startswith(short)}
    return scalars(span for part in wanted for span in _by_category()[part])


@lru_cache(maxsize=1)
def _by_category() -> dict[str, list[tuple[int, int]]]:
    """Ranges of each two-letter category; about 0.2 s, once a process."""
    found: dict[str, list[tuple[int, int]]] = {}
    start, current = 0, unicodedata.category("\0")
    for code_point in range(1, sys.maxunicode + 1):
        category = unicodedata.category(chr(code_point))
        if category != current:
            found.setdefault(current, []).append((start, code_point - 1))
            start, current = code_point, category
    found.setdefault(current, []).append((start, sys.maxunicode))
    return found
