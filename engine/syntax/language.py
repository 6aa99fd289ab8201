"""A grammar made ready to follow texts: parser states, and a scanner for each mode."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field

from engine.syntax.notation import Action, GrammarText, ModeText, read_grammar
from engine.syntax.productions import plain_productions, unproductive
from engine.syntax.scanner import Scanner
from engine.syntax.stacks import Stack, Stacks, shift, united
from engine.syntax.tables import END, OPEN, ParserState, Tables


@dataclass(slots=True, eq=False)
class Mode:
    """What is scanned for, and what happens after a token. Terminals are numbers."""

    name: str
    patterns: dict[int, list[str]]
    literals: dict[int, str]
    soft: frozenset[int]
    ignorecase: bool
    contexts: dict[int, frozenset[int]]
    ends: bool
    measures: bool
    """Whether a line's column is counted here."""
    actions: dict[int, tuple[str, Mode | None]] = field(default_factory=dict)
    otherwise: Mode | None = None
    spaces: frozenset[int] = frozenset()
    _scanners: dict[frozenset[int], Scanner] = field(default_factory=dict)

    def scanner(self, without: frozenset[int]) -> Scanner:
        if without not in self._scanners:
            self._scanners[without] = Scanner(
                {terminal: texts for terminal, texts in self.patterns.items() if terminal not in without},
                {terminal: text for terminal, text in self.literals.items() if terminal not in without},
                self.soft,
                ignorecase=self.ignorecase,
            )
        return self._scanners[without]

    def prepare(self) -> None:
        """Make the scanners, and what they do with the first character of a token, before somebody waits for it."""
        for without in {frozenset[int](), *self.contexts.values(), *(frozenset({one}) for one in self.contexts)}:
            for character in string.printable:
                self.scanner(without).start.step(character)

    def by_context(self, stacks: Stacks) -> list[tuple[Scanner, Stacks]]:
        """Stacks that wait for different tokens are scanned apart."""
        if not self.contexts:
            return [(self.scanner(frozenset()), stacks)]
        groups: dict[frozenset[int], Stacks] = {}
        for stack in stacks:
            for without in self._without(stack):
                groups[without] = (*groups.get(without, ()), stack)
        return [(self.scanner(without), group) for without, group in groups.items()]

    def _without(self, stack: Stack) -> list[frozenset[int]]:
        """What is not scanned for. Of stacks that were merged some may take what others cannot, so both are tried."""
        found = [frozenset[int]()]
        for terminal, others in self.contexts.items():
            takes = bool(shift((stack,), terminal))
            either = takes and stack[4] and any(shift((stack,), other) for other in others)
            left_out = ([others] if takes else []) + ([frozenset({terminal})] if either or not takes else [])
            found = [known | more for known in found for more in left_out]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    state: ParserState
    mode: Mode
    loose: bool


class Language:
    """Immutable but for tables that grow as texts need them; shared by threads. ValueError if the grammar is wrong."""

    def __init__(self, text: str) -> None:
        grammar = read_grammar(text)
        productions, empty = plain_productions(grammar.rules)
        if missing := unproductive({**productions}):
            raise ValueError(f"grammar: no text comes of {', '.join(sorted(missing))}")
        literals = sorted({one for found in productions.values() for seq in found for one in seq if one[0] == "'"})
        patterns = [name for mode in grammar.modes.values() for name in mode.patterns if name[0] != "'"]
        layout = grammar.layout or ()
        terminals = list(dict.fromkeys([END, OPEN, *layout, *patterns, *literals]))
        starts = {name: (unit.symbol, unit.symbol in empty) for name, unit in grammar.units.items()}
        self.tables = Tables(productions, terminals, starts)
        self.numbers = numbers = self.tables.numbers
        self.end, self.open = numbers[END], numbers[OPEN]
        self.layout = (numbers[layout[0]], numbers[layout[1]]) if layout else None
        self.optional = frozenset(numbers[name] for name in grammar.optional)
        self.supplied = tuple(numbers[name] for name in grammar.end)
        self.skips = frozenset(numbers[name] for name in patterns if name.startswith(("skip ", "space ", "join ")))
        self.joins = frozenset(numbers[name] for name in patterns if name.startswith("join "))
        """Behind these no text ends."""
        self.free = self.skips | self.optional
        """Terminals that any stack can take."""
        modes = self._modes(grammar, literals)
        self.modes = tuple(modes.values())
        self.units = {
            name: Start(self.tables.starts[name], modes[unit.mode], unit.loose) for name, unit in grammar.units.items()
        }

    def _modes(self, grammar: GrammarText, literals: list[str]) -> dict[str, Mode]:
        modes = {name: self._mode(grammar, mode, literals) for name, mode in grammar.modes.items()}
        for name, mode in modes.items():
            text = grammar.modes[name]
            mode.otherwise = modes[text.otherwise] if text.otherwise else None
            mode.actions = {
                self.numbers[terminal]: _resolved(action, modes)
                for terminal, action in text.actions.items()
                if terminal in self.numbers and terminal not in text.without
            }
        return modes

    def _mode(self, grammar: GrammarText, text: ModeText, literals: list[str]) -> Mode:
        numbers = self.numbers
        spaces = frozenset(numbers[name] for name in text.patterns if name.startswith("space "))
        told = [name for name in text.actions if name[0] == "'" and name in numbers]
        return Mode(
            name=text.name,
            patterns={numbers[name]: found for name, found in text.patterns.items() if name not in text.without},
            literals={
                numbers[name]: _unquoted(name)
                for name in dict.fromkeys([*(literals if text.literals else ()), *told])
                if name not in text.without
            },
            soft=frozenset(numbers[name] for name in grammar.soft if name in numbers),
            ignorecase=grammar.ignorecase,
            contexts={
                numbers[name]: frozenset(numbers[other] for other in others if other in numbers)
                for name, others in text.contexts.items()
            },
            ends=text.ends or text.literals or text.otherwise is not None,
            measures=text.otherwise is not None and grammar.layout is not None,
            spaces=spaces,
        )

    def take(self, stacks: Stacks, terminal: int) -> Stacks:
        """The stacks after a token of any kind."""
        if terminal in self.skips:
            return stacks
        taken = shift(stacks, terminal)
        return united(stacks, taken) if terminal in self.optional else taken


def _unquoted(literal: str) -> str:
    return re.sub(r"\\(.)", r"\1", literal[1:-1])


def _resolved(action: Action, modes: dict[str, Mode]) -> tuple[str, Mode | None]:
    verb, target = action
    return verb, modes[target] if target else None
