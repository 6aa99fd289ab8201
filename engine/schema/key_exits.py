"""Ways from a prefix of a key to where every ending is legal: rules that all schemas share, their masks known.

A character that leads out belongs to few sets: all but one ASCII character, a node of a fixed tree over ASCII, what
lies beyond ASCII, the escapes. Each is a rule, learnt ahead (`all_exits`). Knows JSON spelling; not names or automata.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from engine.schema.alphabet import Ranges
from engine.schema.automaton import Automaton
from engine.schema.counted_text import Comparing, write_counted
from engine.schema.escapes import ESCAPED, any_escape, canonical
from engine.schema.grammar import Chars, Ref, Rule, Sequence, Symbol, Text, normalise_ranges
from engine.schema.guards import Unrepeated
from engine.schema.suffixes import short_digest
from engine.schema.text import RAW, TextRules

PLAIN = "".join(chr(point) for low, high in RAW for point in range(low, min(high, 0x7F) + 1))
"""ASCII characters that stand for themselves in a JSON string."""
WIDE: Ranges = ((0x80, 0xD7FF), (0xE000, 0x10FFFF))
LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"

Parts = tuple[Rule, ...]
"""A rule and all that it refers to, itself first."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where keys stand: the prefix of rule names and what follows a key."""

    prefix: str
    follow: Chars
    watched: bool = True
    """A key that the object has already cannot be closed."""


@dataclass(frozen=True, slots=True)
class Exits:
    """References that together lead over some characters to the rest of the key, and their rules."""

    refs: tuple[Ref, ...]
    rules: tuple[Rule, ...]


def make_rule(site: Site, kind: str, alternatives: tuple[Sequence, ...], *, closed_by: str | None = None) -> Rule:
    """A rule named by its content; `closed_by` is what its first alternative adds to the key before it closes it."""
    content = [[_content(symbol) for symbol in sequence] for sequence in alternatives]
    guarded = site.watched and closed_by is not None
    digest = short_digest(repr((content, site.follow.ranges, guarded)))
    guards = (Unrepeated((closed_by,)), *(None,) * (len(alternatives) - 1)) if guarded and closed_by is not None else ()
    return Rule(f"{site.prefix}k{kind}{digest}", alternatives, site.follow, guards=guards)


def _content(symbol: Symbol) -> object:
    if isinstance(symbol, Ref):
        return symbol.name
    return symbol.ranges if isinstance(symbol, Chars) else (symbol.text,)


@lru_cache(maxsize=16)
def free(site: Site) -> Parts:
    """The rest of a key of which nothing is asked any more, in every legal spelling, closing quote included."""
    texts = TextRules({}, site.prefix)
    plain = texts.rules[texts.plain(site.follow).name]
    if not site.watched:
        return (plain,)
    anything = Automaton.anything()
    compared = write_counted(texts, anything, "every", Comparing(anything), site.follow)
    return (replace(texts.rules[compared.name], expression=plain.expression),)


@lru_cache(maxsize=4096)
def exits(site: Site, gone: str) -> Exits:
    """Any character but those of `gone`, raw or as json.dumps escapes it, and then anything."""
    plain = frozenset(PLAIN).difference(gone)
    escaped = [point for point in ESCAPED if chr(point) not in gone]
    wide = _wide_without(gone)
    if wide == WIDE and len(escaped) == len(ESCAPED) and len(PLAIN) - len(plain) <= 1:
        parts = _all_but(site, _ranges(plain))
        return Exits((Ref(parts[0].name),), parts)
    found = [_over(site, piece) for piece in _pieces(plain)]
    found.append(_over(site, wide))
    if len(escaped) == len(ESCAPED):
        found.append(_escape(site))
    else:
        found.extend(_escaped(site, point) for point in escaped)
    rules = {rule.name: rule for parts in found for rule in parts}
    return Exits(tuple(Ref(parts[0].name) for parts in found), tuple(rules.values()))


def all_exits(site: Site) -> Exits:
    """Every rule that `exits` shares between schemas."""
    found = [exits(site, gone) for gone in ("", *PLAIN)]
    pieces = [_over(site, piece) for piece, _ in _tree()]
    refs = [*(ref for one in found for ref in one.refs), *(Ref(parts[0].name) for parts in pieces)]
    every = [*(one.rules for one in found), *pieces]
    return Exits(tuple(dict.fromkeys(refs)), tuple({rule.name: rule for rules in every for rule in rules}.values()))


def _wide_without(gone: str) -> Ranges:
    points = sorted(ord(character) for character in gone if ord(character) >= WIDE[0][0])
    kept: list[tuple[int, int]] = []
    for low, high in WIDE:
        for point in points:
            if low <= point <= high:
                kept.append((low, point - 1))
                low = point + 1
        kept.append((low, high))
    return tuple((low, high) for low, high in kept if low <= high)


@lru_cache(maxsize=512)
def _over(site: Site, spans: Ranges) -> Parts:
    rest = free(site)
    return (make_rule(site, "c", ((Chars(spans), Ref(rest[0].name)),)), *rest)


@lru_cache(maxsize=512)
def _all_but(site: Site, plain: Ranges) -> Parts:
    """These ASCII characters and everything else; the bytes beyond ASCII and the escapes are rules of their own."""
    wide, escape = _over(site, WIDE), _escape(site)
    onward = Ref(free(site)[0].name)
    rule = make_rule(site, "d", ((Chars(plain), onward), (Ref(wide[0].name),), (Ref(escape[0].name),)))
    return (rule, escape[0], *wide)


@lru_cache(maxsize=16)
def _escape(site: Site) -> Parts:
    """An escape that json.dumps would write, then anything: others could spell a declared name."""
    rest = free(site)
    return (make_rule(site, "x", any_escape(Ref(rest[0].name))), *rest)


@lru_cache(maxsize=512)
def _escaped(site: Site, point: int) -> Parts:
    rest = free(site)
    return (make_rule(site, "c", ((Text(canonical(point)), Ref(rest[0].name)),)), *rest)


def _pieces(plain: frozenset[str]) -> list[Ranges]:
    """`plain` as few nodes of the tree."""
    found: list[Ranges] = []
    left = set(plain)
    for piece, members in _tree():
        if members <= left:
            found.append(piece)
            left -= members
    return found


@lru_cache(maxsize=1)
def _tree() -> tuple[tuple[Ranges, frozenset[str]], ...]:
    """Sets of ASCII characters, larger ones first: classes, and runs of each, halved down to single characters."""
    rest = "".join(character for character in PLAIN if character not in LOWER + UPPER + DIGITS)
    nodes = {PLAIN, UPPER + DIGITS + rest, DIGITS + rest, rest}
    pending = [LOWER, UPPER, DIGITS, rest]
    while pending:
        node = pending.pop()
        nodes.add(node)
        if len(node) > 1:
            middle = (len(node) + 1) // 2
            pending.extend((node[:middle], node[middle:]))
    ranked = sorted((-len(node), "".join(sorted(node))) for node in nodes)
    return tuple((_ranges(node), frozenset(node)) for _, node in ranked)


def _ranges(characters: Iterable[str]) -> Ranges:
    return normalise_ranges((ord(character), ord(character)) for character in characters)
