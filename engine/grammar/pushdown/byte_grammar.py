"""A grammar over bytes with the cost of its shortest derivations. Knows rules and token counts; holds no position.

Costs are pairs (tokens, bytes): tokens of each literal counted apart and added up, an upper bound of what the joined
text needs; in strings that hold documents, whose lengths may be bounded, (characters, tokens). Minimal derivations by
Knuth's generalisation of Dijkstra's algorithm, O(n log n) in the grammar's size.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

from engine.grammar.counting.cursor import characters
from engine.grammar.shared.shared_rules import SharedRules
from engine.grammar.vocabulary.shortest_tokenization import NEVER, Segmenter
from engine.grammar.vocabulary.utf8 import ByteNode, byte_automaton
from engine.schema.rules.grammar import (
    EITHER,
    HOLDER,
    SET,
    UNDECLARED,
    WITHIN,
    Chars,
    Grammar,
    Ref,
    Rule,
    Sequence,
    Text,
    fused,
)
from engine.schema.rules.guards import (
    Another,
    AnyOf,
    Bounds,
    Enough,
    Guard,
    Items,
    Length,
    Letter,
    Member,
    Members,
    Room,
    Unrepeated,
    bare,
    regions,
)

_TRIED_COMPLETIONS = 256
_CUT_COMPLETIONS = 16
_LONGEST_LITERAL = 256
_PLAIN = [bytes([c]) for c in b"a0A1 -_." + bytes(range(0x21, 0x7F))]


class Literal:
    """Bytes that come one after another; never empty. `counts[i]` is the token count of `text[i:]`."""

    __slots__ = ("_counts", "_letters", "_tail", "effect", "first", "text", "tokens")
    asks = inside = is_mark = nullable = False
    depth = keys = spread = 0
    room = None

    def __init__(self, text: bytes, counts: list[int], start: int = 0) -> None:
        self.text = text
        self.effect: tuple[tuple[int, bool], tuple[int, bool]] | None = None
        """See `levels`."""
        self.tokens = counts[start]
        self.first = 1 << text[0]
        self._counts = counts
        self._letters: int | None = None
        self._tail: Literal | None = None

    @property
    def size(self) -> int:
        return len(self.text)

    @property
    def dearer_end(self) -> int:
        """How many tokens more than itself an end of it takes at most: eight zeros may be one token, seven not."""
        return max(self._counts[-len(self.text) - 1 :]) - self.tokens

    @property
    def letters(self) -> int:
        """Characters that begin in it, as a part of a string."""
        if self._letters is None:
            self._letters = characters(self.text)[0]
        return self._letters

    def tail(self) -> Literal | None:
        """What is left after the first byte; None when nothing is."""
        if self._tail is None and len(self.text) > 1:
            start = len(self._counts) - len(self.text)
            self._tail = Literal(self.text[1:], self._counts, start)
        return self._tail


class Character:
    """One character (or the rest of one) out of a set; `text` is the one an ending writes."""

    __slots__ = ("first", "inside", "node", "text", "tokens")
    asks = is_mark = nullable = False
    depth = keys = spread = 0
    letters = 1
    room = None

    def __init__(self, node: ByteNode, text: bytes, tokens: int) -> None:
        self.node = node
        self.inside = node.inside
        self.text = text
        self.tokens = tokens
        self.first = node.first

    @property
    def size(self) -> int:
        return len(self.text)


class Nonterminal:
    """A rule. `best` is the alternative of its cheapest derivation; None when it derives nothing.

    `guards` are what its alternatives ask (empty: nothing), `least` is then what `best` may be at the least.
    """

    __slots__ = (
        "alternatives", "asks", "best", "depth", "effect", "first", "firsts", "gated", "guards", "is_mark", "is_set",
        "keys", "least", "letters", "members", "name", "nullable", "nullables", "prices", "regions", "room", "serial",
        "shared", "size", "source", "spells_keys", "spread", "tokens", "writes_marks",
    )  # fmt: skip
    inside = False

    def __init__(self, source: Rule, serial: int) -> None:
        self.source = source
        self.name = name = source.name
        self.serial = serial
        self.alternatives: list[tuple[Symbol, ...]] = []
        self.effect: tuple[tuple[int, bool], tuple[int, bool]] | None = None
        """See `levels`."""
        self.regions: tuple[Bounds, ...] | None = None
        """See `levels`."""
        self.members: tuple[Members, ...] | None = None
        """See `levels`."""
        self.prices: dict[str, int] | None = None
        """See `least_cost`."""
        self.gated: int | None = None
        """See `pushdown`."""
        self.guards: tuple[Guard | None, ...] = ()
        self.asks = False
        """Whether it has guards, or derives something that has."""
        self.spells_keys = False
        """Whether its alternatives are members, or parts of their keys, at any depth."""
        self.is_mark = name.endswith(UNDECLARED)
        self.depth = _depth(name)  # how many strings stand around what it derives
        self.is_set = name.removesuffix(WITHIN * self.depth).endswith(SET)
        self.room: int | None = None
        """Behind a document in a string, the greatest length of the string, where there is one."""
        self.writes_marks = False
        self.shared = name
        """The name of the rule that the matcher's compiler knows in place of this one."""
        self.least: tuple[Symbol, ...] | None = None
        self.first = 0
        self.nullable = False
        self.firsts: list[int] = []
        self.nullables: list[bool] = []
        self.best: tuple[Symbol, ...] | None = None
        self.tokens = self.size = self.letters = NEVER
        self.keys = 0
        """Of the keys that `best` writes, how many may have to be others, and longer, since their object has them."""
        self.spread = 0
        """Tokens by which another alternative may be dearer, where guards can forbid each of them."""


