"""The stacks of the parser, followed as a set: immutable, linked, sharing what they have in common.

They hold states and no values, so two readings of a text that come to the same states are one stack again.
"""

from __future__ import annotations

from typing import Any

from engine.syntax.tables import ParserState

Stack = tuple[ParserState, Any]
"""(state on top, the stack below or None)"""
Stacks = tuple[Stack, ...]
MOST_STACKS, MOST_STEPS = 64, 4096


class TooAmbiguous(Exception):
    """More readings than are followed."""


def same(one: Stack | None, other: Stack | None) -> bool:
    """Whether two stacks hold the same states; looks down to where they meet."""
    while one is not other:
        if one is None or other is None or one[0] is not other[0]:
            return False
        one, other = one[1], other[1]
    return True


def united(some: Stacks, more: Stacks) -> Stacks:
    if not some:
        return more
    found = list(some)
    for stack in more:
        if not any(same(stack, known) for known in found):
            found.append(stack)
    if len(found) > MOST_STACKS:
        raise TooAmbiguous
    return tuple(found)


def shift(stacks: Stacks, terminal: int) -> Stacks:
    """The stacks after a terminal; none if no text that begins so is in the language."""
    if len(stacks) == 1:
        stack = stacks[0]
        while True:
            state = stack[0]
            target, reductions = state.actions.get(terminal) or state.action(terminal)
            if not reductions:
                return ((target, stack),) if target else ()
            if target or len(reductions) > 1:
                return _shift_all([stack], terminal)
            size, left = reductions[0]
            for _ in range(size):
                stack = stack[1]
            state = stack[0]
            stack = (state.gotos.get(left) or _goto(state, left), stack)
    return _shift_all(list(stacks), terminal)


def _goto(state: ParserState, left: int) -> ParserState:
    found = state.goto(left)
    assert found is not None, "a reduction leaves a stack that can take the nonterminal"
    return found


def _shift_all(work: list[Stack], terminal: int) -> Stacks:
    shifted: list[Stack] = []
    reduced: list[Stack] = []
    steps = 0
    while work:
        stack = work.pop()
        state = stack[0]
        target, reductions = state.actions.get(terminal) or state.action(terminal)
        if target:
            after = (target, stack)
            if not any(same(after, known) for known in shifted):
                shifted.append(after)
        for size, left in reductions:
            below = stack
            for _ in range(size):
                below = below[1]
            after = (below[0].gotos.get(left) or _goto(below[0], left), below)
            if not any(same(after, known) for known in reduced):
                reduced.append(after)
                work.append(after)
        steps += 1
        if steps > MOST_STEPS or len(reduced) > MOST_STEPS // 4:
            raise TooAmbiguous
    if len(shifted) > MOST_STACKS:
        raise TooAmbiguous
    return tuple(shifted)
