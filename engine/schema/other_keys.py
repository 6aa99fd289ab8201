"""Keys that are none of a few names: the complement of a trie, written so that masks are cheap and mostly known.

A key leaves the names at some character. What stands before that place is a rule per few characters of a name, which
depends on the rest of the name alone; what comes then is a rule per pair of neighbouring characters ('b, then not
c'), learnt ahead, and behind one more character a rule per three of them ('a, then b, then not c'). XGrammar computes
the mask of a state from the tokens that begin with its characters and gives a token up where nothing goes on. In a
name's own rules that is three characters in, where few tokens are left; the others fall to the rules that all names
share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from engine.schema.constructions import has_surrogate
from engine.schema.escapes import canonical
from engine.schema.grammar import Ref, Rule, Sequence, Symbol, fused, literal
from engine.schema.key_exits import DIGITS, LOWER, UPPER, Parts, Site, exits, make_rule

_COMMON = LOWER + UPPER + DIGITS
PIECES, STEPS = 4_000, 2_000
"""What is kept for later names: pieces of names with what is behind them, and pairs of neighbouring characters."""

PIECE = 4
"""Characters of a name that are one rule. The compiler walks over all rules for each mask, but what names share at
their ends it knows only where a rule begins there."""

Trie = dict[str, "Trie"]
"""Children by character; the empty string marks the end of a name."""
Edge = tuple[int, str]
"""A trie node by identity, and the character by which it is left along a name."""


@dataclass(frozen=True, slots=True)
class Way:
    """On along a name by one character, which the key leaves right behind it, or later where the name goes on."""

    soon: Ref
    later: Ref | None

    @property
    def refs(self) -> tuple[Ref, ...]:
        return (self.soon, self.later) if self.later else (self.soon,)


def other_key(site: Site, names: Iterable[str]) -> Parts:
    """Every key but `names`, quotes included. Linear in the names; what they share with earlier ones is remembered."""
    trie = _trie(names)
    rules: dict[str, Rule] = {}
    ways: dict[Edge, Way] = {}
    for edge, path, stop in reversed([*_edges(trie)]):
        onward = tuple(ways[id(stop), character] for character in stop if character)
        ways[edge] = _line(site, path, stop, onward, rules)
    leave = exits(site, _gone(trie))
    rules.update((rule.name, rule) for rule in leave.rules)
    ends: tuple[Sequence, ...] = () if "" in trie else ((literal('""'),),)
    along = [ref for character in trie if character for ref in ways[id(trie), character].refs]
    leaving = ((literal('"'), ref) for ref in (*leave.refs, *along))
    return make_rule(site, "o", (*ends, *leaving), closed_by="" if ends else None), *rules.values()


def shortest_other(names: frozenset[str]) -> str:
    """A shortest such key with its quotes."""
    size = 0
    while True:
        for letters in product(_COMMON, repeat=size):
            if (key := "".join(letters)) not in names:
                return f'"{key}"'
        size += 1


def neighbours(site: Site, first: str, gone: str) -> Parts:
    """The rules of "`first`, then any other character than `gone`", which keys of all schemas share."""
    return tuple(_step(site, first, gone, False)[1].values())


def _trie(names: Iterable[str]) -> Trie:
    trie: Trie = {}
    for name in sorted(name for name in names if not has_surrogate(name)):
        here = trie
        for character in name:
            here = here.setdefault(character, {})
        here[""] = {}
    return trie


def _edges(trie: Trie) -> Iterator[tuple[Edge, str, Trie]]:
    """Runs of characters without a choice, those nearer to the root first, and the nodes where they stop."""
    stack = [trie]
    while stack:
        node = stack.pop()
        for character in node:
            if character:
                path, stop = character, node[character]
                while len(stop) == 1 and "" not in stop:
                    ((following, stop),) = stop.items()
                    path += following
                yield (id(node), character), path, stop
                stack.append(stop)


def _gone(node: Trie) -> str:
    return "".join(character for character in node if character)


def _line(site: Site, path: str, stop: Trie, onward: tuple[Way, ...], rules: dict[str, Rule]) -> Way:
    """Along `path`, left after any of its characters or followed to its end and on. Written to `rules`."""
    steps: list[Ref] = []
    for at, character in enumerate(path, 1):
        last = at == len(path)
        soon, needed = _step(site, character, _gone(stop) if last else path[at], last and "" in stop)
        steps.append(soon)
        rules.update(needed)
    while steps:
        way, needed = _piece(site, path[-PIECE:], tuple(steps[-PIECE:]), onward)
        rules.update(needed)
        path, steps, onward = path[:-PIECE], steps[:-PIECE], (way,)
    return onward[0]


@lru_cache(maxsize=PIECES)
def _piece(site: Site, path: str, steps: tuple[Ref, ...], onward: tuple[Way, ...]) -> tuple[Way, dict[str, Rule]]:
    """Along a few characters, left right behind each by one of `steps`, and on by one of `onward`; its own rules."""
    spelled: list[Symbol] = [literal(canonical(ord(character))) for character in path]
    leaving = [*((step,) for step in steps[1:]), tuple(way.soon for way in onward)]
    ways: list[Sequence] = []
    rules: dict[str, Rule] = {}
    for at, refs in enumerate(leaving):
        for ref in refs:
            behind = make_rule(site, "a", ((spelled[at], ref),))
            rules[behind.name] = behind
            ways.append((*fused(spelled[:at]), Ref(behind.name)))
    ways.extend((*fused(spelled), way.later) for way in onward if way.later)
    if not ways:
        return Way(steps[0], None), rules
    along = make_rule(site, "t", tuple(ways))
    return Way(steps[0], Ref(along.name)), {along.name: along, **rules}


@lru_cache(maxsize=STEPS)
def _step(site: Site, character: str, gone: str, ended: bool) -> tuple[Ref, dict[str, Rule]]:
    """`character`, then the end of the key (unless a name has `ended` there) or anything but `gone`; its rules."""
    text = canonical(ord(character))
    leave = exits(site, gone)
    ends: tuple[Sequence, ...] = () if ended else ((literal(text + '"'),),)
    closed_by = None if ended else character
    rule = make_rule(site, "b", (*ends, *((literal(text), ref) for ref in leave.refs)), closed_by=closed_by)
    return Ref(rule.name), {part.name: part for part in (rule, *leave.rules)}
