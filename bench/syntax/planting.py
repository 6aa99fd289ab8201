"""Errors planted in valid texts, each within one line."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_C = r"//[^\n]*|/\*[\s\S]*?\*/"
_LINE = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_PYTHON = r'#[^\n]*|"""(?:[^\\]|\\[\s\S])*?"""|' + rf"'''(?:[^\\]|\\[\s\S])*?'''|{_LINE}"
_REGEX = r"/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/(?=[\w;,.)\s])"
ASIDE = {
    "python": _PYTHON,
    "typescript": rf"{_C}|{_LINE}|`(?:[^`\\]|\\[\s\S])*`|{_REGEX}",
    "go": rf"{_C}|{_LINE}|`[^`]*`",
    "rust": rf"{_C}|r(#*)\"[\s\S]*?\"\1|\"(?:[^\"\\]|\\[\s\S])*\"|'(?:\\[^\n]*?|[^'\\\n])'",
    "java": rf"{_C}|\"\"\"[\s\S]*?\"\"\"|{_LINE}",
    "sql": r"--[^\n]*|/\*[\s\S]*?\*/|'(?:[^']|'')*'|\"[^\"]*\"",
    "regex": r"\\[\s\S]|\[\^?\]?(?:[^\]\\]|\\[\s\S])*\]",
}
"""Comments and strings, in which nothing is planted."""
CLOSES_IN_LINE = ("python", "typescript", "go", "java")
"""Languages of which a string that is not closed is an error at the end of its line."""
BRACKETS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Planted:
    kind: str
    begin: int
    """The first character that is other."""
    text: str
    """The whole text with the error."""

    @property
    def line_end(self) -> int:
        """After the line break of the line that has the error."""
        return self.text.find("\n", self.begin) + 1 or len(self.text)


@dataclass(slots=True)
class Ground:
    """A text in which errors are planted: the places where code is, without comments and strings."""

    language: str
    keywords: tuple[str, ...]
    text: str
    code: str = field(init=False)
    strings: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        found = list(re.finditer(ASIDE[self.language], self.text))
        self.code = re.sub(ASIDE[self.language], lambda one: re.sub(r"[^\n]", "\0", one[0]), self.text)
        self.strings = [one.span() for one in found if one[0][0] in "'\"" and "\n" not in one[0]]

    def planted(self, rng: random.Random) -> Iterator[Planted]:
        """One error of each kind that has a place."""
        for kind, plant in KINDS.items():
            if change := plant(self, rng):
                begin, end, new = change
                if self.text[begin:end] != new:
                    yield Planted(kind, begin, self.text[:begin] + new + self.text[end:])


Change = tuple[int, int, str] | None
"""(first character replaced, behind the last, what stands there instead)"""


def missing_bracket(ground: Ground, rng: random.Random) -> Change:
    """Of a pair on one line the opening one, or the closing one where more code follows on the line."""
    opened, places = list[int](), list[int]()
    for match in re.finditer(r"[()\[\]{}]", ground.code):
        at = match.start()
        if match[0] in "([{":
            opened.append(at)
        elif opened and ground.code[opened[-1]] == BRACKETS[match[0]]:
            begin = opened.pop()
            if "\n" not in ground.text[begin:at]:
                places.append(begin)
                rest = ground.code[at + 1 : ground.code.find("\n", at)]
                places += [at] if rest.strip("\0 \t") else []
    return _at(places, rng, lambda at: (at, at + 1, ""))


def wrong_keyword(ground: Ground, rng: random.Random) -> Change:
    """Another keyword of the language stands in its place."""
    words = [(one.start(), one[0]) for one in re.finditer(r"(?<![\w.@])[A-Za-z]+\b", ground.code)]
    places = [(at, word) for at, word in words if word.lower() in ground.keywords]
    if not places:
        return None
    at, word = rng.choice(places)
    other = rng.choice([one for one in ground.keywords if one != word.lower()])
    return at, at + len(word), other.upper() if word.isupper() else other


def bad_indent(ground: Ground, rng: random.Random) -> Change:
    """A line that is as far in as the one before is one column further in."""
    if ground.language != "python":
        return None
    places = [
        match.start(2)
        for match in re.finditer(r"^([ ]*)[\w@][^\n]*[\w)\]]\n()(?=\1[\w@])", ground.code, re.MULTILINE)
        if _balanced(match[0])
    ]
    return _at(places, rng, lambda at: (at, at, " "))


def _balanced(line: str) -> bool:
    return all(line.count(opening) == line.count(closing) for closing, opening in BRACKETS.items())


def unclosed_string(ground: Ground, rng: random.Random) -> Change:
    if ground.language not in CLOSES_IN_LINE:
        return None
    places = [
        end - 1 for begin, end in ground.strings if end - begin > 2 and ground.text[begin : begin + 3] not in _LONG
    ]
    return _at(places, rng, lambda at: (at, at + 1, ""))


_LONG = ('"""', "'''")
KINDS: dict[str, Callable[[Ground, random.Random], Change]] = {
    "missing bracket": missing_bracket,
    "wrong keyword": wrong_keyword,
    "bad indent": bad_indent,
    "unclosed string": unclosed_string,
}


def _at(places: list[int], rng: random.Random, change: Callable[[int], Change]) -> Change:
    return change(rng.choice(places)) if places else None
