"""Where a document stands in its grammar, byte by byte, and the shortest text that ends it from there.

A place is a set of stacks; a stack is a linked list of symbols still to be derived, shared wherever two stacks agree
from some symbol downwards. Every place and every move is computed once per grammar and then a dictionary lookup; where
alternatives have guards a move is a gate, which lets stacks through by what has been counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from engine.grammar.pushdown.byte_grammar import Character, Literal, Nonterminal, Symbol, Symbols
from engine.grammar.shared.table_budget import TableBudget
from engine.grammar.sources.documents import DOCUMENT_END
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.schema.rules.guards import Enough, Facts, Guard, Length, Letter, Matching, Room, bare

_MAX_EXPANSIONS = 4_096
"""More expansions of one symbol than this for one byte: the grammar is left-recursive or hopelessly ambiguous."""
_MAX_STACKS = 1_024
"""Documents of 900 real schemas had up to 900; a byte takes 1-2 microseconds for each."""
_REPORTED = 2_048
"""Stacks and places added between two looks at what all grammars hold together."""
_MAX_TEXT = 1 << 20
MAX_FORCED = 256
"""Bytes without choice that are looked for at one go, where one way goes on; fewer by as many as there are ways."""
_ANY_BYTE = (1 << 256) - 1


_numbers = count()


class LostWay(Exception):
    """The grammar cannot be followed this way (left recursion, too many live stacks)."""


class Stack:
    """`symbol` first, then `rest`; the empty stack has neither. `tokens` and `size` bound the shortest derivation."""

    __slots__ = ("asks", "depth", "holds", "in_document", "keys", "nullable", "rest", "size", "symbol", "tokens")

    def __init__(self, symbol: Symbol | None, rest: Stack | None) -> None:
        self.symbol = symbol
        self.rest = rest
        self.asks: bool = False
        """Whether guards may come."""
        self.depth: int = 0
        """How many strings stand around the document that is written."""
        self.holds: bool = False
        """Whether a string of bounded length holds a document here."""
        self.in_document: bool = False
        """Whether the last byte belongs to a JSON document."""
        self.keys: int = 0
        """See `Nonterminal.keys`."""
        self.tokens: int = 0
        self.size: int = 0
        self.nullable: bool = True
        if symbol is not None and rest is not None:
            self.asks = symbol.asks or rest.asks
            self.depth = max(symbol.depth, rest.depth)
            self.holds = symbol.room is not None or rest.holds
            self.in_document = rest.in_document or (isinstance(symbol, Nonterminal) and symbol.name == DOCUMENT_END)
            self.keys = symbol.keys + rest.keys
            tokens = symbol.tokens + symbol.spread + rest.tokens
            self.tokens = tokens if tokens < NEVER else NEVER
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
            spell(symbol, pieces)
        return b"".join(pieces)


def spell(symbol: Symbol, pieces: list[bytes]) -> None:
    """Add the bytes of a symbol's cheapest derivation."""
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
        "asked", "asks", "beside", "completed", "depth", "distinct", "ending", "forced", "holds", "in_document",
        "inside", "keys", "marks", "moves", "number", "roomy", "searched", "seen", "stacks", "tails", "tokens",
    )  # fmt: skip

    def __init__(self, stacks: tuple[Stack, ...]) -> None:
        self.stacks = stacks
        self.number = next(_numbers)
        """No two places of this process share one."""
        self.moves: dict[int, Place | Gate] = {}
        self.tokens, self.keys, self.depth = NEVER, 0, 0
        self.completed = self.in_document = self.asks = self.holds = self.inside = self.marks = False
        """`marks`: right behind a key that may be none of the declared ones."""
        for stack in stacks:
            self.tokens, self.keys = min(self.tokens, stack.tokens), max(self.keys, stack.keys)
            self.depth = max(self.depth, stack.depth)
            self.completed |= stack.nullable
            self.in_document |= stack.in_document
            self.asks |= stack.asks
            self.holds |= stack.holds
            if stack.symbol is not None:
                self.inside |= stack.symbol.inside
                self.marks |= stack.symbol.is_mark
        self.ending: tuple[int, ...] | None = None
        self.searched = False
        self.forced: bytes | None = None
        self.asked: Any = None
        """`Narrowing` keeps here what guards look at."""
        self.seen: Any = None
        """And what they saw last."""
        self.tails: dict[bytes, bool] = {}
        """And whether the texts that begin the value of a key can come here."""
        self.beside: dict[bytes, list[int]] = {}
        """And which tokens along a text cannot."""
        self.distinct: tuple[tuple[int, bool, tuple[str, ...]], ...] | None = None
        """Per array that holds no value twice, how many containers further out it lies, whether it has few values,
        and which are needed for several places, where that is known (`unused`)."""
        self.roomy: int | None = None
        """See `Pushdown.roomy`."""

    def first_bytes(self) -> int:
        """Bit b is set when byte b can come next."""
        first = 0
        for top in self.stacks:
            stack: Stack | None = top
            while stack is not None and stack.symbol is not None:
                first |= stack.symbol.first
                stack = stack.rest if stack.symbol.nullable else None
        return first


