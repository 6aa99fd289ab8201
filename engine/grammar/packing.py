"""XGrammar's serialised grammars made small. Knows the layout of format v16; touches nothing it does not know.

XGrammar writes the automaton of the whole grammar once more for every rule, so its text grows with the square of the
grammar (LIFT's IR: 21 MB of 24), and reading it takes longer than compiling. A rule only ever uses its own states:
each keeps those, numbered from 0, and the mask table follows the numbers.
"""

from __future__ import annotations

import json
from typing import Any

_Fsm = list[Any]
_FIRST_BESIDE, _LAST_KIND = -4, -6
"""Edges of these kinds (counted repeats of more than 128, sets of tokens) keep their numbers beside the edges."""


class NotPackable(ValueError):
    """The text is not laid out as this version knows it."""


def pack(serialised: str) -> dict[str, Any]:
    """The same grammar in linear space, as a JSON document. 20-100 ms for a large grammar. Raises NotPackable."""
    try:
        return _pack(serialised)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise NotPackable(str(error)) from None


def _pack(serialised: str) -> dict[str, Any]:
    marker = '"complete_fsm":'
    start = serialised.index(marker) + len(marker)
    shared = _balanced(serialised, start)
    document: dict[str, Any] = json.loads(serialised.replace(shared, "0"))
    automaton = json.loads(shared)
    whole, beside = automaton["edges"], automaton["edge_aux_data"]
    numbers: list[dict[int, int]] = []
    rules = document["grammar"]["per_rule_fsms"]
    for index, rule in enumerate(rules):
        states = _own_states(whole, rule[0][1], rule[0][2]) if rule else {}
        numbers.append(states)
        if rule:
            rules[index] = _local(whole, beside, states, rule)
    nothing = {"data_": [], "indptr_": [0]}
    document["grammar"]["complete_fsm"] = {"edges": nothing, "edge_aux_data": beside, "edge_num": 0}
    for key, _ in document["adaptive_token_mask_cache"]:
        key[2] = numbers[key[0]][key[2]]
    return document


def _balanced(text: str, start: int) -> str:
    """The JSON object of numbers that begins at `start`."""
    depth, position = 0, start
    while True:
        opening, closing = text.find("{", position), text.index("}", position)
        if opening != -1 and opening < closing:
            depth, position = depth + 1, opening + 1
        else:
            depth, position = depth - 1, closing + 1
            if not depth:
                return text[start:position]


def _own_states(whole: dict[str, list[Any]], start: int, ends: list[int]) -> dict[int, int]:
    """Old number to new, for what `start` reaches inside the rule, the start first."""
    data, ptr = whole["data_"], whole["indptr_"]
    found = {start: 0}
    queue = [start]
    for state in queue:
        for edge in data[ptr[state] : ptr[state + 1]]:
            if edge[2] not in found:
                found[edge[2]] = len(found)
                queue.append(edge[2])
    for end in ends:
        found.setdefault(end, len(found))
    return found


def _local(whole: dict[str, list[Any]], beside: list[int], states: dict[int, int], rule: _Fsm) -> _Fsm:
    data, ptr = whole["data_"], whole["indptr_"]
    edges: list[list[int]] = []
    starts = [0]
    for state in states:
        edges.extend([low, high, states[target]] for low, high, target in data[ptr[state] : ptr[state + 1]])
        starts.append(len(edges))
    (fsm, start, ends, *flags), *rest = rule
    if fsm != 0 or len(flags) != 2:
        raise ValueError("a rule automaton of another shape")
    if any(low < _LAST_KIND for low, _, _ in edges):
        raise ValueError("an edge of another kind")
    needed = beside if any(low <= _FIRST_BESIDE for low, _, _ in edges) else []
    small = {"edges": {"data_": edges, "indptr_": starts}, "edge_aux_data": needed, "edge_num": len(edges)}
    return [[small, states[start], [states[end] for end in ends], flags[0], len(edges)], *rest]
