"""Regular expressions that are parts of a larger text: where, from a place on, they can end.

Thompson's construction, made deterministic one state at a time as texts are read, so that the time is linear in the
text. For expressions that see their own characters alone (`patterns.dialect`).
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache

from engine.patterns.properties import CATEGORIES
from engine.patterns.tree import (
    MAX_CODE_POINT,
    Choice,
    Class,
    Node,
    Ranges,
    Repeat,
    Sequence,
    Undecidable,
    outside,
)

STATES = 20_000
"""Positions of one expression, repeats counted out."""

Fragment = tuple[int, int]


class Automaton:
    """States are small integers, 0 the start; `step` gives None where nothing can follow."""

    def __init__(self, node: Node) -> None:
        """Raises Undecidable. Linear in the expression, repeats counted out."""
        self._empty: list[list[int]] = []
        self._reads: list[tuple[Set, int] | None] = []
        entry, self._leave = self._fragment(node)
        self._numbers: dict[frozenset[int], int] = {}
        self._members: list[frozenset[int]] = []
        self._steps: list[dict[str, int | None]] = []
        self._number(self._closed([entry]))

    def accepts(self, state: int) -> bool:
        return self._leave in self._members[state]

    def step(self, state: int, character: str) -> int | None:
        known = self._steps[state]
        if character not in known:
            code_point = ord(character)
            moves = (self._reads[member] for member in self._members[state])
            known[character] = self._number(self._closed([move[1] for move in moves if move and code_point in move[0]]))
        return known[character]

    def _number(self, members: frozenset[int]) -> int | None:
        if not members:
            return None
        if members not in self._numbers:
            self._numbers[members] = len(self._members)
            self._members.append(members)
            self._steps.append({})
        return self._numbers[members]

    def _closed(self, states: list[int]) -> frozenset[int]:
        found = set(states)
        while states:
            for target in self._empty[states.pop()]:
                if target not in found:
                    found.add(target)
                    states.append(target)
        return frozenset(
            state for state in found if self._reads[state] or state == self._leave or not self._empty[state]
        )

    def _state(self) -> int:
        if len(self._empty) >= STATES:
            raise Undecidable(f"an expression of more than {STATES} positions")
        self._empty.append([])
        self._reads.append(None)
        return len(self._empty) - 1

    def _fragment(self, node: Node) -> Fragment:
        """Entry and exit."""
        entry = self._state()
        if isinstance(node, Sequence):
            leave = entry
            for part in node.parts:
                leave = self._behind(leave, part)
            return entry, leave
        if isinstance(node, Repeat):
            return entry, self._repeat(entry, node)
        leave = self._state()
        if isinstance(node, Choice):
            for part in node.parts:
                self._empty[self._behind(entry, part)].append(leave)
        elif isinstance(node, Class):
            self._reads[entry] = (code_points(node), leave)
        else:
            raise TypeError(f"{node!r} is no part of an expression that stands alone")
        return entry, leave

    def _behind(self, state: int, node: Node) -> int:
        """The exit of a node that begins at `state`."""
        start, end = self._fragment(node)
        self._empty[state].append(start)
        return end

    def _repeat(self, leave: int, node: Repeat) -> int:
        for _ in range(node.least):
            leave = self._behind(leave, node.part)
        out = self._state()
        if node.most is None:
            self._empty[leave].append(out)
            self._empty[self._behind(out, node.part)].append(out)
            return out
        for _ in range(node.most - node.least):
            self._empty[leave].append(out)
            leave = self._behind(leave, node.part)
        self._empty[leave].append(out)
        return out


class Set:
    """Code points, for `in`."""

    def __init__(self, ranges: Ranges) -> None:
        free = outside(outside(ranges))  # sorted and apart
        self._starts = [low for low, _ in free]
        self._ends = [high for _, high in free]

    def __contains__(self, code_point: object) -> bool:
        if not isinstance(code_point, int):
            return False
        index = bisect_right(self._starts, code_point) - 1
        return index >= 0 and code_point <= self._ends[index]


@lru_cache(maxsize=4096)
def code_points(node: Class) -> Set:
    """What a class takes. Raises Undecidable for properties that this Python has no table of."""
    ranges = list(node.ranges)
    for name, negative in node.properties:
        inside = _property(name)
        ranges.extend(outside(inside) if negative else inside)
    return Set(outside(tuple(ranges)) if node.negative else tuple(ranges))


@lru_cache(maxsize=64)
def _property(name: str) -> Ranges:
    """The code points of a general category. 0.2 s for each, once."""
    key, _, value = name.rpartition("=")
    short = CATEGORIES.get(value, value)
    if (
        key not in ("", "gc", "General_Category")
        or short not in CATEGORIES.values()
        or short in ("LC", "Cn", "C", "Cs")
    ):
        raise Undecidable(f"\\p{{{name}}} inside a larger grammar, where general categories are known")
    ranges: list[tuple[int, int]] = []
    for code_point in range(MAX_CODE_POINT + 1):
        if unicodedata.category(chr(code_point)).startswith(short):
            if ranges and ranges[-1][1] == code_point - 1:
                ranges[-1] = (ranges[-1][0], code_point)
            else:
                ranges.append((code_point, code_point))
    return tuple(ranges)
