"""Names for what an automaton accepts from each of its states, equal wherever the suffix languages are equal.

Knows automata only. Equal suffixes of different automata get the same digest, in every process; the exception is a
cycle of more than CYCLE_LIMIT states, whose states are named after the whole automaton (sound, only shared less).
"""

from __future__ import annotations

from hashlib import blake2b

from engine.schema.automaton import Automaton
from engine.schema.states import DEAD

CYCLE_LIMIT = 64


def suffix_digests(automaton: Automaton) -> list[str]:
    """One digest per state. Linear outside cycles, quadratic in the states of a cycle."""
    digests: list[str] = [""] * automaton.states
    for component in components(automaton):
        if len(component) > CYCLE_LIMIT:
            for state in component:
                digests[state] = short_digest(f"{automaton.digest}/{state}")
            continue
        inside = set(component)
        named = {state: _component_digest(automaton, state, inside, digests) for state in component}
        for state, digest in named.items():
            digests[state] = digest
    return digests


def _component_digest(automaton: Automaton, start: int, inside: set[int], digests: list[str]) -> str:
    """Breadth-first from `start` within its component; states outside stand as their digests."""
    numbers = {start: 0}
    queue = [start]
    parts: list[object] = []
    for state in queue:
        parts.append(state in automaton.accepting)
        for spans, target in automaton.moves(state):
            if target in inside and target not in numbers:
                numbers[target] = len(queue)
                queue.append(target)
            parts.append((spans, numbers[target] if target in inside else digests[target]))
    return short_digest(repr(parts))


def short_digest(text: str) -> str:
    """Twelve hex digits of a 48-bit hash."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def components(automaton: Automaton) -> list[list[int]]:
    """Strongly connected components, successors first (Tarjan 1972, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    successors = [[t for t in dict.fromkeys(row) if t != DEAD] for row in automaton.table]
    work: list[tuple[int, int]] = [(0, 0)]
    while work:
        state, position = work.pop()
        if position == 0:
            index[state] = low[state] = len(index)
            stack.append(state)
            on_stack.add(state)
        else:
            low[state] = min(low[state], low[successors[state][position - 1]])
        descended = False
        for at in range(position, len(successors[state])):
            target = successors[state][at]
            if target not in index:
                work.append((state, at + 1))
                work.append((target, 0))
                descended = True
                break
            if target in on_stack:
                low[state] = min(low[state], index[target])
        if not descended and low[state] == index[state]:
            found.append(_pop_component(stack, on_stack, state))
    return found


def _pop_component(stack: list[int], on_stack: set[int], root: int) -> list[int]:
    component: list[int] = []
    while not component or component[-1] != root:
        component.append(stack.pop())
        on_stack.discard(component[-1])
    return component
