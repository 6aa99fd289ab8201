"""The words of an automaton: how many there are, and which. Knows tables and code points only."""

from __future__ import annotations

from engine.schema.automata.components import components
from engine.schema.automata.constructions import Machine
from engine.schema.automata.tables import DEAD


def strings(machine: Machine, limit: int) -> list[str] | None:
    """All words in code-point order when there are at most `limit`, else None. Linear in the table and the words."""
    total = count(machine)
    if total is None or total > limit:
        return None
    words: list[str] = []
    stack = [(0, "")]
    while stack:
        state, text = stack.pop()
        if state in machine.accepting:
            words.append(text)
        for index, target in enumerate(machine.table[state]):
            if target != DEAD:
                spans = machine.alphabet.ranges[index]
                stack.extend((target, text + chr(c)) for low, high in spans for c in range(low, high + 1))
    return sorted(words)


def count(machine: Machine) -> int | None:
    """Number of words, None when infinite. Linear in the table."""
    successors = {state: sorted({*row} - {DEAD}) for state, row in enumerate(machine.table)}
    order = components(successors)
    if len(order) < len(successors) or any(state in successors[state] for state in successors):
        return None
    counts = [0] * len(machine.table)
    for (state,) in order:
        steps = zip(machine.alphabet.sizes, machine.table[state], strict=True)
        counts[state] = (state in machine.accepting) + sum(size * counts[t] for size, t in steps if t != DEAD)
    return counts[0]
