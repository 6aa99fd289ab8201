"""Names for what an automaton accepts from each of its states, equal wherever the suffix languages are equal.

Knows automata only. Equal suffixes of different automata get the same digest, in every process; the exception is a
cycle of more than CYCLE_LIMIT states, whose states are named after the whole automaton (sound, only shared less).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from engine.schema.automata.automaton import Automaton
from engine.schema.automata.components import components

CYCLE_LIMIT = 64


@lru_cache(maxsize=4)  # strings that are counted are written twice
def suffix_digests(automaton: Automaton) -> list[str]:
    """One digest per state. Linear outside cycles, quadratic in the states of a cycle."""
    digests: list[str] = [""] * automaton.states
    for component in components(automaton.successors):
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
