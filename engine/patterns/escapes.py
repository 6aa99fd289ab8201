"""Reading a regular expression character by character, and what its escapes stand for."""

from __future__ import annotations

import re

from engine.patterns.properties import is_property
from engine.patterns.tree import DIGIT, MAX_CODE_POINT, SPACE, WORD, Class, NotARegex

_NAMED = {"d": DIGIT, "w": WORD, "s": SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_PROPERTY = re.compile(r"\{((?:[A-Za-z_]+=)?[A-Za-z0-9_]+)\}")


class Scanner:
    """`at` is the next character of `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def wrong(self, reason: str) -> NotARegex:
        return NotARegex(f"{reason} at character {self.at} of the pattern")

    def skip(self, prefix: str) -> bool:
        found = self.text.startswith(prefix, self.at)
        self.at += len(prefix) if found else 0
        return found

    def next(self) -> str:
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def escaped(self) -> Class:
        character = self.next()
        if character and character in "dws":
            return Class(_NAMED[character])
        if character and character in "DWS":
            return Class(_NAMED[character.lower()], negative=True)
        if character and character in "pP":
            found = _PROPERTY.match(self.text, self.at)
            if found is None:
                raise self.wrong("\\p needs {name}")
            self.at = found.end()
            if not is_property(found[1]):
                raise self.wrong(f"ECMA-262 knows no property {found[1]!r}")
            return Class((), ((found[1], character == "P"),))
        return one(self.code_point(character))

    def code_point(self, character: str) -> int:
        if not character:
            raise self.wrong("backslash at the end")
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "0" and not self.text[self.at : self.at + 1].isdigit():
            return 0
        if character == "c" and re.match("[A-Za-z]", self.text[self.at : self.at + 1]):
            return ord(self.next()) % 32
        if character == "x":
            return self.hexadecimal("[0-9a-fA-F]{2}")
        if character == "u":
            return self.unicode()
        if re.match("[0-9A-Za-z]", character):
            raise self.wrong(f"\\{character} is no escape")
        return ord(character)

    def unicode(self) -> int:
        if self.skip("{"):
            value = self.hexadecimal("0*[0-9a-fA-F]{1,6}(?=\\})")
            if value > MAX_CODE_POINT:
                raise self.wrong("no such code point")
            self.at += 1
            return value
        high = self.hexadecimal("[0-9a-fA-F]{4}")
        low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self.text, self.at)
        if not 0xD800 <= high < 0xDC00 or low is None:
            return high
        self.at = low.end()
        return 0x10000 + ((high - 0xD800) << 10) + int(low[1], 16) - 0xDC00

    def hexadecimal(self, form: str) -> int:
        found = re.compile(form).match(self.text, self.at)
        if found is None:
            raise self.wrong("hex digits expected")
        self.at = found.end()
        return int(found[0], 16)


def one(code_point: int) -> Class:
    return Class(((code_point, code_point),))
