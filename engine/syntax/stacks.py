"""The stacks of the parser, followed as a set: immutable, linked, sharing what they have in common.

They hold states and no values, so two readings of a text that come to the same states are one stack again. Where there
are many, those with the same state on top become one that has several stacks below it.
"""

from __future__ import annotations

from typing import Any

from engine.syntax.tables import ParserState

Stack = tuple[ParserState, Any, int, tuple[Any, ...], bool]
"""(state on top, the stack below or None, hash of all states, further stacks below, whether there are any at all)"""
Stacks = tuple[Stack, ...]
MOST_APART, MOST_STACKS, MOST_STEPS = 16, 64, 512
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
    if below is None:
        return state, None, hash((state, 0)), (), False
    return state, below, hash((state, below[2])), (), below[4]


def united(some: Stacks, more: Stacks) -> Stacks:
    if not some:
        return more
    return _bounded({stack[2]: stack for stack in (*more, *some)})


def _bounded(stacks: dict[int, Stack]) -> Stacks:
    if len(stacks) <= MOST_APART:
        return tuple(stacks.values())
    by_state: dict[ParserState, list[Stack]] = {}
    for stack in stacks.values():
        by_state.setdefault(stack[0], []).append(stack)
    if len(by_state) > MOST_STACKS:
        raise TooAmbiguous
    return tuple(_merged(state, same_top) for state, same_top in by_state.items())


def _merged(state: ParserState, stacks: list[Stack]) -> Stack:
    if len(stacks) == 1:
        return stacks[0]
    below = {one[2]: one for stack in stacks for one in (stack[1], *stack[3])}
    if len(below) > MOST_STACKS:
        raise TooAmbiguous
    first, *others = below.values()
    return state, first, hash((state, *sorted(below))), tuple(others), True


def _below(stack: Stack, size: int) -> list[Stack]:
    """The stacks after that many symbols are taken away."""
    found = [stack]
    for _ in range(size):
        if any(one[3] for one in found):
            found = list({id(one): one for top in found for one in (top[1], *top[3])}.values())
        else:
            found = list({id(top[1]): top[1] for top in found}.values()) if len(found) > 1 else [found[0][1]]
    return found


def shift(stacks: Stacks, terminal: int) -> Stacks:
    """The stacks after a terminal; none if no text that begins so is in the language."""
    if len(stacks) != 1:
        return _shift_all(list(stacks), terminal)
    stack = stacks[0]
    while True:
        state = stack[0]
        target, reductions = state.actions.get(terminal) or state.action(terminal)
        if not reductions:
            return (pushed(target, stack),) if target else ()
        if target or len(reductions) > 1:
            return _shift_all([stack], terminal)
        size, left = reductions[0]
        for _ in range(size):
            if stack[3]:
                return _shift_all(list(stacks), terminal)
            stack = stack[1]
        state = stack[0]
        state = state.gotos.get(left) or _goto(state, left)
        stack = (state, stack, hash((state, stack[2])), (), stack[4])


def viable(stacks: Stacks, wanted: int) -> int:
    """Those of the terminals, as bits, that `shift` takes: in one walk for all of them."""
    work, known, found = list(stacks), set[int](), 0
    while work and found != wanted:
        stack = work.pop()
        shifted, reductions = stack[0].lookahead()
        found |= shifted & wanted
        for size, left, follow in reductions:
            if follow & wanted & ~found:
                for after in reduced(stack, size, left):
                    if after[2] not in known:
                        known.add(after[2])
                        work.append(after)
        if len(known) > MOST_STEPS:
            raise TooAmbiguous
    return found


def reduced(stack: Stack, size: int, left: int) -> list[Stack]:
    """The stacks after so many symbols have become one."""
    return [pushed(below[0].gotos.get(left) or _goto(below[0], left), below) for below in _below(stack, size)]


def _goto(state: ParserState, left: int) -> ParserState:
    found = state.goto(left)
    assert found is not None, "a reduction leaves a stack that can take the nonterminal"
    return found


def _shift_all(work: list[Stack], terminal: int) -> Stacks:
    shifted: dict[int, Stack] = {}
    known: set[int] = set()
    steps = 0
    while work:
        stack = work.pop()
        state = stack[0]
        target, reductions = state.actions.get(terminal) or state.action(terminal)
        if target:
            after = pushed(target, stack)
            shifted[after[2]] = after
        for size, left in reductions:
            for after in reduced(stack, size, left):
                if after[2] not in known:
                    known.add(after[2])
                    work.append(after)
        steps += 1
        if steps > MOST_STEPS:
            raise TooAmbiguous
    return _bounded(shifted)
