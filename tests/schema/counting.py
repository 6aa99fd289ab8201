"""A slow, plain reader of grammars with guards: rules are expanded character by character, and what guards ask for is
counted by reading the whole text again. Shares no code with the engine's own reader."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

from engine.schema.regex.counting_automaton import CountingAutomaton, State
from engine.schema.rules.grammar import Chars, Grammar, Ref, Symbol, Text

Stack = tuple[Symbol, ...]
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass
class Counts:
    """What guards may ask for, after some text."""

    chars: int = 0
    string: str = ""
    key: str = ""
    keys: frozenset[str] = frozenset()
    count: int = 0
    values: frozenset[str] = frozenset()
    item: str | None = None
    last: str | None = None

    @property
    def inner(self) -> Counts:
        """Of the document that the open string holds."""
        return counts(self.string)

    def reached(self, automaton: CountingAutomaton) -> State | None:
        """Where a pattern stands behind the open string."""
        return automaton.run(automaton.start, self.string)


@dataclass
class _Frame:
    is_object: bool
    start: int
    values: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    items: int = 0
    expects: bool = True
    """A key or an item comes next, or the end."""


def counts(text: str) -> Counts:
    """The facts behind a beginning of a JSON document, as far as it is well formed."""
    frames: list[_Frame] = []
    at = 0
    while at < len(text):
        character = text[at]
        top = frames[-1] if frames else None
        if top and not top.is_object and top.expects and character not in " \t\r\n]":
            top.items, top.expects = top.items + 1, False
        if character == '"':
            letters, at = _string(text, at + 1)
            is_key = top is not None and top.is_object and top.expects
            if at > len(text):
                keys = frozenset(top.keys) if top else frozenset()
                written = "".join(letters)
                return Counts(len(letters), written, written if is_key else "", keys, _size(top), last=_last(top))
            if is_key and top:
                top.keys.append("".join(letters))
                top.expects = False
            continue
        if character in "{[":
            frames.append(_Frame(character == "{", at + 1))
        elif character in "}]":
            frames.pop()
        elif character == "," and top:
            if not top.is_object and (value := _value(text[top.start : at])) is not None:
                top.values.append(value)
            top.expects, top.start = True, at + 1
        at += 1
    top = frames[-1] if frames else None
    if top is None or top.is_object:
        return Counts(keys=frozenset(top.keys) if top else frozenset(), count=_size(top), last=_last(top))
    return Counts(count=_size(top), values=frozenset(top.values), item=_value(text[top.start :]))


def _last(frame: _Frame | None) -> str | None:
    return frame.keys[-1] if frame and frame.keys else None


@lru_cache(1_000)
def _value(text: str) -> str | None:
    """One text for each value, of numbers the shortest; None where it is not whole."""
    try:
        return json.dumps(json.loads(text, parse_float=_number), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return None


def _number(text: str) -> int | float:
    return int(float(text)) if float(text).is_integer() else float(text)


def _size(frame: _Frame | None) -> int:
    return 0 if frame is None else len(frame.keys) if frame.is_object else frame.items


def _string(text: str, at: int) -> tuple[list[str], int]:
    """The characters of a string from behind its opening quote, and where it ends; beyond the text if it is open."""
    letters: list[str] = []
    while at < len(text):
        if text[at] == '"':
            return letters, at + 1
        if text[at] != "\\":
            letters.append(text[at])
            at += 1
        elif text[at + 1 : at + 2] != "u":
            letters.append(_SHORT.get(text[at + 1 : at + 2], text[at + 1 : at + 2]))
            at += 2
        else:
            unit = int(text[at + 2 : at + 6] or "0", 16)
            at += 6
            if 0xD800 <= unit < 0xDC00 and text[at : at + 2] == "\\u":
                low = int(text[at + 2 : at + 6] or "dc00", 16)
                unit, at = 0x10000 + (unit - 0xD800 << 10) + max(0, low - 0xDC00), at + 6
            letters.append(chr(unit))
    return letters, at + 1


class Reader:
    """Which characters can come next in a grammar, guards included."""

    def __init__(self, grammar: Grammar, guards: bool = True) -> None:
        self.rules = grammar.rules
        self.guards = guards
        self.start: frozenset[Stack] = frozenset({(Ref(grammar.root),)})
        self._reached = {"": self.start}

    def _open(self, stacks: Iterable[Stack], text: str) -> Iterator[Stack]:
        """The stacks with a character or nothing on top."""
        facts = cache(lambda: counts(text))
        pending, seen = list(stacks), set[Stack]()
        while pending:
            stack = pending.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if stack and isinstance(stack[0], Ref):
                rule = self.rules[stack[0].name]
                guards = rule.guards if self.guards and rule.guards else (None,) * len(rule.alternatives)
                for way, guard in zip(rule.alternatives, guards, strict=True):
                    if guard is None or guard.holds(facts()):
                        pending.append((*way, *stack[1:]))
            elif stack and stack[0] == Text(""):
                pending.append(stack[1:])
            else:
                yield stack

    def step(self, stacks: frozenset[Stack], text: str, character: str) -> frozenset[Stack]:
        """Where `stacks`, reached by `text`, are after one more character."""
        return _after(self._open(stacks, text), character)

    def run(self, text: str) -> frozenset[Stack]:
        """Documents that begin alike are read once as far as they do."""
        known = next(size for size in range(len(text), -1, -1) if text[:size] in self._reached)
        for at in range(known, len(text)):
            self._reached[text[: at + 1]] = self.step(self._reached[text[:at]], text[:at], text[at])
        return self._reached[text]

    def is_complete(self, stacks: frozenset[Stack], text: str) -> bool:
        return any(not stack for stack in self._open(stacks, text))

    def accepts(self, text: str) -> bool:
        return self.is_complete(self.run(text), text)

    def following(self, stacks: frozenset[Stack], text: str, alphabet: str) -> dict[str, frozenset[Stack]]:
        """The legal ones of some characters, and what each leads to."""
        opened = [*self._open(stacks, text)]
        tops = [stack[0] for stack in opened if stack]
        able = {top.text[0] for top in tops if isinstance(top, Text)}
        for top in tops:
            if isinstance(top, Chars):
                known = {c for c in alphabet if any(low <= ord(c) <= high for low, high in top.ranges)}
                able |= known or {chr(top.ranges[0][0])}
        return {c: _after(opened, c) for c in sorted(able)}


def _after(opened: Iterable[Stack], character: str) -> frozenset[Stack]:
    found: set[Stack] = set()
    for stack in opened:
        top = stack[0] if stack else None
        if isinstance(top, Text) and top.text[0] == character:
            found.add((Text(top.text[1:]), *stack[1:]) if len(top.text) > 1 else stack[1:])
        elif isinstance(top, Chars) and any(low <= ord(character) <= high for low, high in top.ranges):
            found.add(stack[1:])
    return frozenset(found)