_Guards = tuple[Guard, ...]


class Gate:
    """Where a byte leads to, by what has been counted. `open` is the place if every guard holds."""

    __slots__ = ("_chosen", "_guards", "_needed", "_pushdown", "open")

    def __init__(self, pushdown: Pushdown, reached: dict[Stack, list[_Guards]]) -> None:
        guards = dict.fromkeys(guard for ways in reached.values() for way in ways for guard in way)
        numbers = {guard: number for number, guard in enumerate(guards)}
        self._pushdown = weakref.proxy(pushdown)  # which whoever stands before this holds; it holds its gates
        self._guards = tuple(guards)
        self._needed = [
            (stack, [sum(1 << numbers[guard] for guard in set(way)) for way in ways]) for stack, ways in reached.items()
        ]
        self._chosen: dict[int, Place] = {}
        self.open = pushdown.place(reached)

    def pass_with(self, facts: Facts) -> Place:
        """The place behind it. A fifth of a microsecond for each different guard."""
        held = 0
        for number, guard in enumerate(self._guards):
            if guard.holds(facts):
                held |= 1 << number
        found = self._chosen.get(held)
        if found is None:
            stacks = [stack for stack, ways in self._needed if any(way & held == way for way in ways)]
            found = self._chosen[held] = self._pushdown.place(stacks)
        return found


