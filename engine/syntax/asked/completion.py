"""What completes a text: the shortest way out of a stack of the parser, spelt as tokens.

Whatever comes behind a stack ends one of the productions that its state on top stands in. The stack is then one below,
with what the production makes of it, so that the shortest way is one through stacks (Dijkstra's); what is left of a
production costs the same wherever it is. How tokens are spelt is a guess, which reading them checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

from engine.syntax.language import Language, Mode
from engine.syntax.pattern import shortest_text
from engine.syntax.reading import Reading, settled
from engine.syntax.stacks import Stack, Stacks, TooAmbiguous, reduced
from engine.syntax.state import State
from engine.syntax.tables import ParserState

_MOST = 300
"""Stacks that are looked at for one text: about a millisecond."""
_NEVER = 1 << 30
_CLOSE = frozenset(")]},;.([`'\"")
"""Stand without a space behind another sign."""


@cache
def prepare(language: Language) -> None:
    """Make what every text of it needs. A tenth of a second, once."""
    _costs(language)
    for mode in language.modes:
        mode.prepare()


def completion(state: State) -> str | None:
    """What makes a text that stands here whole, as short as is known; None where nothing is found."""
    if state.whole:
        return ""
    try:
        return min((text for one in state.readings for text in _completions(state, one)), key=len, default=None)
    except TooAmbiguous:
        return None


def _completions(state: State, reading: Reading) -> Iterator[str]:
    """By one reading: the token that is open is ended, then what is needed comes, in a new line where it must."""
    ended = "" if reading.place is None else reading.place.ending(reading.witness)
    if ended is None:
        return
    before = "" if reading.place is None else "a"
    for end in (ended, ended + "\n"):
        alone = State(state.language, state.partial, (reading,)).feed(end)
        for behind in settled(state.language, alone.readings):
            plan = _plan(state.language, behind.stacks)
            text = None if plan is None else _spelt(alone, plan, behind.layout.blocks, before)
            if text is not None:
                yield end + text
                return


class Exit(NamedTuple):
    """The end of a production behind one of its items: it takes so many symbols from the stack, and puts one there."""

    cost: int
    item: int
    size: int
    left: int


class _Costs:
    """The cheapest text of each symbol, by characters."""

    def __init__(self, language: Language) -> None:
        self._tables = tables = language.tables
        self._cost = [_NEVER] * len(tables.after)
        self._best: dict[int, int] = {}
        for mode in language.modes:
            for terminal in (*mode.literals, *mode.patterns):
                self._cost[terminal] = min(self._cost[terminal], 1 + len(_text_of(mode, terminal) or ""))
        for terminal in (language.end, *(language.layout or ())):
            self._cost[terminal] = 1
        changed = True
        while changed:
            changed = False
            for end, (size, left) in tables.production.items():
                cost = sum(self._cost[symbol] for symbol in tables.after[end - size : end])
                if cost < self._cost[left]:
                    self._cost[left], self._best[left], changed = cost, end - size, True

    @cache  # noqa: B019 - as many as there are items
    def behind(self, item: int) -> tuple[int, tuple[int, ...]]:
        """What the rest of a production costs, and its terminals."""
        symbol = self._tables.after[item]
        if symbol < 0:
            return 0, ()
        cost, terminals = self.behind(item + 1)
        own = self.behind(self._best[symbol])[1] if symbol in self._best else (symbol,)
        return cost + self._cost[symbol], own + terminals

    @cache  # noqa: B019 - as many as there are states
    def exits(self, state: ParserState) -> tuple[Exit, ...]:
        """The cheapest ends of the productions that it stands in: one of those that leave the same stacks."""
        ends = (Exit(self.behind(item)[0], item, *self._tables.places[item]) for item in state.kernel)
        found = {one[2:]: one for one in sorted(ends, reverse=True) if one.cost < _NEVER}
        return tuple(found.values())


_costs = cache(_Costs)


def _plan(language: Language, stacks: Stacks) -> list[int] | None:
    """The cheapest terminals behind which one of the stacks has nothing open."""
    costs, goals, order = _costs(language), language.tables.goals, count()
    work: list[tuple[int, int, Stack, Exit | None, Any]] = [(0, next(order), stack, None, None) for stack in stacks]
    seen = set[int]()
    while work and len(seen) < _MOST:
        cost, _, stack, ended, way = heappop(work)
        if ended and ended.left in goals:
            return _along(language, costs, way)
        for here in reduced(stack, ended.size, ended.left) if ended else (stack,):
            if here[2] not in seen:
                seen.add(here[2])
                for one in costs.exits(here[0]):
                    heappush(work, (cost + one.cost, next(order), here, one, (way, one.item)))
    return None


def _along(language: Language, costs: _Costs, way: Any) -> list[int]:
    """Without what the end of a text supplies."""
    items, supplied = [], {language.end, *language.supplied, *(language.layout or ())[1:]}
    while way is not None:
        way, item = way
        items.append(item)
    plan = [terminal for item in reversed(items) for terminal in costs.behind(item)[1]]
    while plan and plan[-1] in supplied:
        plan.pop()
    return plan


def _spelt(state: State, plan: list[int], blocks: Any, before: str) -> str | None:
    """The terminals as text behind which the state is whole. `blocks`: as in Layout; `before`: the last character."""
    language, text = state.language, ""
    indent, dedent = language.layout or (-1, -1)
    for terminal in plan:
        if terminal == indent:
            blocks = tuple(one + 1 for one in blocks[0]), blocks
        elif terminal == dedent:
            blocks = blocks[1]
        elif not (state.partial and state.whole):
            pieces = (_piece(language, behind, terminal, blocks) for behind in settled(language, state.readings))
            piece = next((one for one in pieces if one is not None), None)
            if not piece:
                return None
            if _needs_space(before, piece[0]) and state.feed(" ").alive:
                piece = " " + piece
            text, state, before = text + piece, state.feed(piece), piece[-1]
    return text if state.whole else None


def _needs_space(before: str, after: str) -> bool:
    words = [one.isalnum() or one in "_$" for one in (before, after) if one]
    return len(words) == 2 and words[0] == words[1] and after not in _CLOSE


def _piece(language: Language, behind: Reading, terminal: int, blocks: Any) -> str | None:
    """A terminal as text, with what must come before it: the end of a comment, or the beginning of a line."""
    (mode, around), before = behind.modes, ""
    text = _text_of(mode, terminal)
    if text is None:  # within a comment
        for one, (verb, target) in mode.actions.items():
            if verb != "push" and one in language.skips:
                before, text = _text_of(mode, one) or "", _text_of(target or (around and around[0]), terminal)
    elif mode.measures and blocks is not None:
        missing = blocks[0][0] - behind.layout.column[0]
        before = " " * missing if missing >= 0 else "\n" + " " * blocks[0][0]
    return None if text is None else before + text


@cache
def _text_of(mode: Mode | None, terminal: int) -> str | None:
    """The shortest text of a terminal, in a mode or in the one that it gives way to."""
    if mode is None:
        return None
    if terminal in mode.literals:
        return mode.literals[terminal]
    if terminal in mode.patterns:
        return min((shortest_text(text) for text in mode.patterns[terminal]), key=len)
    return _text_of(mode.otherwise, terminal)
