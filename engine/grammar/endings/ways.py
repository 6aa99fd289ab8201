"""Which alternative ends a string, object or array soonest, when what has been counted matters. Knows guards.

Where guards ask, the one that ends the region as soon as it may end, until then one that brings that nearer: a missing
key, another item, another character.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.grammar.counting.cursor import Cursor
from engine.grammar.pushdown.byte_grammar import Nonterminal, Symbol, price
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.schema.rules.guards import (
    Another,
    AnyOf,
    DependentMembers,
    Enough,
    Guard,
    Length,
    Letter,
    Member,
    Room,
    Unrepeated,
    Within,
    bare,
    by_key,
    missing,
)

MAX_TEXT = 1 << 20
"""Bytes that an ending may have."""
_AT_ONE_GO = 2_000
"""Characters that are chosen at once."""

_MOST_WITHIN, _LIKE_ONE = 32, 6
"""Guards of a choice that is looked into, a microsecond each, and how many take as long as one that is asked."""

_Rank = tuple[int, int, bool, int, int]


def alternative(rule: Nonterminal, cursor: Cursor) -> tuple[Symbol, ...] | None:
    """None where no text is left that obeys the guards."""
    return next(iter(alternatives(rule, cursor)), None) if rule.guards else rule.best


def alternatives(rule: Nonterminal, cursor: Cursor) -> list[tuple[Symbol, ...]]:
    """All that obey the guards, the best first."""
    found: list[tuple[_Rank, tuple[Symbol, ...]]] = []
    ends_nothing = not any(isinstance(bare(guard), Enough) for guard in rule.guards)
    for index, way in enumerate(rule.alternatives):
        guard = rule.guards[index] if rule.guards else None
        cost = price(rule, way)
        if cost < NEVER and (guard is None or guard.holds(cursor)):
            ends = guard is None and not any(isinstance(part, Nonterminal) and part.asks for part in way)
            stays = ends_nothing and way[-1:] == (rule,)  # its end lies behind another rule, however dear
            near = (0, 0) if ends else _nearness(guard, cursor)
            if guard is None and not ends and len(rule.alternatives) > 2:
                near = _nearness_within(way, cursor)
            found.append(((*near, stays, cost, index), way))
    return [way for _, way in sorted(found, key=lambda ranked: ranked[0])]


def effort(rule: Nonterminal) -> int:
    """How many guards `alternatives` may ask, those within others included, in units of 5-10 microseconds."""
    guards = [bare(guard) for guard in rule.guards if guard is not None]
    parts = sum(len(guard.guards) for guard in guards if isinstance(guard, AnyOf))
    free = [way for way, guard in zip(rule.alternatives, rule.guards, strict=False) if guard is None]
    ahead = sum(len(_guards_within(way)) for way in free) if len(rule.alternatives) > 2 else 0
    return len(rule.alternatives) + parts + ahead // _LIKE_ONE


def _nearness(guard: Guard | None, cursor: Cursor) -> tuple[int, int]:
    """How soon the region ends this way; less is sooner."""
    match guard:
        case Enough() | Unrepeated(rest=("",)):
            return 0, 0
        case Member(region, name) if name in (needed := region.needed(cursor.keys)):
            return 1, missing(needed, cursor.keys)
        case Another(region, names) if not names.required(needed := region.needed(cursor.keys)) <= cursor.keys:
            return 1, missing(needed, cursor.keys)
        case Member(DependentMembers(implied=implied), name):
            return 3, len(by_key(implied).get(name, frozenset()) - cursor.keys)
        case Letter():
            return 1, guard.left(cursor) or 0
        case Room(region=region, cost=cost):
            return (1, 0) if cursor.chars + cost <= region.low else (2, cost)
        case AnyOf(guards):
            return min(_nearness(part, cursor) for part in guards if part.holds(cursor))
        case Within(inner):
            return _nearness(inner, cursor.inner)
    return 3, 0


def _nearness_within(way: tuple[Symbol, ...], cursor: Cursor) -> tuple[int, int]:
    """The same of a way without a guard of its own, by the choice of keys in it."""
    guards = _guards_within(way)
    return min((_nearness(guard, cursor) for guard in guards if guard and guard.holds(cursor)), default=(3, 0))


def _guards_within(way: tuple[Symbol, ...]) -> Sequence[Guard | None]:
    return next((part.guards for part in way if isinstance(part, Nonterminal) and part.guards), ())[:_MOST_WITHIN]


def repeated(rule: Nonterminal, chosen: tuple[Symbol, ...], cursor: Cursor) -> tuple[Symbol, ...]:
    """What was chosen, as often as the least length asks, or thousands of times, where the rule goes on with itself."""
    if len(chosen) != 2 or chosen[1] is not rule or isinstance(chosen[0], Nonterminal):
        return chosen
    lows = [guard.region.low for guard in rule.guards if isinstance(guard, Enough) and isinstance(guard.region, Length)]
    more = min(max(lows, default=0) - cursor.chars, _AT_ONE_GO)
    return (*[chosen[0]] * max(1, more), rule)
