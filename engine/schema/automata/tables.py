"""Work on bare transition tables: exploring, trimming, minimising, numbering.

A table is a list of rows, one per state; a row has the next state per class, DEAD where there is none. State 0 starts.
Knows nothing of code points. Every function is linear or n log n in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

DEAD = -1
STATE_LIMIT = 20_000

Row = Sequence[int]
Table = list[Row]
State = TypeVar("State", bound=Hashable)


class AutomatonTooLarge(Exception):
    """A construction went over its state limit; the caller decides whether that means `checked` or refused."""


class _Numbers(dict[State | None, int]):
    """The number of each state that was asked for, in the order of asking; DEAD for None."""

    def __init__(self, start: State, limit: int) -> None:
        self.queue: list[State] = [start]
        self._limit = limit
        self[None], self[start] = DEAD, 0

    def __missing__(self, state: State) -> int:
        number = self[state] = len(self.queue)
        self.queue.append(state)
        if number >= self._limit:
            raise AutomatonTooLarge(f"more than {self._limit} states")
        return number


def explore(
    start: State,
    step: Callable[[State], Iterable[State | None]],
    accepts: Callable[[State], bool],
    limit: int = STATE_LIMIT,
) -> tuple[Table, list[bool]]:
    """Table of everything reachable from `start`; `step` gives the successor per class, None for none."""
    numbers = _Numbers(start, limit)
    number_of = numbers.__getitem__
    rows: Table = [list(map(number_of, step(state))) for state in numbers.queue]
    return rows, [accepts(state) for state in numbers.queue]


def trim(rows: Table, accepting: list[bool]) -> tuple[Table, list[bool]]:
    """Only states that can be reached and can still accept; a language without words keeps one dead start."""
    alive = _co_reachable(rows, accepting)
    if not alive[0]:
        return [[DEAD] * len(rows[0])], [False]
    order = [0]
    numbers = {0: 0}
    for state in order:
        for target in dict.fromkeys(rows[state]):
            if target != DEAD and alive[target] and target not in numbers:
                numbers[target] = len(order)
                order.append(target)
    if len(order) == len(rows):
        return rows, accepting
    lookup = [numbers.get(state, DEAD) for state in range(len(rows))] + [DEAD]
    return [list(map(lookup.__getitem__, rows[s])) for s in order], [accepting[s] for s in order]


def _co_reachable(rows: Table, accepting: list[bool]) -> list[bool]:
    alive = list(accepting)
    sources: list[list[int]] = [[] for _ in rows]
    for state, row in enumerate(rows):
        for target in set(row):
            if target != DEAD:
                sources[target].append(state)
    stack = [state for state, good in enumerate(alive) if good]
    while stack:
        for source in sources[stack.pop()]:
            if not alive[source]:
                alive[source] = True
                stack.append(source)
    return alive


def minimise(rows: Table, accepting: list[bool]) -> tuple[Table, list[bool]]:
    """The minimal table of a trimmed one."""
    order = leaves_first(rows)
    blocks = _hopcroft(rows, accepting) if len(order) < len(rows) else _revuz(rows, accepting, order)
    count = max(blocks) + 1
    if count == len(rows):
        return rows, accepting
    chosen: list[int] = [DEAD] * count
    for state, block in enumerate(blocks):
        if chosen[block] == DEAD:
            chosen[block] = state
    start = blocks[0]
    ranked = [start, *(block for block in range(count) if block != start)]
    number = {block: rank for rank, block in enumerate(ranked)}
    lookup = [*(number[block] for block in blocks), DEAD]
    table: Table = [list(map(lookup.__getitem__, rows[chosen[block]])) for block in ranked]
    return table, [accepting[chosen[block]] for block in ranked]


def leaves_first(rows: Sequence[Row]) -> list[int]:
    """States behind all those that they lead to; without the ones that lead into a circle."""
    sources: list[list[int]] = [[] for _ in rows]
    missing = [0] * len(rows)
    for state, row in enumerate(rows):
        targets = set(row) - {DEAD}
        missing[state] = len(targets)
        for target in targets:
            sources[target].append(state)
    order = [state for state, count in enumerate(missing) if not count]
    for state in order:
        for source in sources[state]:
            missing[source] -= 1
            if not missing[source]:
                order.append(source)
    return order


def _revuz(rows: Table, accepting: list[bool], order: list[int]) -> list[int]:
    """Block of each state where there are no circles, in one pass (Revuz 1992)."""
    numbers: dict[tuple[bool, tuple[int, ...]], int] = {}
    blocks = [DEAD] * (len(rows) + 1)  # the last stands for DEAD
    for state in order:
        key = accepting[state], tuple(map(blocks.__getitem__, rows[state]))
        blocks[state] = numbers.setdefault(key, len(numbers))
    return blocks[:-1]


def _hopcroft(rows: Table, accepting: list[bool]) -> list[int]:
    """Block of each state. Hopcroft 1971, a splitter being a block with all classes at once; states begin apart whose
    rows lead nowhere in different classes, since every state is alive."""
    sources: list[list[tuple[int, int]]] = [[] for _ in rows]
    for state, row in enumerate(rows):
        for index, target in enumerate(row):
            if target != DEAD:
                sources[target].append((index, state))
    numbers: dict[tuple[bool, tuple[bool, ...]], int] = {}
    kinds = ((good, tuple([target == DEAD for target in row])) for good, row in zip(accepting, rows, strict=True))
    blocks = [numbers.setdefault(kind, len(numbers)) for kind in kinds]
    members: list[set[int]] = [set() for _ in numbers]
    for state, block in enumerate(blocks):
        members[block].add(state)
    waiting = set(range(len(members)))
    while waiting:
        by_class: dict[int, list[int]] = {}
        for target in members[waiting.pop()]:
            for index, source in sources[target]:
                by_class.setdefault(index, []).append(source)
        for sources_of_class in by_class.values():
            _split(sources_of_class, blocks, members, waiting)
    return blocks


def _split(states: list[int], blocks: list[int], members: list[set[int]], waiting: set[int]) -> None:
    """Split every block that `tables` cut in two; the smaller half (or both, where due) becomes a splitter."""
    hit: dict[int, list[int]] = {}
    for state in states:
        hit.setdefault(blocks[state], []).append(state)
    for block, inside in hit.items():
        whole = members[block]
        if len(inside) == len(whole):
            continue
        part = set(inside)
        whole -= part
        if block not in waiting and len(whole) < len(part):
            part, whole = whole, part
            members[block] = whole
        new = len(members)
        members.append(part)
        for state in part:
            blocks[state] = new
        waiting.add(new)


def number_breadth_first(rows: Table, accepting: list[bool]) -> tuple[tuple[tuple[int, ...], ...], frozenset[int]]:
    """States in order of discovery, classes in ascending order: equal minimal tables become identical."""
    order = [0]
    numbers = {DEAD: DEAD, 0: 0}
    for state in order:
        for target in dict.fromkeys(rows[state]):
            if target not in numbers:
                numbers[target] = len(order)
                order.append(target)
    table = tuple(tuple(map(numbers.__getitem__, rows[state])) for state in order)
    return table, frozenset(rank for rank, state in enumerate(order) if accepting[state])


def states_of(mask: int) -> list[int]:
    """The states of a set that is kept as bits, ascending."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found
