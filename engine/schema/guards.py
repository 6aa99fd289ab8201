"""What an alternative of a rule may ask of the document so far: predicates over counts, which no rule can hold.

A guard stands before the first byte of its alternative and is judged there. Whoever writes rules sees to it that a
guard that holds leads to no dead end: it asks for room for all that must still come. Only items that must differ are
looked ahead for. Plain data. Knows no bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Set
from dataclasses import dataclass, fields
from typing import Any, Protocol

from engine.schema.counting_automaton import CountingAutomaton, State, counting_automaton
from engine.schema.distinct import can_differ


class Facts(Protocol):
    """What is counted while a document is written, of the innermost string and the innermost open container."""

    @property
    def chars(self) -> int:
        """Code points of the open string so far; an escape, or a pair of surrogates, counts once."""

    def reached(self, automaton: CountingAutomaton) -> State | None:
        """Where a pattern stands behind the open string so far; None: it does not match any more."""

    @property
    def key(self) -> str:
        """The open key so far."""

    @property
    def keys(self) -> Set[str]:
        """The keys that the open object has."""

    @property
    def count(self) -> int:
        """Members whose key is written, or items that have begun, of the open container."""

    @property
    def values(self) -> frozenset[str]:
        """The finished items of the open array, as `canonical` writes them; kept where some array asks for them."""

    @property
    def item(self) -> str | None:
        """The same of the item that stands last and is not among them, where it is whole; None: there is none."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one token can go: code points in a string, members or items of containers, and the keys that it can begin
    (None: any)."""

    chars: int
    items: int
    names: frozenset[str] | None = None


class Region(Protocol):
    """The bounds of one string, object or array."""

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        """All that the region's guards can see of the facts within one token; equal views allow the same tokens."""


@dataclass(frozen=True, slots=True)
class Length:
    """Strings of `low` to `high` code points."""

    low: int
    high: int | None

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        room = None if self.high is None else min(self.high - facts.chars, reach.chars)
        return max(0, min(self.low - facts.chars, reach.chars + 1)), room


@dataclass(frozen=True, slots=True)
class Matching:
    """Strings of `low` to `high` code points in which a pattern matches whose repeats are counted."""

    pattern: str
    low: int = 0
    high: int | None = None

    @property
    def automaton(self) -> CountingAutomaton:
        """What counts them."""
        return counting_automaton(self.pattern)

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        automaton = self.automaton
        state = facts.reached(automaton)
        within = reach.chars + (automaton.longest_rest if self.low or self.high is not None else 0)
        length = Length(self.low, self.high).view(facts, Reach(within, 0))
        return state and automaton.view(state, reach.chars), length

    def fits(self, state: State, chars: int) -> bool:
        """Whether some word goes on from here, behind so many characters."""
        if self.high is not None and chars + self.automaton.fewest(state) > self.high:
            return False
        most = self.automaton.most(state) if chars < self.low else None
        return most is None or chars + most >= self.low

    def left(self, state: State, chars: int) -> int:
        """How many more characters such a word has at least, or hardly more."""
        return max(self.automaton.fewest(state), self.low - chars)

    def alike_for(self, state: State, chars: int) -> int:
        """Characters up to which what goes on goes on as if nothing were counted, behind so many."""
        automaton = self.automaton
        room = automaton.alike_for(state)
        if self.low > chars and automaton.most(automaton.start) is not None:
            return 0
        return room if self.high is None else min(room, self.high - chars - automaton.longest_rest)

    def least(self, state: State) -> str:
        """A shortest end of a word from here, as if nothing stood before it as far as that can be, or hardly a longer
        one."""
        automaton, letters = self.automaton, list[str]()
        most = automaton.most(state)
        region = Matching(self.pattern, self.low if most is None else min(self.low, most))
        while not automaton.accepts(state) or len(letters) < region.low:
            size = len(letters) + 1
            ways = [(letter, target) for letter, target in automaton.moves(state) if region.fits(target, size)]
            letter, state = min(ways, key=lambda way: region.left(way[1], size))
            letters.append(letter)
        return "".join(letters)


