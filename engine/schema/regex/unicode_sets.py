"""Named sets of code points: ECMA-262's white space and line ends, and the properties of `\\p{...}`.

General categories come from the standard library, scripts and other properties from the `regex` package where it is
installed (transformers brings it). Validators carry tables of other Unicode versions, so a property is trusted only on
code points that this Python has assigned.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from functools import lru_cache

from engine.patterns.properties import CATEGORIES, is_property
from engine.schema.automata.alphabet import SCALARS, Ranges, scalars, without

DIGIT: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
LINE_FEED: Ranges = ((0x0A, 0x0A),)
LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
SPACE: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip

_NAME = re.compile(r"(?:(?:Script|sc|Script_Extensions|scx|General_Category|gc)=)?[A-Za-z0-9_]+")


class UnknownProperty(Exception):
    """No such Unicode property, or none that can be looked up here."""


@lru_cache(maxsize=128)
def property_ranges(name: str) -> Ranges:
    """The assigned code points with property `name` as in `\\p{name}`. Raises UnknownProperty. Up to 0.2 s, once."""
    if not _NAME.fullmatch(name) or not is_property(name):
        raise UnknownProperty(f"unknown property {name!r}")
    key, _, value = name.rpartition("=")
    if not key and value in ("Any", "ASCII"):
        return SCALARS if value == "Any" else ((0, 0x7F),)
    short = CATEGORIES.get(value, value)
    if key in ("", "gc", "General_Category") and (short == "LC" or any(c.startswith(short) for c in _categories())):
        return category(*(("Lu", "Ll", "Lt") if short == "LC" else (short,)))
    return _looked_up(name)


def category(*prefixes: str) -> Ranges:
    """The assigned code points whose general category starts with one of `prefixes`."""
    return scalars(span for name, spans in _categories().items() if name.startswith(prefixes) for span in spans)


def _looked_up(name: str) -> Ranges:
    try:
        regex = importlib.import_module("regex")
    except ImportError:
        raise UnknownProperty(f"the property {name!r} needs the package regex (maskloop[local])") from None
    try:
        found = regex.compile(f"\\p{{{name}}}+")
    except regex.error:
        raise UnknownProperty(f"unknown property {name!r}") from None
    spans: list[tuple[int, int]] = []
    for low, high in assigned():
        text = "".join(map(chr, range(low, high + 1)))
        spans.extend((low + match.start(), low + match.end() - 1) for match in found.finditer(text))
    return scalars(spans)


@lru_cache(maxsize=1)
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Ranges of each two-letter category of assigned code points. 0.2 s, once."""
    found: dict[str, list[tuple[int, int]]] = {}
    for low, high in SCALARS:
        names = list(map(unicodedata.category, map(chr, range(low, high + 1))))
        start = 0
        for at in range(1, len(names) + 1):
            if at == len(names) or names[at] != names[start]:
                found.setdefault(names[start], []).append((low + start, low + at - 1))
                start = at
    del found["Cn"]
    return found


@lru_cache(maxsize=1)
def assigned() -> Ranges:
    """The code points that this Python knows to be assigned."""
    return scalars(span for spans in _categories().values() for span in spans)


@lru_cache(maxsize=1)
def unassigned() -> Ranges:
    """The code points that another Unicode version may have assigned."""
    return without(assigned())
