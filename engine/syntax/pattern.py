r"""Regular expressions of terminals: a parser, and nondeterministic automata over them.

Groups, `| * + ? {m,n}`, `[...]`, `\w \d \s`, `.` and escapes; what a class holds is asked of `re`. `\i` begins an
identifier (XID_Start and `_`), `\I` goes on with one (XID_Continue); `\h` is a hexadecimal digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

Pattern = tuple[str, tuple["Pattern", ...]] | str
"""A single character as `re` writes it, or ('or' | 'seq' | '*', parts)."""

_ATOM = re.compile(
    r"\[\^?\]?(?:[^\]\\]|\\.)*\]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|[^()|*+?{}\\]", re.DOTALL
)
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_EMPTY: Pattern = ("seq", ())
_PLAIN = "a0 \n" + "".join(map(chr, range(33, 127))) + '\t\r\x0b\x0c\u00e9\u4e2d"\\'
"""Examples are of these, the first ones before others."""
_NAMES: dict[str, Callable[[str], object]] = {
    r"\i": str.isidentifier,
    r"\I": lambda one: f"a{one}".isidentifier(),
    r"\h": "0123456789abcdefABCDEF".__contains__,
}


def parse_pattern(text: str) -> Pattern:
    found, at = _alternatives(text, 0)
    if at != len(text):
        raise ValueError(f"grammar: not understood in /{text}/: {text[at:]!r}")
    return found


def _alternatives(text: str, at: int) -> tuple[Pattern, int]:
    parts, sequence = list[Pattern](), list[Pattern]()
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            parts.append(("seq", tuple(sequence)))
            sequence, at = [], at + 1
            continue
        part, at = _repeated(text, at)
        sequence.append(part)
    parts.append(("seq", tuple(sequence)))
    return (parts[0] if len(parts) == 1 else ("or", tuple(parts))), at


def _repeated(text: str, at: int) -> tuple[Pattern, int]:
    part, at = _atom(text, at)
    while at < len(text):
        if text[at] in "*+?":
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[text[at]]
            at += 1
        elif count := _COUNT.match(text, at):
            least = int(count[1] or 0)
            most = (int(count[3]) if count[3] else None) if count[2] else least
            at = count.end()
        else:
            break
        part = _counted(part, least, most)
    return part, at


def _counted(part: Pattern, least: int, most: int | None) -> Pattern:
    more: tuple[Pattern, ...] = (("*", (part,)),) if most is None else (("or", (part, _EMPTY)),) * (most - least)
    return ("seq", (part,) * least + more)


def _atom(text: str, at: int) -> tuple[Pattern, int]:
    if text[at] == "(":
        inner, end = _alternatives(text, at + (3 if text.startswith("(?:", at) else 1))
        if text[end : end + 1] != ")":
            raise ValueError(f"grammar: a parenthesis is not closed in /{text}/")
        return inner, end + 1
    match = _ATOM.match(text, at)
    if not match:
        raise ValueError(f"grammar: not understood in /{text}/: {text[at:]!r}")
    return match[0], match.end()


def _matcher(atom: str, flags: int = 0) -> Callable[[str], object]:
    return _NAMES.get(atom) or re.compile(atom, flags).fullmatch


def _example(matches: Callable[[str], object]) -> str:
    """A character that matches; none where it must be one beyond ASCII."""
    return next((character for character in _PLAIN if matches(character)), "")


def shortest_text(pattern: str) -> str:
    """A text that matches; one of the shortest."""
    return _shortest(parse_pattern(pattern))


def _shortest(pattern: Pattern) -> str:
    if isinstance(pattern, str):
        return _example(_matcher(pattern))
    kind, parts = pattern
    if kind == "*":
        return ""
    texts = [_shortest(part) for part in parts]
    return min(texts, key=len) if kind == "or" else "".join(texts)


@dataclass(slots=True)
class Automaton:
    """Thompson's: `empty[s]` are states reached without a character, `edges[s]` pairs (atom, state)."""

    ignorecase: bool = False
    empty: list[list[int]] = field(default_factory=list)
    edges: list[list[tuple[int, int]]] = field(default_factory=list)
    atoms: dict[str, int] = field(default_factory=dict)
    _compiled: list[Callable[[str], object]] = field(default_factory=list)
    _examples: list[str] = field(default_factory=list)

    def add(self, pattern: Pattern) -> tuple[int, int]:
        """(first state, last state)"""
        if isinstance(pattern, str):
            begin, end = self._state(), self._state()
            self.edges[begin].append((self._number(pattern), end))
            return begin, end
        kind, parts = pattern
        begin = end = self._state()
        if kind == "seq":
            for part in parts:
                first, last = self.add(part)
                self.empty[end].append(first)
                end = last
            return begin, end
        if kind == "or":
            end = self._state()
            for part in parts:
                first, last = self.add(part)
                self.empty[begin].append(first)
                self.empty[last].append(end)
            return begin, end
        first, last = self.add(parts[0])
        self.empty[begin].append(first)
        self.empty[last].append(begin)
        return begin, begin

    def _state(self) -> int:
        self.empty.append([])
        self.edges.append([])
        return len(self.empty) - 1

    def _number(self, atom: str) -> int:
        if atom not in self.atoms:
            self.atoms[atom] = len(self.atoms)
            self._compiled.append(_matcher(atom, re.IGNORECASE if self.ignorecase else 0))
            self._examples.append(_example(self._compiled[-1]))
        return self.atoms[atom]

    def signature(self, character: str) -> int:
        """Which atoms match the character, as bits."""
        return sum(1 << number for number, atom in enumerate(self._compiled) if atom(character))

    def example(self, atom: int) -> str:
        return self._examples[atom]

    def closure(self, states: list[int]) -> frozenset[int]:
        found, open_ones = set(states), list(states)
        while open_ones:
            for state in self.empty[open_ones.pop()]:
                if state not in found:
                    found.add(state)
                    open_ones.append(state)
        return frozenset(found)
