"""Where a document stands in its grammar, byte by byte, and the shortest text that ends it from there.

A place is a set of stacks; a stack is a linked list of symbols still to be derived, shared wherever two stacks agree
from some symbol downwards. Every place and every move is computed once per grammar and then a dictionary lookup.
Knows bytes and costs; does not know xgrammar or requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from engine.grammar.allowance import Allowance
from engine.grammar.segment import NEVER
from engine.grammar.symbols import Character, Literal, Nonterminal, Symbol, Symbols

EMBEDDED = "json."
"""How the names of rules begin that derive a JSON document inside another grammar (`composed`)."""
_MAX_EXPANSIONS = 4_096
"""More expansions of one symbol than this for one byte: the grammar is left-recursive or hopelessly ambiguous."""
_MAX_STACKS = 1_024
"""Documents of 900 real schemas had up to 900; a byte takes 1-2 microseconds for each."""
_REPORTED = 2_048
"""Stacks and places added between two looks at what all grammars hold together."""
_MAX_TEXT = 1 << 20
_MAX_FORCED = 4_096


_numbers = count()


class LostWay(Exception):
    """The grammar cannot be followed this way (left recursion, too many live stacks)."""


class Stack:
    """`symbol` first, then `rest`; the empty stack has neither. `tokens` and `size` bound the shortest derivation."""

    __slots__ = ("embedded", "nullable", "rest", "size", "symbol", "tokens")

    def __init__(self, symbol: Symbol | None, rest: Stack | None) -> None:
        self.symbol = symbol
        self.rest = rest
        own = isinstance(symbol, Nonterminal) and symbol.name.startswith(EMBEDDED)
        self.embedded: bool = own or (rest is not None and rest.embedded)
        """Whether a JSON document inside the grammar is not finished."""
        self.tokens: int = 0
        self.size: int = 0
        self.nullable: bool = True
        if symbol is not None and rest is not None:
            self.tokens = min(symbol.tokens + rest.tokens, NEVER)
            self.size = symbol.size + rest.size
            self.nullable = symbol.nullable and rest.nullable

    def symbols(self) -> Iterator[Symbol]:
        """Topmost first."""
        stack: Stack | None = self
        while stack is not None and stack.symbol is not None:
            yield stack.symbol
            stack = stack.rest

    def text(self) -> bytes | None:
        """The bytes of the cheapest derivation; None when there is none, or it is over a megabyte."""
        if self.tokens >= NEVER or self.size > _MAX_TEXT:
            return None
        pieces: list[bytes] = []
        for symbol in self.symbols():
            _spell(symbol, pieces)
        return b"".join(pieces)


def _spell(symbol: Symbol, pieces: list[bytes]) -> None:
    pending: list[Symbol] = [symbol]
    while pending:
        part = pending.pop()
        if isinstance(part, Nonterminal):
            pending.extend(reversed(part.best or ()))
        else:
            pieces.append(part.text)


class Place:
    """A set of stacks. `tokens` bounds the shortest ending (without stop token); `ending` is filled in when asked."""

    __slots__ = (
        "completed", "embedded", "ending", "forced", "inside", "moves", "number", "searched", "stacks", "tokens",
    )  # fmt: skip

    def __init__(self, stacks: tuple[Stack, ...]) -> None:
        self.stacks = stacks
        self.number = next(_numbers)
        """No two places of this process share one."""
        self.moves: dict[int, Place] = {}
        self.tokens = min((stack.tokens for stack in stacks), default=NEVER)
        self.completed = any(stack.nullable for stack in stacks)
        self.embedded = any(stack.embedded for stack in stacks)
        self.ending: tuple[int, ...] | None = None
        self.searched = False
        self.forced: bytes | None = None
        self.inside = any(isinstance(s.symbol, Character) and s.symbol.node.inside for s in stacks)

    def first_bytes(self) -> int:
        """Bit b is set when byte b can come next."""
        first = 0
        for top in self.stacks:
            stack: Stack | None = top
            while stack is not None and stack.symbol is not None:
                first |= stack.symbol.first
                stack = stack.rest if stack.symbol.nullable else None
        return first


class Pushdown:
    """The tables of one grammar, shared by all its matchers in all threads: entries are added, or all forgotten."""

    def __init__(self, symbols: Symbols, allowance: Allowance | None = None) -> None:
        self._symbols = symbols
        self._allowance = allowance or Allowance()
        self._end = Stack(None, None)
        self._places: dict[frozenset[Stack], Place] = {}
        self.forget()

    @property
    def entries(self) -> int:
        """Stacks and places held, and ways through symbols; about half a kilobyte each."""
        return len(self._stacks) + len(self._places) + len(self._ways)

    def forget(self) -> None:
        """Start afresh, in any thread and at any time: whoever stands at an old place goes on from there."""
        for place in list(self._places.values()):
            place.moves.clear()  # places lead in circles, which only a full collection would find
        self._reported = 0
        self._stacks: dict[tuple[Symbol, Stack], Stack] = {}
        self._places = {}
        self._ways: dict[tuple[Nonterminal, int], tuple[tuple[Symbol, ...], ...]] = {}
        self.start = self._place({self._stack(self._symbols.root, self._end): None})

    def step(self, place: Place, byte: int) -> Place:
        """The place after one byte (no stacks left: the byte was not legal). Raises LostWay."""
        found = place.moves.get(byte)
        if found is None:
            found = place.moves[byte] = self._place(self._reached(place, byte))
        return found

    def _reached(self, place: Place, byte: int) -> dict[Stack, None]:
        reached: dict[Stack, None] = {}
        seen: set[Stack] = set()
        for top in place.stacks:
            stack: Stack | None = top
            while stack is not None and stack not in seen and (symbol := stack.symbol) and (rest := stack.rest):
                seen.add(stack)
                if isinstance(symbol, Nonterminal):
                    for way in self._ways_through(symbol, byte):
                        reached[self._stacked(way, rest)] = None
                elif symbol.first >> byte & 1:
                    reached[self._after(symbol, rest, byte)] = None
                if len(reached) > _MAX_STACKS or len(seen) > _MAX_STACKS:
                    raise LostWay
                stack = rest if symbol.nullable else None
        return reached

    def _ways_through(self, rule: Nonterminal, byte: int) -> tuple[tuple[Symbol, ...], ...]:
        """What can be left of a rule behind its first byte: found once, however many stacks it is on."""
        found = self._ways.get((rule, byte))
        if found is None:
            reached: dict[Stack, None] = {}
            self._derive(self._stack(rule, self._end), byte, reached)
            found = self._ways[rule, byte] = tuple(tuple(stack.symbols()) for stack in reached)
        return found

    def run(self, place: Place, text: bytes) -> Place:
        """The place after these bytes. 0.1 microseconds a byte on known ways, 5-20 on new ones."""
        for byte in text:
            place = place.moves.get(byte) or self.step(place, byte)
        return place

    def forced(self, place: Place) -> bytes:
        """Whole characters without choice from here, at most `_MAX_FORCED` bytes; remembered. Raises LostWay."""
        if place.forced is None:
            written, at = bytearray(), place
            while len(written) < _MAX_FORCED and not at.completed:
                byte = _only_byte(at)
                if byte is None:
                    break
                written.append(byte)
                at = self.step(at, byte)
            place.forced = _whole_characters(bytes(written))
        return place.forced

    def _derive(self, stack: Stack, byte: int, reached: dict[Stack, None]) -> None:
        pending = [stack]
        seen: set[Stack] = set()
        while pending:
            top = pending.pop()
            symbol, rest = top.symbol, top.rest
            if symbol is None or rest is None or top in seen:
                continue
            seen.add(top)
            if len(seen) > _MAX_EXPANSIONS:
                raise LostWay
            if isinstance(symbol, Nonterminal):
                for alternative, first, nullable in zip(
                    symbol.alternatives, symbol.firsts, symbol.nullables, strict=True
                ):
                    if nullable or first >> byte & 1:
                        pending.append(self._stacked(alternative, rest))
            elif symbol.first >> byte & 1:
                reached[self._after(symbol, rest, byte)] = None

    def _after(self, symbol: Literal | Character, rest: Stack, byte: int) -> Stack:
        if isinstance(symbol, Literal):
            tail = symbol.tail()
            return rest if tail is None else self._stack(tail, rest)
        node = symbol.node.moves[byte]
        return rest if node is None else self._stack(self._symbols.character(node), rest)

    def _stack(self, symbol: Symbol, rest: Stack) -> Stack:
        key = (symbol, rest)
        return self._stacks.get(key) or self._stacks.setdefault(key, Stack(symbol, rest))

    def _stacked(self, symbols: tuple[Symbol, ...], rest: Stack) -> Stack:
        for symbol in reversed(symbols):
            rest = self._stack(symbol, rest)
        return rest

    def _place(self, stacks: dict[Stack, None]) -> Place:
        if self.entries > self._reported + _REPORTED:
            self._reported = self.entries
            self._allowance.grown(self)
        key = frozenset(stacks)
        return self._places.get(key) or self._places.setdefault(key, Place(tuple(stacks)))


def _only_byte(place: Place) -> int | None:
    """The byte that every derivation writes next; None where there is more than one."""
    first = place.first_bytes()
    return first.bit_length() - 1 if first and not first & (first - 1) else None


def _whole_characters(text: bytes) -> bytes:
    """Without a last character that is cut; nothing when the first one is (the place is inside a character)."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        return text[: error.start]
    return text
