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
from engine.schema.grammar import Ref, Rule, Sequence, Text
from engine.schema.key_exits import DIGITS, LOWER, UPPER, Parts, Site, exits, make_rule

_COMMON = LOWER + UPPER + DIGITS

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
    ends: tuple[Sequence, ...] = () if "" in trie else ((Text('""'),),)
    onward = tuple(ways[id(trie), character] for character in trie if character)
    return make_rule(site, "o", (*ends, *((Text('"'), ref) for ref in (*leave.refs, *onward)))), *rules.values()


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
    return _step(site, first, gone, False)


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
        ref, needed = _link(site, character, gone, ended, onward)
        rules.update(needed)
        onward, gone, ended = (ref,), character, False
    return onward[0]


@lru_cache(maxsize=16384)
def _link(site: Site, character: str, gone: str, ended: bool, onward: tuple[Ref, ...]) -> tuple[Ref, dict[str, Rule]]:
    """`character`, and then a way out or one of `onward`, with the rules for it but those of `onward`.

    The rule depends on the rest of the name alone.
    """
    rules = _step(site, character, gone, ended)
    if onward:
        text = Text(canonical(ord(character)))
        rules = make_rule(site, "t", ((Ref(rules[0].name),), *((text, ref) for ref in onward))), *rules
    return Ref(rules[0].name), {rule.name: rule for rule in rules}


@lru_cache(maxsize=16384)
def _step(site: Site, character: str, gone: str, ended: bool) -> Parts:
    """`character`, then the end of the key (unless a name has `ended` there) or anything but `gone`."""
    text = canonical(ord(character))
    leave = exits(site, gone)
    ends: tuple[Sequence, ...] = () if ended else ((Text(text + '"'),),)
    return make_rule(site, "b", (*ends, *((Text(text), ref) for ref in leave.refs))), *leave.rules
