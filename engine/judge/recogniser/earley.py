"""Whether a text belongs to a context-free grammar, in time that is bounded and counted.

Earley's recogniser [1] over characters, with nullable rules advanced when they are predicted [2] and chains of right
recursion jumped over [3]. Terminals say by themselves where they can end, so that whole regular parts cost one item;
counted repeats carry their count in the item instead of being written out.

[1] Earley, An efficient context-free parsing algorithm, 1970. [2] Aycock and Horspool, Practical Earley parsing, 2002.
[3] Leo, A general context-free parsing algorithm running in linear time on every LR(k) grammar, 1991.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field

from engine.judge.recogniser.productions import Productions, Symbol, Terminal
from engine.judge.recogniser.work import Work

Item = tuple[int, int, int]
"""A production, how many of its symbols are behind, and where it began. A counted rule R is production -1 - R, and the
second number its count."""


_UNITS = 64
"""How far back a circle of rules that derive one another is looked for."""


@dataclass(slots=True)
class _Column:
    """What is known at one place of the text."""

    waiting: dict[int, list[Item]] = field(default_factory=dict)
    """By rule, the items that go on when one that began here is complete."""
    tops: dict[int, Item | None] = field(default_factory=dict)
    """By rule, the last item of the chain that its completion completes, where there is but one way."""


def recognises(grammar: Productions, text: str, work: Work) -> bool:
    """Whether the grammar derives the whole text. Linear in the text for LR(k) grammars, cubic at worst; raises
    JudgingLimit when `work` is spent."""
    return _Recogniser(grammar, text, work).run()


class _Recogniser:
    def __init__(self, grammar: Productions, text: str, work: Work) -> None:
        self.grammar = grammar
        self.text = text
        self.work = work
        self.columns = [_Column() for _ in range(len(text) + 1)]
        self.coming: dict[int, list[Item]] = {0: [(0, 0, 0)]}
        self.here = 0
        self.queue: list[Item] = []
        self.seen: set[Item] = set()
        self.free: dict[Item, int] = {}
        """Behind the ends of the free text that an item waits for."""

    def run(self) -> bool:
        for here in range(len(self.text) + 1):
            self.here, self.queue, self.seen = here, [], set()
            for item in self.coming.pop(here, ()):
                self.push(item)
            while self.queue:
                self.work.spend()
                self.process(self.queue.pop())
            if not self.coming and here < len(self.text):
                return False
        return (0, 1, 0) in self.seen

    def push(self, item: Item) -> None:
        if item not in self.seen:
            self.seen.add(item)
            self.queue.append(item)

    def process(self, item: Item) -> None:
        production, position, origin = item
        if production < 0:
            rule = -1 - production
            counted = self.grammar.counted[rule]
            if position >= counted.least:
                self.complete(rule, origin)
            if counted.most is None or position < counted.most:
                self.expect(counted.symbol, item)
            return
        rule, symbols = self.grammar.productions[production]
        if position == len(symbols):
            self.complete(rule, origin)
        else:
            self.expect(symbols[position], item)

    def expect(self, symbol: Symbol, item: Item) -> None:
        if isinstance(symbol, Terminal):
            for end in self.new_ends(symbol.ends(self.text, self.here, self.work), item):
                self.advance(item, end)
            return
        waiting = self.columns[self.here].waiting
        if symbol not in waiting:
            waiting[symbol] = []
            for start in self.grammar.starts(symbol):
                self.push((start, 0, self.here))
        waiting[symbol].append(item)
        if symbol in self.grammar.nullable:
            self.advance(item, self.here)

    def new_ends(self, ends: Iterable[int], item: Item) -> Iterable[int]:
        """Without those that the same item came to from an earlier place, where ends are all up to one."""
        if isinstance(ends, range):
            ends = range(max(ends.start, self.free.get(item, 0)), ends.stop)
            if ends:
                self.free[item] = ends.stop
            self.work.spend(len(ends) // 4)
        return ends

    def advance(self, item: Item, end: int) -> None:
        onward = self.onward(item)
        if end > self.here:
            self.coming.setdefault(end, []).append(onward)
        elif item[0] >= 0:  # a counted rule whose part may be empty has no least count: nothing is lost
            self.push(onward)

    def onward(self, item: Item) -> Item:
        production, position, origin = item
        if production < 0:
            counted = self.grammar.counted[-1 - production]
            if counted.most is None and position >= counted.least:
                return item
        return production, position + 1, origin

    def complete(self, rule: int, origin: int) -> None:
        if origin == self.here:  # an empty derivation: whoever waits has gone on already
            return
        top = self.top(rule, origin)
        if top is not None:
            self.push(top)
            return
        for item in self.columns[origin].waiting.get(rule, ()):
            self.work.spend()
            self.push(self.onward(item))

    def top(self, rule: int, origin: int) -> Item | None:
        """The end of the chain of completions that this one sets off, if each has exactly one item that waits for it
        and is complete with it. The columns it reads are finished."""
        path: list[tuple[int, int]] = []
        found: Item | None = None
        while origin < self.here and (rule, origin) not in path[-_UNITS:]:
            column = self.columns[origin]
            if rule in column.tops:
                found = column.tops[rule] or found
                break
            item = self.only_last(column.waiting.get(rule, ()))
            if item is None:
                column.tops[rule] = None
                break
            self.work.spend()
            path.append((rule, origin))
            found = self.onward(item)
            rule, origin = self.grammar.productions[item[0]][0], item[2]
        for step, place in path:
            self.columns[place].tops[step] = found
        return found

    def only_last(self, waiting: Listing[Item]) -> Item | None:
        if len(waiting) != 1 or waiting[0][0] < 0:
            return None
        production, position, _ = waiting[0]
        return waiting[0] if position == len(self.grammar.productions[production][1]) - 1 else None
