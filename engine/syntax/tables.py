"""The LR automaton of a grammar: states are made when first reached, conflicts are kept.

Reductions look one terminal ahead (FOLLOW). This only saves work: a terminal is shifted from a stack that spells a
viable prefix or not at all, so no error is found later than at the terminal that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.syntax.productions import Productions

END, OPEN = "END", "OPEN"
Reduction = tuple[int, int]
"""(symbols taken from the stack, nonterminal put there)"""


@dataclass(slots=True, eq=False)
class ParserState:
    tables: Tables = field(repr=False)
    kernel: frozenset[int]
    actions: dict[int, tuple[ParserState | None, tuple[Reduction, ...]]] = field(default_factory=dict, repr=False)
    """By terminal; `action` makes what is not here yet."""
    gotos: dict[int, ParserState] = field(default_factory=dict, repr=False)
    _kernels: dict[int, frozenset[int]] | None = field(default=None, repr=False)
    _finished: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)
    _shifted: int = field(default=0, repr=False)

    def action(self, terminal: int) -> tuple[ParserState | None, tuple[Reduction, ...]]:
        """The state to shift to, and the reductions, that the terminal allows here."""
        if self._kernels is None:
            self._expand()
        reductions = tuple((size, left) for size, left, follow in self._finished if follow >> terminal & 1)
        found = self.actions[terminal] = (self.goto(terminal), reductions)
        return found

    def lookahead(self) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        """As bits, the terminals that it shifts; and its reductions with those that can come behind them."""
        if self._kernels is None:
            self._expand()
        return self._shifted, self._finished

    def goto(self, symbol: int) -> ParserState | None:
        """The state after the symbol. None: it cannot stand here."""
        found = self.gotos.get(symbol)
        if found is None:
            if self._kernels is None:
                self._expand()
            kernel = (self._kernels or {}).get(symbol)
            if kernel is None:
                return None
            found = self.gotos[symbol] = self.tables.state(kernel)
        return found

    def _expand(self) -> None:
        tables = self.tables
        items = set(self.kernel)
        for item in self.kernel:
            symbol = tables.after[item]
            if symbol >= tables.terminals:
                items |= tables.closure(symbol)
        kernels: dict[int, list[int]] = {}
        finished = []
        for item in items:
            symbol = tables.after[item]
            if symbol < 0:
                size, left = tables.production[item]
                finished.append((size, left, tables.follow[left]))
            else:
                kernels.setdefault(symbol, []).append(item + 1)
        self._finished = tuple(sorted(set(finished)))
        self._shifted = sum(1 << symbol for symbol in kernels if symbol < tables.terminals)
        self._kernels = {symbol: frozenset(found) for symbol, found in kernels.items()}


class Tables:
    """Symbols are numbers, terminals first. Items are places in the productions, which are laid end to end."""

    def __init__(self, productions: Productions, terminals: list[str], starts: dict[str, tuple[str, bool]]) -> None:
        """`starts`: by unit, its symbol and whether it may be empty."""
        self.terminals = len(terminals)
        names = [*terminals, *productions, *(f"start {unit}" for unit in starts)]
        self.numbers = {name: number for number, name in enumerate(names)}
        self.goals = frozenset(range(len(names) - len(starts), len(names)))
        self.after: list[int] = []
        self.production: dict[int, tuple[int, int]] = {}
        """By the item at the end: how many symbols, and what they become."""
        self.places: list[tuple[int, int]] = []
        """By item: how many symbols are before it, and what they become with the others."""
        self._begins: dict[int, list[int]] = {}
        self._closures: dict[int, frozenset[int]] = {}
        self._states: dict[frozenset[int], ParserState] = {}
        for name, sequences in productions.items():
            for sequence in sequences:
                self._add(name, sequence)
        for unit, (symbol, may_be_empty) in starts.items():
            self._add(f"start {unit}", (symbol, END))
            if may_be_empty:
                self._add(f"start {unit}", (END,))
        self.follow = self._follow()
        self.starts = {unit: self.state(frozenset(self._begins[self.numbers[f"start {unit}"]])) for unit in starts}

    def _add(self, left: str, sequence: tuple[str, ...]) -> None:
        number = self.numbers[left]
        self._begins.setdefault(number, []).append(len(self.after))
        for symbol in sequence:
            if symbol not in self.numbers:
                raise ValueError(f"grammar: rule {left}: {symbol} is neither a rule nor a terminal of a mode")
            self.after.append(self.numbers[symbol])
        self.places += [(dot, number) for dot in range(len(sequence) + 1)]
        self.production[len(self.after)] = (len(sequence), number)
        self.after.append(-1)

    def state(self, kernel: frozenset[int]) -> ParserState:
        return self._states.get(kernel) or self._states.setdefault(kernel, ParserState(self, kernel))

    def closure(self, nonterminal: int) -> frozenset[int]:
        """Items at the beginning of the nonterminal's productions, and of those that these begin with."""
        found = self._closures.get(nonterminal)
        if found is None:
            items, seen, open_ones = list[int](), {nonterminal}, [nonterminal]
            while open_ones:
                for item in self._begins.get(open_ones.pop(), ()):
                    items.append(item)
                    symbol = self.after[item]
                    if symbol >= self.terminals and symbol not in seen:
                        seen.add(symbol)
                        open_ones.append(symbol)
            found = self._closures[nonterminal] = frozenset(items)
        return found

    def _first(self) -> list[int]:
        first = [1 << number if number < self.terminals else 0 for number in range(len(self.numbers))]
        for number in range(self.terminals, len(self.numbers)):
            for item in self.closure(number):
                if self.after[item] < self.terminals:
                    first[number] |= 1 << self.after[item]
        return first

    def _follow(self) -> list[int]:
        """By symbol, the terminals that can come after it, as bits."""
        first, follow = self._first(), [0] * len(self.numbers)
        last: list[tuple[int, int]] = []
        for item, symbol in enumerate(self.after):
            if symbol >= self.terminals:
                behind = self.after[item + 1]
                if behind >= 0:
                    follow[symbol] |= first[behind]
                else:
                    last.append((self.production[item + 1][1], symbol))
        changed = True
        while changed:
            changed = False
            for left, symbol in last:
                union = follow[symbol] | follow[left]
                if union != follow[symbol]:
                    follow[symbol] = union
                    changed = True
        return follow