@dataclass(frozen=True, slots=True)
class Members:
    """Objects with the `required` keys and `low` to `high` members; guards look at the keys `names` (sorted)."""

    names: frozenset[str]
    required: frozenset[str]
    low: int
    high: int | None

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        keys, absent = facts.keys, missing(self.required, facts.keys)
        low = max(0, min(self.low - facts.count, reach.items))
        room = None if self.high is None else min(self.high - facts.count - absent, reach.items)
        if reach.names is None:
            return keys & self.names, low, room
        return keys & reach.names, not absent, low, room, self.names <= keys

    def allows(self, facts: Facts, name: str | None) -> bool:
        """Whether one more member fits (with this key; None: one that is not in `names`) and leaves room for all that
        is required."""
        if self.high is None:
            return name not in facts.keys
        if name in facts.keys:
            return False
        return facts.count + 1 + missing(self.required, facts.keys) - (name in self.required) <= self.high


_KNOWN = 256
_missing: dict[tuple[int, int], tuple[frozenset[str], Set[str], int]] = {}
"""By the identity of both sets, which are kept alive: to compare sets would take as long as to count."""


def missing(required: frozenset[str], keys: Set[str]) -> int:
    """How many of the `required` keys are not among `keys`. Linear in the smaller set, then remembered for a while."""
    if not required or not keys:
        return len(required)
    known = _missing.get((id(required), id(keys)))
    if known is None:
        few, many = (required, keys) if len(required) < len(keys) else (keys, required)
        if len(_missing) >= _KNOWN:
            _missing.clear()
        known = required, keys, len(required) - sum(name in many for name in few)
        _missing[id(required), id(keys)] = known
    return known[2]


@dataclass(frozen=True, slots=True)
class Items:
    """Arrays of `low` to `high` items. With `choices` no two are equal: those are the values that each place can have
    as far as they are few (None: many), the last entry for all further places."""

    low: int
    high: int | None
    choices: tuple[frozenset[str] | None, ...] | None = None

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        room = None if self.high is None else min(self.high - facts.count, reach.items)
        return max(0, min(self.low - facts.count, reach.items)), room

    def allows(self, facts: Facts, *, more: bool) -> bool:
        """Whether the last item differs from those before, and different values are left for the places that must
        still be filled (`more`: one at least)."""
        if self.choices is None:
            return True
        item, used = facts.item, facts.values
        if item in used:
            return False
        used = used if item is None else used | {item}
        last = max(self.low, facts.count + more)
        return can_differ([self.choices[min(at, len(self.choices) - 1)] for at in range(facts.count, last)], used)


@dataclass(frozen=True, slots=True)
class Room:
    """In a string: `cost` more code points fit, and up to `most` more can come (None: any number)."""

    region: Length
    cost: int
    most: int | None = None

    def holds(self, facts: Facts) -> bool:
        if self.region.high is not None and facts.chars + self.cost > self.region.high:
            return False
        return self.most is None or facts.chars + self.most >= self.region.low


@dataclass(frozen=True, slots=True)
class Letter:
    """In a string: a character of one class of the pattern's automaton may come."""

    region: Matching
    kind: int

    def holds(self, facts: Facts) -> bool:
        return self.left(facts) is not None

    def left(self, facts: Facts) -> int | None:
        """How many characters must still come then; None where it may not."""
        region = self.region
        state = facts.reached(region.automaton)
        onward = None if state is None else region.automaton.step(state, self.kind)
        chars = facts.chars + 1
        return None if onward is None or not region.fits(onward, chars) else region.left(onward, chars)


@dataclass(frozen=True, slots=True)
class Enough:
    """The string or container may end here."""

    region: Length | Matching | Members | Items

    def holds(self, facts: Facts) -> bool:
        region = self.region
        size = facts.chars if isinstance(region, Length | Matching) else facts.count
        if size < region.low or (region.high is not None and size > region.high):
            return False
        if isinstance(region, Items):
            return region.allows(facts, more=False)
        if isinstance(region, Matching):
            state = facts.reached(region.automaton)
            return state is not None and region.automaton.accepts(state)
        return not isinstance(region, Members) or not missing(region.required, facts.keys)


@dataclass(frozen=True, slots=True)
class Member:
    """A member with the declared key `name` may come; None: some undeclared key."""

    region: Members
    name: str | None

    def holds(self, facts: Facts) -> bool:
        return self.region.allows(facts, self.name)


