"""Grammars as Earley's recogniser reads them: rules of plain sequences, regular parts as terminals, counted repeats.

A grammar comes in as named expressions over the nodes of `patterns.tree` with two kinds more: `Call` of another rule
and `Terminal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

from engine.judge.recogniser.regex_automaton import Automaton
from engine.judge.recogniser.work import Work
from engine.patterns.tree import Choice, Class, Node, Repeat, Sequence, Undecidable

_REGULAR = 400
"""Positions, repeats counted out, up to which a regular part becomes one terminal."""
_PRODUCTIONS = 200_000


class DerivesNothing(ValueError):
    """No text can be derived from the start."""


class Terminal(Node):
    """Says where it can end. Hashable by identity."""

    __slots__ = ()
    nullable = False

    def ends(self, text: str, start: int, work: Work) -> Iterable[int]:
        """The places, `start` included where it may be empty, at which it can end when it begins at `start`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Call(Node):
    """Another rule."""

    name: str


Symbol = int | Terminal


@dataclass(frozen=True, slots=True)
class Counted:
    """A rule that is a symbol, `least` to `most` times."""

    symbol: Symbol
    least: int
    most: int | None


class Regular(Terminal):
    """A regular expression; `lazy`: it ends where it first can."""

    __slots__ = ("automaton", "lazy", "nullable")

    def __init__(self, node: Node, *, lazy: bool = False) -> None:
        """Raises Undecidable."""
        self.automaton = Automaton(node)
        self.lazy = lazy
        self.nullable = self.automaton.accepts(0)

    def ends(self, text: str, start: int, work: Work) -> list[int]:
        automaton, state, found = self.automaton, 0, []
        at = start
        while True:
            if automaton.accepts(state):
                found.append(at)
                if self.lazy:
                    break
            following = automaton.step(state, text[at]) if at < len(text) else None
            if following is None:
                break
            state = following
            at += 1
        work.spend(1 + (at - start) // 4)
        return found


class Productions:
    """Symbols are numbers of rules, or terminals. Production 0 derives the start."""

    def __init__(self, rules: Mapping[str, Node], start: str) -> None:
        """KeyError for a rule that is not there; Undecidable for what cannot be judged; DerivesNothing. Linear."""
        self.productions: list[tuple[int, tuple[Symbol, ...]]] = []
        self.counted: dict[int, Counted] = {}
        self._starts: dict[int, list[int]] = {}
        self._rules = rules
        self._names: dict[str, int] = {}
        self._made: dict[Node, Symbol] = {}
        self._open: list[str] = []
        self._count = 1
        self._loops: set[int] = set()
        """Rules made for repeats, which lead back to themselves."""
        self._add(0, (self._call(start),))
        for name in rules:  # also what is never reached: whoever compiles it compiles all
            self._call(name)
        while self._open:
            name = self._open.pop()
            self._write(self._names[name], rules[name])
        self._productive = self._derivable(lambda _: True)
        if 0 not in self._productive:
            raise DerivesNothing("no text can be derived")
        self.nullable = self._derivable(lambda terminal: terminal.nullable)
        for rule, counted in self.counted.items():
            if self._is_nullable(counted.symbol):
                self.counted[rule] = Counted(counted.symbol, 0, counted.most)
        self._refuse_circles()

    def starts(self, rule: int) -> list[int]:
        """The productions that a rule may begin with; for a counted rule R it is -1 - R."""
        return self._starts.get(rule, [])

    def _rule(self) -> int:
        self._count += 1
        if self._count > _PRODUCTIONS:
            raise Undecidable(f"a grammar of more than {_PRODUCTIONS} parts")
        return self._count - 1

    def _add(self, rule: int, symbols: tuple[Symbol, ...]) -> None:
        self._starts.setdefault(rule, []).append(len(self.productions))
        self.productions.append((rule, symbols))

    def _call(self, name: str) -> int:
        if name not in self._names:
            self._rules[name]
            self._names[name] = self._rule()
            self._open.append(name)
        return self._names[name]

    def _write(self, rule: int, node: Node) -> None:
        for way in node.parts if isinstance(node, Choice) else (node,):
            if isinstance(way, Sequence) and not is_regular(way):
                self._add(rule, tuple(self._symbol(part) for part in way.parts))
            else:
                self._add(rule, (self._symbol(way),))

    def _symbol(self, node: Node) -> Symbol:
        if isinstance(node, Call):
            return self._call(node.name)
        if isinstance(node, Terminal):
            return node
        if node not in self._made:
            self._made[node] = Regular(node) if is_regular(node) else self._structure(node)
        return self._made[node]

    def _structure(self, node: Node) -> Symbol:
        rule = self._rule()
        if isinstance(node, Repeat):
            self._repeat(rule, node)
        else:
            self._write(rule, node)
        return rule

    def _repeat(self, rule: int, node: Repeat) -> None:
        symbol = self._symbol(node.part)
        if (node.least, node.most) in ((0, None), (1, None)):
            self._loops.add(rule)
            self._add(rule, (rule, symbol))  # left recursion: one item a round
            self._add(rule, (symbol,) if node.least else ())
        elif (node.least, node.most) == (0, 1):
            self._add(rule, (symbol,))
            self._add(rule, ())
        else:
            self.counted[rule] = Counted(symbol, node.least, node.most)
            self._starts[rule] = [-1 - rule]

    def _refuse_circles(self) -> None:
        """Raises Undecidable for a rule that derives itself while nothing is read, or that is only repeats of itself:
        such a rule says nothing, and compilers lose their way in it."""
        edges: dict[int, list[int]] = {rule: [] for rule in range(self._count)}
        for rule, symbols in self.productions:
            solid = [symbol for symbol in symbols if not self._is_nullable(symbol)]
            alone = symbols if not solid else solid if len(solid) == 1 else ()
            edges[rule] += [part for part in alone if isinstance(part, int) and (part, rule) != (rule, rule)]
            if rule in symbols and rule in alone and rule not in self._loops:
                raise Undecidable(self._circle(rule))
        for rule, part in self.counted.items():
            if isinstance(part.symbol, int) and (part.least < 2 or part.symbol not in self._productive):
                edges[rule].append(part.symbol)
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as error:
            raise Undecidable(self._circle(*error.args[1])) from None

    def _circle(self, *rules: int) -> str:
        named = [name for name, rule in self._names.items() if rule in rules]
        flaw = "can derive itself while nothing is read" if self._productive.issuperset(rules) else "derives no text"
        return f"the rule {named[0] if named else 'root'!r}, which {flaw}"

    def _is_nullable(self, symbol: Symbol) -> bool:
        return symbol.nullable if isinstance(symbol, Terminal) else symbol in self.nullable

    def _derivable(self, passes: Callable[[Terminal], bool]) -> set[int]:
        """The rules that derive a text of such terminals alone: a fixed point, each production looked at once per
        symbol."""
        found: set[int] = set()
        users: dict[int, list[int]] = {}
        missing: dict[int, int] = {}
        ready = []
        whole = [(rule, symbols) for rule, symbols in self.productions]
        whole += [(rule, (part.symbol,) if part.least else ()) for rule, part in self.counted.items()]
        for number, (rule, symbols) in enumerate(whole):
            if any(isinstance(symbol, Terminal) and not passes(symbol) for symbol in symbols):
                continue
            needed = [symbol for symbol in symbols if not isinstance(symbol, Terminal)]
            missing[number] = len(needed)
            for symbol in needed:
                users.setdefault(symbol, []).append(number)
            if not needed:
                ready.append(rule)
        while ready:
            rule = ready.pop()
            if rule in found:
                continue
            found.add(rule)
            for number in users.get(rule, ()):
                missing[number] -= 1
                if not missing[number]:
                    ready.append(whole[number][0])
        return found


@lru_cache(maxsize=10_000)
def is_regular(node: Node) -> bool:
    """Whether a node is a regular expression that is worth a terminal."""
    return regular_size(node) <= _REGULAR


@lru_cache(maxsize=10_000)
def regular_size(node: Node) -> int:
    """Positions of a regular part; more than any limit for what is none."""
    if isinstance(node, Class):
        return 1
    if isinstance(node, Sequence | Choice):
        total = 0
        for part in node.parts:
            total += regular_size(part)
            if total > _REGULAR:
                break
        return total
    if isinstance(node, Repeat):
        return max(1, regular_size(node.part)) * max(1, node.least, node.most or 0)
    return _REGULAR + 1
