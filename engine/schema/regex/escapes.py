"""Reading a pattern character by character, and what its escapes stand for."""

from __future__ import annotations

from engine.schema.automata.alphabet import Ranges
from engine.schema.regex.classes import named_class, property_class
from engine.schema.regex.tree import PatternInvalid, PatternUnsupported
from engine.schema.regex.unicode_sets import UnknownProperty

LOOKAROUNDS = ("(?=", "(?!", "(?<=", "(?<!")
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_HEX = "0123456789abcdefABCDEF"


class Scanner:
    """`at` is the next character of `text`; `upper` the reading (see `classes`)."""

    def __init__(self, pattern: str, upper: bool) -> None:
        self.text = pattern
        self.upper = upper
        self.at = 0

    def invalid(self, reason: str) -> PatternInvalid:
        return PatternInvalid(f"{reason} at character {self.at} of the pattern")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, prefix: str) -> bool:
        found = self.text.startswith(prefix, self.at)
        self.at += len(prefix) if found else 0
        return found

    def escaped_set(self) -> Ranges:
        """After a backslash: a class escape or one character."""
        character = self.peek()
        if character and character in "dDwWsS":
            self.at += 1
            return named_class(character)
        if character in ("p", "P"):
            self.at += 1
            return self.property(character == "P")
        code_point = self.escaped_character()
        return ((code_point, code_point),)

    def property(self, negative: bool) -> Ranges:
        name, end, _ = self.text[self.at :].partition("}")
        if not name.startswith("{") or not end:
            raise self.invalid("\\p needs {name}")
        self.at += len(name) + 1
        try:
            return property_class(name[1:], negative, self.upper)
        except UnknownProperty as error:
            raise PatternUnsupported(str(error)) from None

    def escaped_character(self) -> int:
        character = self.peek()
        self.at += 1
        if not character:
            raise self.invalid("backslash at the end")
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "0" and not self.peek().isdigit():
            return 0
        if character == "c" and self.peek().isascii() and self.peek().isalpha():
            self.at += 1
            return ord(self.text[self.at - 1]) % 32
        if character == "x":
            return self.hexadecimal(2)
        if character == "u":
            return self.unicode_escape()
        if character.isascii() and character.isalnum():
            raise self.invalid(f"\\{character} is no escape")
        return ord(character)

    def unicode_escape(self) -> int:
        if self.skip("{"):
            digits, end, _ = self.text[self.at :].partition("}")
            if not end or not digits or set(digits) - set(_HEX) or int(digits, 16) > 0x10FFFF:
                raise self.invalid("bad \\u{}")
            self.at += len(digits) + 1
            return int(digits, 16)
        high = self.hexadecimal(4)
        if 0xD800 <= high < 0xDC00 and self.text.startswith("\\u", self.at):
            back = self.at
            self.at += 2
            low = self.hexadecimal(4)
            if 0xDC00 <= low < 0xE000:
                return 0x10000 + ((high - 0xD800) << 10) + low - 0xDC00
            self.at = back
        return high

    def hexadecimal(self, count: int) -> int:
        digits = self.text[self.at : self.at + count]
        if len(digits) < count or set(digits) - set(_HEX):
            raise self.invalid(f"{count} hex digits expected")
        self.at += count
        return int(digits, 16)