@dataclass(frozen=True, slots=True)
class Another:
    """One of several members may come: of the keys `names`, or, where `free`, of any other."""

    region: Members
    names: frozenset[str]
    free: bool

    def holds(self, facts: Facts) -> bool:
        if self.free and self.region.allows(facts, None):
            return True
        return any(self.region.allows(facts, name) for name in self.names - facts.keys)


@dataclass(frozen=True, slots=True)
class Item:
    """Another item fits."""

    region: Items

    def holds(self, facts: Facts) -> bool:
        region = self.region
        return (region.high is None or facts.count < region.high) and region.allows(facts, more=True)


@dataclass(frozen=True, slots=True)
class Unrepeated:
    """The open key can still become one that is neither declared, as one of `names`, nor in the object yet, by one of
    the texts `rest` up to its quote."""

    rest: tuple[str, ...] = ("",)
    names: frozenset[str] = frozenset()

    def holds(self, facts: Facts) -> bool:
        begun, keys = facts.key, facts.keys
        return any((key := begun + rest) not in keys and key not in self.names for rest in self.rest)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these holds. They are of one kind and differ in their regions alone."""

    guards: tuple[Room | Letter | Enough | Member | Another | Item, ...]

    def holds(self, facts: Facts) -> bool:
        return any(guard.holds(facts) for guard in self.guards)


Bounds = Length | Matching | Members | Items
Guard = Room | Letter | Enough | Member | Another | Item | Unrepeated | AnyOf


def regions(guard: Guard) -> tuple[Bounds, ...]:
    """The bounds that a guard looks at; `Unrepeated` has none, since it sees the text of keys."""
    if isinstance(guard, AnyOf):
        return tuple(dict.fromkeys(part.region for part in guard.guards))
    return () if isinstance(guard, Unrepeated) else (guard.region,)


_REGIONS: dict[str, type[Bounds]] = {"length": Length, "matching": Matching, "members": Members, "items": Items}
_GUARDS: dict[str, Any] = {
    "room": Room, "letter": Letter, "enough": Enough, "member": Member, "another": Another, "item": Item,
    "unrepeated": Unrepeated,
}  # fmt: skip
_NAMES = {kind: name for name, kind in (*_REGIONS.items(), *_GUARDS.items())}
_FIELDS = {kind: [entry.name for entry in fields(kind)] for kind in _NAMES}


def packed(guards: tuple[Guard | None, ...]) -> list[Any]:
    """Guards as JSON: their regions, each once, and then the guards. Equal in every process for equal guards."""
    known: dict[Bounds, int] = {}
    plain = [guard if guard is None else _plain(guard, known) for guard in guards]
    return [[[_NAMES[type(region)], *map(_plain_value, _values(region))] for region in known], plain]


def unpacked(plain: list[Any], seen: dict[Any, Any]) -> tuple[Guard | None, ...]:
    """The inverse of `packed`; equal regions of all that is read with the same `seen` are one object, so that they are
    told to be equal without a look at their names."""
    read = (_REGIONS[name](*map(_value, values)) for name, *values in plain[0])
    known = [seen.setdefault(region, region) for region in read]
    return tuple(None if guard is None else _guard(guard, known) for guard in plain[1])


def _plain(guard: Guard, known: dict[Bounds, int]) -> list[Any]:
    if isinstance(guard, Unrepeated):
        return ["unrepeated", guard.rest, sorted(guard.names)]
    first, *_ = parts = guard.guards if isinstance(guard, AnyOf) else (guard,)
    numbers = [known.setdefault(part.region, len(known)) for part in parts]
    return [_NAMES[type(first)], numbers, *map(_plain_value, _values(first)[1:])]


def _guard(plain: list[Any], known: list[Any]) -> Any:
    name, first, *values = plain
    if name == "unrepeated":
        return Unrepeated(tuple(first), frozenset(values[0]))
    others = [_value(value) for value in values]
    parts = tuple([_GUARDS[name](known[number], *others) for number in first])
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _values(part: Any) -> list[Any]:
    return [getattr(part, name) for name in _FIELDS[type(part)]]


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return {"each": [_plain_value(part) for part in value]}
    return sorted(value) if isinstance(value, frozenset) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, dict):
        return tuple([_value(part) for part in plain["each"]])
    return frozenset(plain) if isinstance(plain, list) else plain