def spells(guard: Guard | None) -> bool:
    """Whether single characters of a string are asked for."""
    guard = bare(guard)
    return isinstance(guard, Letter) or getattr(guard, "rest", ("",)) != ("",)


def names_within(rules: Iterable[Nonterminal]) -> tuple[str, ...]:
    """The names that keys of documents in strings are compared with, sorted."""
    found = set[frozenset[str]]()
    for guard in (bare(guard) for rule in rules if rule.depth for guard in rule.guards):
        if isinstance(guard, Unrepeated):
            found.add(guard.names)
        elif guard is not None:
            found.update(region.names for region in regions(guard) if isinstance(region, Members))
    return tuple(sorted(frozenset().union(*found)))


def _room(rule: Nonterminal) -> int | None:
    if not rule.name.removesuffix(WITHIN * rule.depth).endswith(HOLDER):
        return None
    bounds = [guard.region for guard in map(bare, rule.guards) if isinstance(guard, Enough)]
    return next(region.high for region in bounds if isinstance(region, Length))


def _depth(name: str) -> int:
    return 0 if not name.endswith(WITHIN) else 1 + _depth(name.removesuffix(WITHIN))


def is_distinct(rule: Nonterminal) -> bool:
    """Whether this rule goes on with an array that holds no value twice."""
    bounds = (region for guard in rule.guards if guard is not None for region in regions(guard))
    return any(isinstance(region, Items) and region.choices is not None for region in bounds)


def _is_of_member(guard: Guard | None) -> bool:
    guard = bare(guard)
    return isinstance(guard, Member | Another) or (isinstance(guard, AnyOf) and any(map(_is_of_member, guard.guards)))


_Offer = tuple[int, int, int, int, "Nonterminal"]
"""Cost of an alternative, then rule number and alternative number, which make every entry different."""
Symbol = Literal | Character | Nonterminal