class Pushdown:
    """The tables of one grammar, shared by all its matchers in all threads: entries are added, or all forgotten. What
    else it says of the grammar is explained in `Symbols`."""

    def __init__(self, symbols: Symbols, allowance: TableBudget | None = None) -> None:
        self._symbols = symbols
        self.guarded, self.marked, self.distinct = symbols.guarded, symbols.marked, symbols.distinct
        self.rules, self.names, self.matching = symbols.rules, symbols.names, symbols.matching
        self.longer, self.costs = symbols.longer, symbols.costs
        self.holds_documents, self.spells_within = symbols.holds_documents, symbols.spells_within
        self.costs_within, self.longest_within = symbols.costs_within, symbols.longest_within
        self.holds_within = symbols.holds_within
        self.looks_ahead = symbols.distinct or symbols.holds_within
        """Whether guards alone do not tell whether a document can go on."""
        self.unrepeated = bool(symbols.compared)
        """Whether some keys are asked not to repeat others."""
        self.picky = any(guard.rest != ("",) for guard in symbols.compared)
        """Whether the characters of some keys are asked what they can lead to."""
        self._allowance = allowance or TableBudget()
        self._end = Stack(None, None)
        self._places: dict[frozenset[Stack], Place] = {}
        self.forget()

    def __del__(self) -> None:
        self._part()

    @property
    def entries(self) -> int:
        """Stacks and places held; about half a kilobyte each."""
        return len(self._stacks) + len(self._places)

    def forget(self) -> None:
        """Start afresh, in any thread and at any time: whoever stands at an old place goes on from there."""
        self._part()
        self._reported = 0
        self._stacks: dict[tuple[Symbol, Stack], Stack] = {}
        self._places = {}
        root = self._symbols.root
        beginning = root.alternatives[0] if len(root.alternatives) == 1 and not root.guards else (root,)
        self.start = self.place([self._stacked(beginning, self._end)])
        # a text that is one document is in it before its first byte

    def _part(self) -> None:
        """Places lead in circles, which only a full collection would find."""
        for place in list(self._places.values()):
            place.moves.clear()

    def alone(self, rule: Nonterminal) -> Place:
        """The start of this rule, with nothing behind it."""
        return self.place([self._stack(rule, self._end)])

    def unmarked(self, place: Place) -> Place:
        """What is left where no mark is written behind a key."""
        return self.place([s for s in place.stacks if s.symbol is None or not s.symbol.is_mark])

    def roomy(self, place: Place) -> int:
        """Within a string that is no key, characters up to which all guards hold as long as it stays open."""
        if place.roomy is None:
            rules = [string_rule(stack) for stack in place.stacks]
            lengths = [length for length in map(string_length, rules) if length is not None]
            highs = [(NEVER if r.high is None else r.high) - self.costs.get(r, 0) for r in lengths]
            place.roomy = -1 if place.depth or any(map(string_pattern, rules)) else min(highs, default=NEVER)
        return place.roomy

    def step(self, place: Place, byte: int) -> Place | Gate:
        """The place after one byte (no stacks left: the byte was not legal). Raises LostWay."""
        found = place.moves.get(byte)
        if found is None:
            reached = self._reached(place, byte)
            free = all(() in ways for ways in reached.values())
            found = place.moves[byte] = self.place(reached) if free else Gate(self, reached)
        return found

    def _reached(self, place: Place, byte: int) -> dict[Stack, list[_Guards]]:
        """Every stack behind this byte, with the guards of each way to it."""
        reached: dict[Stack, list[_Guards]] = {}
        seen: set[Stack] = set()
        for top in place.stacks:
            stack: Stack | None = top
            while stack is not None and stack not in seen and (symbol := stack.symbol) and (rest := stack.rest):
                seen.add(stack)
                if isinstance(symbol, Nonterminal):
                    for way, guards in self._ways_through(symbol, byte):
                        reached.setdefault(self._stacked(way, rest), []).append(guards)
                elif symbol.first >> byte & 1:
                    reached.setdefault(self._after(symbol, rest, byte), []).append(())
                if len(reached) > _MAX_STACKS or len(seen) > _MAX_STACKS:
                    raise LostWay
                stack = rest if symbol.nullable else None
        return reached

    def _ways_through(self, rule: Nonterminal, byte: int) -> tuple[tuple[tuple[Symbol, ...], _Guards], ...]:
        """What can be left of a rule behind its first byte: found once, however many stacks it is on."""
        known = self._symbols.known
        found = known.ways.get((rule, byte))
        if found is None:
            reached: dict[Stack, list[_Guards]] = {}
            self._derive(self._stack(rule, self._end), byte, reached)
            ways = [(tuple(stack.symbols()), guards) for stack, each in reached.items() for guards in each]
            found = known.ways[rule, byte] = tuple(ways)
            known.report()
        return found

    def run(self, place: Place, text: bytes) -> Place:
        """The place after these bytes, all gates open. 0.1 microseconds a byte on known ways, 5-20 on new ones."""
        for byte in text:
            move = place.moves.get(byte) or self.step(place, byte)
            place = move.open if isinstance(move, Gate) else move
        return place

    def forced(self, place: Place) -> bytes:
        """Whole characters without choice from here, as far as `MAX_FORCED` goes; remembered. Raises LostWay."""
        if place.forced is None:
            written, at, looked = bytearray(), place, 0
            while looked < MAX_FORCED and not at.completed:
                looked += len(at.stacks)
                byte = _only_byte(at)
                if byte is None:
                    break
                written.append(byte)
                move = self.step(at, byte)
                if isinstance(move, Gate):
                    break
                at = move
            place.forced = whole_characters(bytes(written))
        return place.forced

    def _derive(self, stack: Stack, byte: int, reached: dict[Stack, list[_Guards]]) -> None:
        """Every stack behind this byte, with the guards of each way to it."""
        pending: list[tuple[Stack, _Guards]] = [(stack, ())]
        seen: set[tuple[Stack, _Guards]] = set()
        while pending:
            way = pending.pop()
            top, guards = way
            symbol, rest = top.symbol, top.rest
            if symbol is None or rest is None or way in seen:
                continue
            seen.add(way)
            if len(seen) > _MAX_EXPANSIONS or len(reached) > _MAX_STACKS:
                raise LostWay
            if isinstance(symbol, Nonterminal):
                for index, alternative in enumerate(symbol.alternatives):
                    if symbol.nullables[index] or symbol.firsts[index] >> byte & 1:
                        if len(pending) > _MAX_EXPANSIONS:
                            raise LostWay
                        guard = symbol.guards[index] if symbol.guards else None
                        ahead = guards if guard is None else (*guards, guard)
                        pending.append((self._stacked(alternative, rest), ahead))
            elif symbol.first >> byte & 1:
                reached.setdefault(self._after(symbol, rest, byte), []).append(guards)

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

    def place(self, stacks: Iterable[Stack]) -> Place:
        """The one place of these stacks."""
        stacks = tuple(stacks)
        key = frozenset(stacks)
        found = self._places.get(key)
        if found is None:
            if self.entries > self._reported + _REPORTED:
                self._reported = self.entries
                self._allowance.grown(self)
            found = self._places.setdefault(key, Place(stacks))
        return found


