"""Keys that are none of a few names: the complement of a trie, written so that masks are cheap and mostly known.

A key leaves the names at some character. What stands before that place is a rule per character of a name, which depends
on the rest of the name alone; what comes then is a rule per pair of neighbouring characters ('a, then not b'). XGrammar
computes the mask of a state from the tokens that begin with its characters and gives a token up where nothing goes on.
In a name's own rules that is two characters in; the rules that take all other tokens are the pairs', learnt ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product

from engine.schema.constructions import has_surrogate
from engine.schema.escapes import canonical
from engine.schema.grammar import Ref, Rule, Sequence, literal
from engine.schema.key_exits import DIGITS, LOWER, UPPER, Parts, Site, exits, make_rule

_COMMON = LOWER + UPPER + DIGITS
LINKS, STEPS = 4_000, 2_000
"""Rules kept for later names: with a piece of a name behind them, and of two neighbouring characters."""

Trie = dict[str, "Trie"]
"""Children by character; the empty string marks the end of a name."""
Way = tuple[int, str]
"""A trie node by identity, and the character by which it is left along a name."""


def other_key(site: Site, names: Iterable[str]) -> Parts:
    """Every key but `names`, quotes included. Linear in the names; what they share with earlier ones is remembered."""
    trie = _trie(names)
    rules: dict[str, Rule] = {}
    ways: dict[Way, Ref] = {}
    for way, path, stop in reversed([*_edges(trie)]):
        onward = tuple(ways[id(stop), character] for character in stop if character)
        ways[way] = _line(site, path, stop, onward, rules)
    leave = exits(site, _gone(trie))
    rules.update((rule.name, rule) for rule in leave.rules)
    ends: tuple[Sequence, ...] = () if "" in trie else ((literal('""'),),)
    onward = tuple(ways[id(trie), character] for character in trie if character)
    return make_rule(site, "o", (*ends, *((literal('"'), ref) for ref in (*leave.refs, *onward)))), *rules.values()


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


def _edges(trie: Trie) -> Iterator[tuple[Way, str, Trie]]:
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


def _line(site: Site, path: str, stop: Trie, onward: tuple[Ref, ...], rules: dict[str, Rule]) -> Ref:
    """Along `path`, left after any of its characters or followed to its end and on. Written to `rules`."""
    gone, ended = _gone(stop), "" in stop
    for character in reversed(path):
        way, needed = _step(site, character, gone, ended)
        if onward:
            rule, way = _link(site, character, way, onward)
            rules[rule.name] = rule
        rules.update(needed)
        onward, gone, ended = (way,), character, False
    return onward[0]


@lru_cache(maxsize=LINKS)
def _link(site: Site, character: str, way: Ref, onward: tuple[Ref, ...]) -> tuple[Rule, Ref]:
    """`character` by this `way` out or on to one of `onward`. The rule depends on the rest of the name alone."""
    text = literal(canonical(ord(character)))
    rule = make_rule(site, "t", ((way,), *((text, ref) for ref in onward)))
    return rule, Ref(rule.name)


@lru_cache(maxsize=STEPS)
def _step(site: Site, character: str, gone: str, ended: bool) -> tuple[Ref, dict[str, Rule]]:
    """`character`, then the end of the key (unless a name has `ended` there) or anything but `gone`; its rules."""
    text = canonical(ord(character))
    leave = exits(site, gone)
    ends: tuple[Sequence, ...] = () if ended else ((literal(text + '"'),),)
    rule = make_rule(site, "b", (*ends, *((literal(text), ref) for ref in leave.refs)))
    return Ref(rule.name), {part.name: part for part in (rule, *leave.rules)}