class Symbols:
    """The byte form of a grammar for one vocabulary. About 15 microseconds a rule that is not known."""

    def __init__(self, grammar: Grammar, segmenter: Segmenter, known: SharedRules | None = None) -> None:
        """`known`: the rules of other grammars in which names mean the same, but for where documents begin."""
        self.known = known = known or SharedRules()
        self._counts, self._ids = segmenter.counts, segmenter.ids
        self._literals: dict[bytes, Literal] = known.literals
        self._characters: dict[ByteNode, Character] = known.characters
        self._rules: dict[str, Nonterminal] = {}
        fresh = list(self._unknown(grammar, known.rules))
        for rule in fresh:
            self._fill(rule)
        self.root = self._rules[grammar.root]
        rules = self.rules = list(self._rules.values())
        asking = [rule for rule in rules if rule.guards]
        self.guarded = bool(asking)
        """Whether some alternative asks something of the document so far."""
        self.marked = any(rule.writes_marks for rule in rules)
        """Whether some keys are marked for the matcher's compiler."""
        self.compared = [g for rule in asking for g in rule.guards if isinstance(g, Unrepeated)]
        self.names = tuple(sorted(frozenset().union(*(guard.names for guard in self.compared))))
        """The names that undeclared keys must not be, of all objects, sorted."""
        self.distinct = any(map(is_distinct, asking))
        """Whether some arrays hold no value twice, so that the text of documents is kept."""
        self.holds_documents = any(rule.depth for rule in rules)
        """Whether some strings hold documents, so that what is written of them is kept."""
        self.spells_within = any(spells(guard) for rule in asking if rule.depth for guard in rule.guards)
        """Whether strings of these are asked for single characters."""
        self.holds_within = any(rule.room is not None for rule in rules)
        """Whether some of these strings have a greatest length."""
        self.matching = frozenset(guard.region for rule in asking for guard in rule.guards if isinstance(guard, Letter))
        """The strings whose patterns are counted, so that what is written of them is kept."""
        self.costs: Mapping[Length, int] = _costs(asking)
        self.costs_within: Mapping[Length, int] = _costs(asking, within=True)
        """By the bounds of strings, the most characters that must still come anywhere in one."""
        _find_asking(fresh)
        _minimal_derivations(fresh)
        self.longer = _longer(asking)
        """Tokens by which a key may have to be longer for each key that its object has."""
        _first_bytes(fresh)
        beginning = {grammar.root, *grammar.rules[grammar.root].references}
        known.add({rule.name: rule for rule in fresh if rule.name not in beginning})

    @property
    def longest_within(self) -> int:
        """Bytes of the longest text that a rule writes at the least within strings that hold documents."""
        return max((rule.size for rule in self.rules if rule.depth and rule.best is not None), default=0)

    def _unknown(self, grammar: Grammar, known: Mapping[str, Nonterminal]) -> Iterator[Nonterminal]:
        """Of the rules that documents are followed by: skeletons are the matcher's compiler's."""
        followed = grammar.followed()
        for serial, rule in enumerate(grammar.rules.values()):
            if rule.name not in followed:
                continue
            found = known.get(rule.name)
            if found is None or (found.source is not rule and found.source != rule):
                found = Nonterminal(rule, serial)
                yield found
            self._rules[rule.name] = found

    def _fill(self, symbol: Nonterminal) -> None:
        rule = symbol.source
        symbol.alternatives = [self._sequence(parts) for parts in rule.alternatives]
        symbol.writes_marks = any(part.is_mark for parts in symbol.alternatives for part in parts)
        symbol.guards = rule.guards
        symbol.room = _room(symbol)
        symbol.spells_keys = any(map(_is_of_member, rule.guards))
        symbol.shared = rule.skeleton or rule.name
        symbol.least = None if rule.least is None else self._sequence(rule.least)

    def _literal(self, text: bytes) -> Literal:
        found = self._literals.get(text)
        if found is None:
            found = self._literals[text] = Literal(text, self._counts(text))
        return found

    def character(self, node: ByteNode) -> Character:
        """The symbol of what is left of a character; prefers a plain character that the vocabulary can write."""
        found = self._characters.get(node)
        if found is None:
            text, tokens = self._cheapest(node)
            found = self._characters[node] = Character(node, text, tokens)
        return found

    def _cheapest(self, node: ByteNode) -> tuple[bytes, int]:
        plain = (text for text in _PLAIN if node.moves.get(text[0], node) is None)
        for text in chain(plain, islice(node.completions(), _TRIED_COMPLETIONS)):
            if text in self._ids:
                return text, 1
        best = (b"", NEVER)
        for text in islice(node.completions(), _CUT_COMPLETIONS):
            tokens = self._counts(text)[0]
            if tokens < best[1]:
                best = (text, tokens)
        return best

    def _sequence(self, parts: Sequence) -> tuple[Symbol, ...]:
        symbols: list[Symbol] = []
        for part in fused([part for part in parts if not (isinstance(part, Ref) and part.name.endswith(EITHER))]):
            if isinstance(part, Ref):
                symbols.append(self._rules[part.name])
            elif isinstance(part, Chars):
                symbols.append(self.character(byte_automaton(part.ranges)))
            elif isinstance(part, Text) and part.text:
                symbols.extend(self._literal(piece) for piece in _pieces(part.text.encode("utf-8", "surrogatepass")))
        return tuple(symbols)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Long literals in pieces: every suffix of a literal is a symbol of its own once a document stands in it."""
    return (text[start : start + _LONGEST_LITERAL] for start in range(0, len(text), _LONGEST_LITERAL))


def _minimal_derivations(rules: list[Nonterminal]) -> None:
    """Of rules that are new; what else they are made of has its costs. Those within strings first, which cost in other
    units."""
    for depth in sorted({rule.depth for rule in rules}, reverse=True):
        _derive([rule for rule in rules if rule.depth == depth])


def _derive(rules: list[Nonterminal]) -> None:
    users: dict[Nonterminal, list[tuple[Nonterminal, int]]] = {rule: [] for rule in rules}
    waiting: dict[tuple[Nonterminal, int], int] = {}
    heap = list[_Offer]()
    for rule in rules:
        for index, alternative in enumerate(_derivations(rule)):
            needed = [symbol for symbol in alternative if symbol in users]
            if needed:
                waiting[rule, index] = len(needed)
                for symbol in needed:
                    users[symbol].append((rule, index))
            else:
                _offer(heap, rule, index)
    while heap:
        *_, index, rule = heapq.heappop(heap)
        if rule.best is None:
            best = rule.best = _derivations(rule)[index]
            rule.tokens, rule.size = _tokens(best), sum(symbol.size for symbol in best)
            rule.letters = _letters(best) if rule.depth else NEVER
            rule.keys = min(_own_keys(rule) + sum(symbol.keys for symbol in rule.best), NEVER)
            for user, position in users[rule]:
                waiting[user, position] -= 1
                if not waiting[user, position]:
                    _offer(heap, user, position)
    _spread(rules)


def _spread(rules: list[Nonterminal]) -> None:
    """Parts of keys first, then what ends in them. Of a text that is known an end may be written."""
    for rule in rules:
        rule.spread = max((part.dearer_end for part in rule.least or () if isinstance(part, Literal)), default=0)
    pending = [rule for rule in rules if _is_guarded(rule)]
    unseen = set(pending)
    while pending:
        rule = pending[-1]
        parts = {way[-1] for way in rule.alternatives if way}
        inner = [part for part in parts if isinstance(part, Nonterminal) and part.spells_keys and _is_guarded(part)]
        ahead = [part for part in inner if part in unseen and part is not rule] if rule in unseen else []
        unseen.discard(rule)
        if ahead:
            pending += ahead
            continue
        pending.pop()
        costs = [_tokens(way) + sum(part.spread for part in way[-1:] if part in inner) for way in rule.alternatives]
        rule.spread = max([tokens for tokens in costs if tokens < NEVER], default=rule.tokens) - rule.tokens


def _is_guarded(rule: Nonterminal) -> bool:
    return bool(rule.guards) and None not in rule.guards and rule.least is None


def _own_keys(rule: Nonterminal) -> int:
    bounds = [region for guard in map(bare, rule.guards) if guard is not None for region in regions(guard)]
    lows = [region.low - len(region.required) for region in bounds if isinstance(region, Members)]
    return max(0, *lows, any(isinstance(bare(guard), Unrepeated) for guard in rule.guards))


def _longer(rules: list[Nonterminal]) -> int:
    """Where a key must not end yet it goes on by a way that always holds, or else by any way."""
    found = 0
    for rule in rules:
        if any(isinstance(bare(guard), Unrepeated) for guard in rule.guards):
            ways = [(guard is None, _tokens(way)) for way, guard in zip(rule.alternatives, rule.guards, strict=True)]
            always = [tokens for holds, tokens in ways if holds and tokens < NEVER]
            found = max(found, min(always) if always else max([t for _, t in ways if t < NEVER], default=0))
    return found


def _find_asking(rules: list[Nonterminal]) -> None:
    users: dict[Symbol, list[Nonterminal]] = {rule: [] for rule in rules}
    pending = []
    for rule in rules:
        parts = {part for alternative in rule.alternatives for part in alternative}
        if rule.guards or any(part.asks for part in parts):
            pending.append(rule)
        for part in parts:
            if part in users:
                users[part].append(rule)
    while pending:
        rule = pending.pop()
        if not rule.asks:
            rule.asks = True
            pending.extend(users[rule])


def _costs(rules: Iterable[Nonterminal], *, within: bool = False) -> dict[Length, int]:
    """The most characters that must still come anywhere in the strings of one length; NEVER where, besides, only so
    many can come that the lower bound may be out of reach. `within`: of strings in documents that strings hold."""
    found: dict[Length, int] = {}
    for rule in rules:
        for guard in map(bare, rule.guards) if within else rule.guards:
            if isinstance(guard, Room):
                cost = guard.cost - 1 if guard.most is None else NEVER
                found[guard.region] = max(found.get(guard.region, 0), cost)
    return found


def _derivations(rule: Nonterminal) -> list[tuple[Symbol, ...]]:
    """What a shortest text may be made of: where guards count, it is known."""
    return rule.alternatives if rule.least is None else [rule.least]


def _tokens(alternative: tuple[Symbol, ...]) -> int:
    return min(sum(symbol.tokens for symbol in alternative), NEVER)


def _offer(heap: list[_Offer], rule: Nonterminal, index: int) -> None:
    alternative = _derivations(rule)[index]
    tokens = _tokens(alternative)
    cost = (_letters(alternative), tokens) if rule.depth else (tokens, sum(symbol.size for symbol in alternative))
    heapq.heappush(heap, (*cost, rule.serial, index, rule))


def price(rule: Nonterminal, way: tuple[Symbol, ...]) -> int:
    """What one way to go on costs as long as nothing is counted: in tokens, or, within a string, in characters."""
    return _letters(way) if rule.depth else _tokens(way)


def _letters(alternative: tuple[Symbol, ...]) -> int:
    return min(sum(symbol.letters for symbol in alternative), NEVER)


def _first_bytes(rules: list[Nonterminal]) -> None:
    """Bytes that can come first, and which rules derive the empty text: the least fixpoint, by rounds over users."""
    users: dict[Symbol, set[Nonterminal]] = {rule: set() for rule in rules}
    for rule in rules:
        for alternative in rule.alternatives:
            for symbol in alternative:
                if symbol in users:
                    users[symbol].add(rule)
    queue = dict.fromkeys(rules)
    while queue:
        rule = next(iter(queue))
        del queue[rule]
        before = (rule.first, rule.nullable)
        rule.firsts, rule.nullables = [], []
        for alternative in rule.alternatives:
            first, nullable = _first_of(alternative)
            rule.firsts.append(first)
            rule.nullables.append(nullable)
            rule.first |= first
            rule.nullable |= nullable
        if before != (rule.first, rule.nullable):
            queue.update(dict.fromkeys(users[rule]))


def _first_of(alternative: tuple[Symbol, ...]) -> tuple[int, bool]:
    first = 0
    for symbol in alternative:
        first |= symbol.first
        if not symbol.nullable:
            return first, False
    return first, True
