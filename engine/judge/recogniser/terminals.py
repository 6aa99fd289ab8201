"""Terminals that are no regular expressions: literal text, free text around tags, JSON values, runs of chunks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

from engine.judge.recogniser.productions import Terminal
from engine.judge.recogniser.work import Work
from engine.patterns.tree import Undecidable
from engine.schema.reading.parameter_text import find_parameters
from engine.schema.reading.validator import Checked

_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DECODER = json.JSONDecoder()


class Literal(Terminal):
    """Exactly this text."""

    __slots__ = ("nullable", "value")

    def __init__(self, value: str) -> None:
        self.value = value
        self.nullable = not value

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        work.spend()
        return (start + len(self.value),) if text.startswith(self.value, start) else ()


class FreeText(Terminal):
    """Any text that holds none of `without`."""

    __slots__ = ("without",)
    nullable = True

    def __init__(self, without: Sequence[str]) -> None:
        self.without = frozenset(without)

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        work.spend()
        _, last = first_found(text, start, self.without, work)
        return range(start, last if last is not None else len(text) + 1)


class UpTo(Terminal):
    """Any text up to and with `trigger`, in which none of `others` is found before."""

    __slots__ = ("strings", "trigger")

    def __init__(self, trigger: str, strings: frozenset[str]) -> None:
        """`strings` are the others, and may hold the trigger too."""
        self.trigger = trigger
        self.strings = strings if trigger in strings else strings | {trigger}

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        work.spend()
        found, end = first_found(text, start, self.strings, work)
        return (end,) if end is not None and found == self.trigger else ()


def first_found(text: str, start: int, strings: frozenset[str], work: Work) -> tuple[str | None, int | None]:
    """The string that is complete first from `start` on, and where it ends. Looked for once, whoever asks."""
    known = work.found.get((strings, start))
    if known is None:
        work.spend(len(strings))
        found = [(at + len(string), string) for string in strings if (at := text.find(string, start)) >= 0]
        known = work.found[strings, start] = (None, None) if not found else min(found)[::-1]
    return known


def refuse_nested(triggers: Sequence[str], excludes: Sequence[str]) -> None:
    """Raises Undecidable where which string is found depends on the reader: one of them stands inside another."""
    for inner in triggers:
        for outer in (*triggers, *excludes):
            if inner != outer and inner in outer:
                raise Undecidable(f"{inner!r} is a part of {outer!r}: which of them is meant is not decided")
    for inner in excludes:
        for outer in triggers:
            if inner in outer:
                raise Undecidable(f"{inner!r} is excluded and a part of the trigger {outer!r}")


class JsonValue(Terminal):
    """A JSON document that passes `check`, which is given its text."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[str], Checked]) -> None:
        self.check = check

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        number = _NUMBER.match(text, start)
        if number is not None:
            found = [end for end in range(start + 1, number.end() + 1) if _NUMBER.fullmatch(text, start, end)]
        else:
            found = _value_end(text, start)
        work.spend(1 + sum(end - start for end in found) // 4)
        return [end for end in found if self.check(text[start:end]).ok]


class Parameters(Terminal):
    """The parameters of a call that together pass `read`, which is given their text."""

    __slots__ = ("nullable", "read")

    def __init__(self, read: Callable[[str], Checked]) -> None:
        self.read = read
        self.nullable = read("").ok

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        found = [start, *(end for _, _, end in find_parameters(text, start))]
        work.spend(1 + sum(end - start for end in found) // 4)
        read = [(end, self.read(text[start:end])) for end in found]
        accepted = {end: checked.value for end, checked in read if checked.ok}
        if accepted:
            work.arguments[start] = max(accepted.items())  # nothing that may follow them begins as they do
        return accepted


def _value_end(text: str, start: int) -> list[int]:
    try:
        return [_DECODER.raw_decode(text, start)[1]]
    except (ValueError, RecursionError):
        return []


class Chunks(Terminal):
    """A run of consecutive chunks out of a list, none of them cut."""

    __slots__ = ("chunks",)
    nullable = True

    def __init__(self, chunks: Sequence[str]) -> None:
        self.chunks = tuple(chunks)

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        found = {start}
        for first in range(len(self.chunks)):
            end = start
            for chunk in self.chunks[first:]:
                if not text.startswith(chunk, end):
                    break
                end += len(chunk)
                found.add(end)
                work.spend()
        return found
