"""What a grammar cannot say of regular expressions, by other parsers than the one that steers: Python's own, and that
of the judges for ECMA-262."""

from __future__ import annotations

import re
import warnings

from engine.patterns.syntax import parse_regex
from engine.patterns.tree import NotARegex, Undecidable

_NEWER = re.compile(
    r"\[(?:[^\]\\]|\\.)*\]|(?P<begins>\\k<|\(\?<)(?P<name>[^=!>][^>]*)>|\(\?(?P<on>[ims]*)(?P<off>-[ims]*)?:|\\.",
    re.DOTALL,
)
"""What that parser does not know, and what holds what looks like it."""
_ESCAPED = re.compile(r"\\u(?:\{(\w+)\}|(\w{4}))")


def wrong(text: str, dialect: str | None) -> str | None:
    """Of a text that the grammar takes."""
    try:
        if dialect != "python":
            parse_regex(_NEWER.sub(_older, text))
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (NotARegex, re.error, OverflowError, ValueError) as error:  # Python reads no count of thousands of digits
        return str(error)
    except Undecidable:
        return None
    return None


def _older(found: re.Match[str]) -> str:
    """The same without modifiers of a group and without escapes in names."""
    if found["name"]:
        return f"{found['begins']}{_ESCAPED.sub(lambda code: chr(int(code[1] or code[2], 16)), found['name'])}>"
    if found["on"] is None:
        return found[0]
    flags = found["on"] + (found["off"] or "")
    if len(set(flags)) < len(flags):
        raise NotARegex(f"{found[0]} names a flag twice")
    return "(?:"