def gated(place: Place) -> int:
    """Bit b is set where a guard may stand before byte b."""
    found = 0
    for top in place.stacks:
        stack: Stack | None = top
        while stack is not None and stack.symbol is not None:
            if isinstance(stack.symbol, Nonterminal) and stack.symbol.asks:
                found |= _gated(stack.symbol)
            stack = stack.rest if stack.symbol.nullable else None
    return found


def _gated(first: Nonterminal) -> int:
    if first.gated is None:
        found, seen, pending = 0, {first}, [first]
        while pending:
            rule = pending.pop()
            for index, alternative in enumerate(rule.alternatives):
                if rule.guards and rule.guards[index] is not None:
                    found |= _ANY_BYTE if rule.nullables[index] else rule.firsts[index]
                for symbol in alternative:
                    if isinstance(symbol, Nonterminal) and symbol.asks and symbol not in seen:
                        seen.add(symbol)
                        pending.append(symbol)
                    if not symbol.nullable:
                        break
        first.gated = found
    return first.gated


def string_rule(stack: Stack) -> Nonterminal | None:
    """Within a string, the rule that derives the rest of it; None where the rest is spelled out, as declared keys."""
    node: Stack | None = stack
    while node is not None and node.symbol is not None:
        if isinstance(node.symbol, Nonterminal) and not node.symbol.is_set:
            return None if node.symbol.spells_keys else node.symbol
        if isinstance(node.symbol, Literal) and b'"' in node.symbol.text:
            return None
        node = node.rest
    return None


def string_length(rule: Nonterminal | None) -> Length | None:
    """The bounds of the string whose rule this is."""
    for guard in () if rule is None else map(bare, rule.guards):
        if isinstance(guard, Room | Enough) and isinstance(guard.region, Length):
            return guard.region
    return None


def string_pattern(rule: Nonterminal | None) -> Matching | None:
    """What is counted of the string whose rule this is, where it is the repeats of a pattern."""
    for guard in () if rule is None else rule.guards:
        if isinstance(guard, Letter | Enough) and isinstance(guard.region, Matching):
            return guard.region
    return None


def _only_byte(place: Place) -> int | None:
    """The byte that every derivation writes next; None where there is more than one."""
    first = place.first_bytes()
    return first.bit_length() - 1 if first and not first & (first - 1) else None


def whole_characters(text: bytes) -> bytes:
    """Without a last character that is cut; nothing when the first one is (the place is inside a character)."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        return text[: error.start]
    return text
