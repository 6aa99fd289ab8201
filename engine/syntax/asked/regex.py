"""What a grammar cannot say of regular expressions: numbers in order, and references to groups that exist."""

from __future__ import annotations

import re
import warnings

_ESCAPES = dict(zip("bfnrtv0", map(ord, "\b\f\n\r\t\v\0"), strict=True))
_CODE = r"\\x(?P<x>\w{2})|\\u(?P<u>\w{4})|\\u\{(?P<point>\w+)\}|\\c(?P<control>\w)"
_TOKEN = re.compile(
    rf"\\k<(?P<refers>[^>]+)>|\\(?P<number>[1-9]\d*)|\(\?<(?P<name>[^=!>][^>]*)>|(?P<group>\((?!\?))"
    rf"|\{{(?P<least>\d+),(?P<most>\d+)\}}|\[\^?(?P<members>(?:[^\]\\]|\\.)*)\]|\\[pP]\{{[^}}]*\}}|{_CODE}|\\.|.",
    re.DOTALL,
)
_MEMBER = re.compile(rf"\\[pP]\{{[^}}]*\}}|(?P<set>\\[dDsSwW])|{_CODE}|\\(?P<escape>.)|(?P<plain>.)", re.DOTALL)


def wrong(text: str, dialect: str | None) -> str | None:
    """Of a text that the grammar takes."""
    if dialect != "python":
        return _wrong_for_ecma(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(text)
        except (re.error, OverflowError) as error:
            return str(error)
    return None


def _wrong_for_ecma(text: str) -> str | None:
    names, groups, referred, numbers = list[str](), 0, set[str](), [0]
    for token in _TOKEN.finditer(text):
        if token["refers"]:
            referred.add(token["refers"])
        elif token["number"]:
            numbers.append(int(token["number"]))
        elif token["name"]:
            names.append(token["name"])
        elif token["least"] and int(token["least"]) > int(token["most"]):
            return f"{token[0]} counts down"
        elif token["members"] and (found := _descending(token["members"])):
            return f"the range {found} descends"
        groups += token["group"] is not None
    if max(numbers) > groups + len(names):
        return f"there is no group {max(numbers)}"
    if missing := referred.difference(names):
        return f"there is no group {min(missing)}"
    return "two groups have one name" if len(names) > len(set(names)) and "|" not in text else None


def _descending(members: str) -> str | None:
    """A range of a class that ends before it begins."""
    tokens = list(_MEMBER.finditer(members))
    at = 0
    while at + 2 < len(tokens):
        if tokens[at + 1]["plain"] != "-":
            at += 1
            continue
        first, last = _point(tokens[at]), _point(tokens[at + 2])
        if first is not None and last is not None and first > last:
            return members[tokens[at].start() : tokens[at + 2].end()]
        at += 3
    return None


def _point(member: re.Match[str]) -> int | None:
    """The character's number. None: a set of them."""
    if digits := member["x"] or member["u"] or member["point"]:
        return int(digits, 16)
    if member["control"]:
        return ord(member["control"]) % 32
    if member["escape"]:
        return _ESCAPES.get(member["escape"], ord(member["escape"]))
    return ord(member["plain"]) if member["plain"] else None
