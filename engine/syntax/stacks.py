"""The stacks of the parser, followed as a set: immutable, linked, sharing what they have in common.

They hold states and no values, so two readings of a text that come to the same states are one stack again.
"""

from __future__ import annotations

from typing import Any

from engine.syntax.tables import ParserState

Stack = tuple[ParserState, Any, int]
"""(state on top, the stack below or None, hash of all its states)"""
Stacks = tuple[Stack, ...]
MOST_STACKS, MOST_STEPS = 64, 1024
MOST_COMPARED = 64
"""Levels of a linked list."""


class TooAmbiguous(Exception):
    """More readings than are followed."""


def same(one: tuple[Any, ...] | None, other: tuple[Any, ...] | None) -> bool:
    """Whether two linked lists are known to hold the same; looks down to where they meet."""
    for _ in range(MOST_COMPARED):
        if one is other:
            return True
        if one is None or other is None or one[0] != other[0]:
            return False
        one, other = one[1], other[1]
    return False


def pushed(state: ParserState, below: Stack | None) -> Stack:
    return state, below, hash((state, below[2] if below else 0))


def united(some: Stacks, more: Stacks) -> Stacks:
    if not some:
        return more
    found = {stack[2]: stack for stack in (*more, *some)}
    if len(found) > MOST_STACKS:
        raise TooAmbiguous
    return tuple(found.values())


def shift(stacks: Stacks, terminal: int) -> Stacks:
    """The stacks after a terminal; none if no text that begins so is in the language."""
    if len(stacks) == 1:
        stack = stacks[0]
        while True:
            state = stack[0]
            target, reductions = state.actions.get(terminal) or state.action(terminal)
            if not reductions:
                return ((target, stack, hash((target, stack[2]))),) if target else ()
            if target or len(reductions) > 1:
                return _shift_all([stack], terminal)
            size, left = reductions[0]
            for _ in range(size):
                stack = stack[1]
            state = stack[0]
            state = state.gotos.get(left) or _goto(state, left)
            stack = (state, stack, hash((state, stack[2])))
    return _shift_all(list(stacks), terminal)


def _goto(state: ParserState, left: int) -> ParserState:
    found = state.goto(left)
    assert found is not None, "a reduction leaves a stack that can take the nonterminal"
    return found


def _shift_all(work: list[Stack], terminal: int) -> Stacks:
    shifted: dict[int, Stack] = {}
    reduced: set[int] = set()
    steps = 0
    while work:
        stack = work.pop()
        state = stack[0]
        target, reductions = state.actions.get(terminal) or state.action(terminal)
        if target:
            after = pushed(target, stack)
            shifted[after[2]] = after
        for size, left in reductions:
            below = stack
            for _ in range(size):
                below = below[1]
            after = pushed(below[0].gotos.get(left) or _goto(below[0], left), below)
            if after[2] not in reduced:
                reduced.add(after[2])
                work.append(after)
        steps += 1
        if steps > MOST_STEPS:
            raise TooAmbiguous
    if len(shifted) > MOST_STACKS:
        raise TooAmbiguous
    return tuple(shifted.values())
