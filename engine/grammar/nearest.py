"""Which masks a document needs first. Knows the layout of `packing`; does not load or compile.

XGrammar reads 5-30 ms of masks for a large grammar, most of them of places that a document reaches late or never. The
masks of the places nearest to the start make a first part; the whole follows while the document begins.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

Document = dict[str, Any]
Node = tuple[int, int]
_MASKS = "adaptive_token_mask_cache"
_ENTRY_US = 5.0
_CHARACTER_US = 0.012
_RULES_US = 0.035
"""What XGrammar takes to read one mask, a character of it, and a character of the rules; measured."""
FIRST_US = 4_500.0
_LEAST = 0.25
"""The share of it for masks, however long the rules take."""
_WORTH = 1.25
MOST_US = 100_000.0
"""Whoever outruns the rest waits for it: more than this is not left behind."""
_REFERENCE = -2


def nearest(document: Document) -> Document | None:
    """The document with the masks nearest to the start, loading in `FIRST_US`; None where that is not worth it, or the
    layout is not known. Linear in the document.
    """
    try:
        return _nearest(document)
    except (KeyError, IndexError, TypeError):
        return None


def _nearest(document: Document) -> Document | None:
    costs = [_ENTRY_US + _CHARACTER_US * len(json.dumps(entry)) for entry in document[_MASKS]]
    rules_us = _RULES_US * len(json.dumps(document["grammar"]))
    if not _WORTH * FIRST_US < rules_us + sum(costs) < MOST_US:
        return None
    far = len(costs) + len(document["grammar"]["per_rule_fsms"])
    steps = _steps(document["grammar"])
    order = sorted(range(len(costs)), key=lambda at: steps.get(_node(document[_MASKS][at]), far))
    left = max(FIRST_US - rules_us, _LEAST * FIRST_US)
    first = []
    for at in order:
        left -= costs[at]
        if left < 0:
            break
        first.append(document[_MASKS][at])
    return {**document, _MASKS: first} if first else None


def _node(entry: list[Any]) -> Node:
    """The rule and the state within it that a mask belongs to."""
    return entry[0][0], entry[0][2]


def _steps(grammar: Document) -> dict[Node, int]:
    """How many bytes from the start every place can be reached; a rule that is passed counts as one."""
    automata = grammar["per_rule_fsms"]
    root = grammar["root_rule_id"]
    start = (root, automata[root][0][1])
    found = {start: 0}
    queue = deque([start])
    while queue:
        rule, state = node = queue.popleft()
        edges = automata[rule][0][0]["edges"]
        for low, high, target in edges["data_"][edges["indptr_"][state] : edges["indptr_"][state + 1]]:
            if low == _REFERENCE and (inside := (high, automata[high][0][1])) not in found:
                found[inside] = found[node]
                queue.appendleft(inside)
            if (after := (rule, target)) not in found:
                found[after] = found[node] + 1
                queue.append(after)
    return found
