"""An automaton as one regular expression in XGrammar's dialect, by eliminating its states.

XGrammar remembers the masks of a rule across grammars only when the rule's cycles are its own. An automaton whose
states refer to each other in a circle would be compiled anew every time; as one expression it is one rule.
Knows automata and regex syntax. Knows nothing of JSON: the caller spells each move.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.schema.alphabet import Ranges
from engine.schema.suffixes import Machine

STATES = 100
LENGTH = 10_000
"""Beyond these (states reached, characters written) the states are better kept as rules."""
SHORT = 400
GROWTH = 1.5
"""An expression says a state once for each way to it, and each place in it costs the compiler a mask: over SHORT
characters, states that would be written more often than this are better kept as rules, too."""

_SPECIAL = frozenset("\\^$.*+?()[]{}|/-")

Labels = tuple[str, ...]
_Edges = dict[int, dict[int, Labels]]


def expression(automaton: Machine, start: int, spell: Callable[[Ranges], list[str]], end: str) -> str | None:
    """What `automaton` accepts from `start`, each word followed by the expression `end`; None when over a limit.

    `spell` gives the alternatives of one move. State elimination (Brzozowski and McCluskey 1963), cheapest state
    first; cubic in the states at worst.
    """
    forward = _reached(automaton, start, spell)
    if forward is None:
        return None
    most = max(SHORT, GROWTH * sum(_size(labels) for targets in forward.values() for labels in targets.values()))
    entry, leave = -1, -2
    for state in list(forward):
        if state in automaton.accepting:
            forward[state][leave] = (end,)
    forward[entry] = {start: ("",)}
    backward: dict[int, set[int]] = {leave: set()}
    for source, targets in forward.items():
        for target in targets:
            backward.setdefault(target, set()).add(source)
    remaining = set(forward) - {entry}
    while remaining:
        state = min(remaining, key=lambda s: (_cost(forward, backward, s), s))
        remaining.discard(state)
        if not _eliminate(forward, backward, state, min(LENGTH, most)):
            return None
    found = _choice(forward[entry][leave])
    return found if len(found) <= most else None


def _reached(automaton: Machine, start: int, spell: Callable[[Ranges], list[str]]) -> _Edges | None:
    forward: _Edges = {}
    stack = [start]
    while stack:
        state = stack.pop()
        if state in forward:
            continue
        forward[state] = {target: tuple(spell(spans)) for spans, target in automaton.moves(state)}
        stack.extend(forward[state])
        if len(forward) > STATES:
            return None
    return forward


def _cost(forward: _Edges, backward: dict[int, set[int]], state: int) -> int:
    """Characters that eliminating `state` would add."""
    ways_in = backward[state] - {state}
    ways_out = forward[state].keys() - {state}
    before = sum(_size(forward[source][state]) for source in ways_in)
    after = sum(_size(forward[state][target]) for target in ways_out)
    loop = _size(forward[state].get(state, ()))
    return before * (len(ways_out) - 1) + after * (len(ways_in) - 1) + loop * (len(ways_in) * len(ways_out) - 1)


def _size(labels: Labels) -> int:
    return sum(map(len, labels))


def _eliminate(forward: _Edges, backward: dict[int, set[int]], state: int, limit: float) -> bool:
    """Replace every way through `state` by an edge; False when an edge grows over `limit` characters."""
    onward = forward.pop(state)
    middle = _star(onward.pop(state, ()))
    sources = backward.pop(state) - {state}
    for target in onward:
        backward[target].discard(state)
    for source in sources:
        head = _choice(forward[source].pop(state)) + middle
        for target, labels in onward.items():
            word = head + _choice(labels)
            known = forward[source].get(target, ())
            if len(word) > limit:
                return False
            if word not in known:
                forward[source][target] = (*known, word)
            backward[target].add(source)
    return True


def _choice(labels: Labels) -> str:
    return labels[0] if len(labels) == 1 else f"({'|'.join(labels)})"


def _star(labels: Labels) -> str:
    if not labels:
        return ""
    if len(labels) == 1 and _is_one_character(labels[0]):
        return labels[0] + "*"
    return f"({'|'.join(labels)})*"


def _is_one_character(text: str) -> bool:
    if text.startswith("["):
        return _class_end(text) == len(text)
    return len(text) == 1


def _class_end(text: str) -> int:
    at = 1
    while text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at + 1


def character_class(spans: Ranges) -> str:
    """A set of characters, or a single one, in XGrammar's regex syntax."""
    if len(spans) == 1 and spans[0][0] == spans[0][1]:
        return character(spans[0][0])
    return f"[{''.join(_span(low, high) for low, high in spans)}]"


def _span(low: int, high: int) -> str:
    return character(low) if low == high else f"{character(low)}-{character(high)}"


def character(code_point: int) -> str:
    """One character as itself."""
    if code_point < 0x20 or code_point == 0x7F:
        return f"\\x{code_point:02x}"
    return "\\" + chr(code_point) if chr(code_point) in _SPECIAL else chr(code_point)
