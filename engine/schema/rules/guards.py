"""What an alternative of a rule may ask of the document so far: predicates over counts, which no rule can hold.

A guard stands before the first byte of its alternative and is judged there. Whoever writes rules sees to it that a
guard that holds leads to no dead end: it asks for room for all that must still come. Only items that must differ are
looked ahead for. Plain data. Knows no bytes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from engine.schema.regex.counting_automaton import CountingAutomaton, State, counting_automaton
from engine.schema.sets.distinct import are_enough

R = TypeVar("R")


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
    def last(self) -> str | None:
        """The key of these that was written last."""

    @property
    def count(self) -> int:
        """Members whose key is written, or items that have begun, of the open container."""

    @property
    def values(self) -> frozenset[str]:
        """The finished items of the open array, as `canonical` writes them; kept where some array asks for them."""

    @property
    def inner(self) -> Facts:
        """What is counted of the document that the open string holds, as far as it is written; kept where somebody
        asks for it."""

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


class Order:
    """Keys that come in this order, with those that are `required`; all others behind them, where it is `open`."""

    __slots__ = ("_hash", "index", "left", "names", "open", "required", "until")

    def __init__(self, names: tuple[str, ...], required: frozenset[str], *, is_open: bool) -> None:
        self.names = names
        self.required = required
        self.open = is_open
        self.index = {name: at for at, name in enumerate(names)}
        self.until = [len(names)] * (len(names) + 2)
        """By index, that of the first required key there or behind it."""
        self.left = [0] * (len(names) + 1)
        """By index, how many required keys stand there or behind it."""
        for at in range(len(names) - 1, -1, -1):
            self.until[at] = at if names[at] in required else self.until[at + 1]
            self.left[at] = self.left[at + 1] + (names[at] in required)
        self._hash = hash((names, required, is_open))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Order)
            and self._hash == other._hash
            and (self.names, self.required, self.open) == (other.names, other.required, other.open)
        )

    def place(self, name: str | None) -> int:
        """The index of a key; that behind all of them for one that is not there."""
        return len(self.names) if name is None else self.index.get(name, len(self.names))

    def next(self, facts: Facts) -> int:
        """The index from which on keys may come; one behind all others where a required key was left out, as it may be
        where other bounds allow what was written."""
        at = 0 if facts.last is None else min(self.place(facts.last) + 1, len(self.names))
        return at if missing(self.required, facts.keys) <= self.left[at] else len(self.names) + 1


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
    """Objects with the `required` keys and `low` to `high` members, in some `order` or in any. `names` are the declared
    keys that they may have, `never` those that they may not."""

    names: frozenset[str]
    required: frozenset[str]
    low: int
    high: int | None
    order: Order | None = None
    never: frozenset[str] = frozenset()

    @property
    def may_always_end(self) -> bool:
        """Whether any members will do."""
        return not (self.low or self.required) and self.high is None

    def needed(self, _keys: Set[str], /) -> frozenset[str]:
        """The keys that an object with these must have."""
        return self.required

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        keys, order = facts.keys, self.order
        low = max(0, min(self.low - facts.count, reach.items))
        room = self._room(facts)
        room = None if room is None else min(room, reach.items)
        if reach.names is None:
            left = self.low and self.low - facts.count
            return (
                (keys & self.names, low, room) if order is None else (order.next(facts), self._extra(keys), left, room)
            )
        near = reach.names
        if begun := facts.key:
            near = near.union(name for name in keys if name.startswith(begun))
        if order is None:
            return keys & near, not missing(self.required, keys), low, room, self.names <= keys
        at = order.next(facts)
        if at > len(order.names):
            return None
        if self.low and not order.open:
            return at, self._extra(keys), self.low - facts.count, room
        until = order.until[at]
        soon = frozenset(name for name in near if at <= order.place(name) <= until)
        return at if begun else soon, self._extra(keys), until == len(order.names), low, room, at == len(order.names)

    def _extra(self, keys: Set[str]) -> Hashable:
        """Those of the keys that stand in no order."""
        names = self._beyond()
        return keys & names if names else None

    def _beyond(self) -> frozenset[str]:
        return frozenset() if self.order is None else _difference(self.names, self.order)

    def _room(self, facts: Facts) -> int | None:
        """Members that fit beside those that are required; None: any number."""
        return None if self.high is None else self.high - facts.count - missing(self.required, facts.keys)

    def allows(self, facts: Facts, name: str | None) -> bool:
        """Whether one more member fits (with this key; None: one that is not in `names`) and leaves room for all that
        is required."""
        if name in facts.keys or (self.order is not None and not self._in_order(facts, self.order.place(name))):
            return False
        room = self._room(facts)
        return room is None or room + (name in self.required) > 0

    def _in_order(self, facts: Facts, place: int) -> bool:
        order = self.order
        if order is None:
            return True
        at = order.next(facts)
        return at <= place <= order.until[at] and place <= self._latest(facts)

    def _latest(self, facts: Facts) -> int:
        """The last index in the order at which a key leaves enough to come."""
        assert self.order is not None
        return len(self.order.names) if self.order.open else facts.count + len(self.order.names) - self.low

    def allows_some(self, facts: Facts, names: Names) -> bool:
        """The same for any of several declared keys. Microseconds, or linear where most of them are written."""
        keys, room = facts.keys, self._room(facts)
        if room is not None and room < 0:
            return False
        if self.order is None:
            tried = names.all if room is None or room else names.required(self.required)
            return len(tried) > len(keys) or any(name not in keys for name in tried)
        at, places = self.order.next(facts), names.places(self.order)
        first = bisect_left(places, at)
        last = min(self.order.until[at], self._latest(facts))
        if room == 0:
            at = self.order.until[at]
            return at <= last and at < len(self.order.names) and at in places[first:]
        if first == len(places) or places[first] > last:
            return False
        return places[first] < len(self.order.names) or any(
            name not in keys and name not in self.order.index for name in names.all
        )

    def open_names(self, facts: Facts) -> Set[str]:
        """The declared keys that may come now. Linear in all of them, a microsecond for 20."""
        keys, room, order = facts.keys, self._room(facts), self.order
        if room is not None and room < 0:
            return frozenset()
        if order is None:
            return (self.names if room is None or room else self.required) - keys
        at = order.next(facts)
        if at > len(order.names):
            return frozenset()
        last = min(order.until[at], self._latest(facts))
        found = frozenset(order.names[at if room is None or room else order.until[at] : last + 1])
        return found if last < len(order.names) else found | (self._beyond() - keys)


@dataclass(frozen=True, slots=True)
class DependentMembers(Members):
    """The same where keys imply others: `implied` has, by key, all that are there with it."""

    implied: tuple[tuple[str, frozenset[str]], ...] = ()

    @property
    def may_always_end(self) -> bool:
        return False

    def needed(self, keys: Set[str], /) -> frozenset[str]:
        return _needed(self, keys)

    def view(self, facts: Facts, reach: Reach) -> Hashable:
        far = reach.items + len(self.names)
        room = None if self.high is None else min(self.high - facts.count, far)
        at = None if self.order is None else self._begin(facts)
        return facts.keys & self.names, at, max(0, min(self.low - facts.count, far)), room

    def _begin(self, facts: Facts) -> int:
        """The index in the order behind the last key."""
        return 0 if self.order is None or facts.last is None else self.order.place(facts.last) + 1

    def allows(self, facts: Facts, name: str | None) -> bool:
        return self._takes(facts, name, self._missing(facts))

    def _missing(self, facts: Facts) -> frozenset[str]:
        return _absent(self.needed(facts.keys), facts.keys)

    def _takes(self, facts: Facts, name: str | None, missing: frozenset[str]) -> bool:
        keys, order, own = facts.keys, self.order, _NO_KEYS
        if name in keys:
            return False
        if order is None and self.high is None:
            return True
        if name not in missing:  # what a missing key implies is among them
            own = by_key(self.implied).get(name, _NO_KEYS) - keys - missing - {name}
        count = facts.count + 1
        if self.high is not None and count + len(missing) - (name in missing) + len(own) > self.high:
            return False
        if order is None:
            return True
        at = order.place(name)
        if at < min(self._begin(facts), len(order.names)) or any(order.place(key) <= at for key in own):
            return False
        if any(place <= at and key != name for place, key in _foremost(order, missing)):
            return False
        return order.open or count >= self.low or count + self._left(keys, at) >= self.low

    def _left(self, keys: Set[str], at: int) -> int:
        """How many keys may come behind this index: those that imply none that was left out."""
        assert self.order is not None
        gone = {key for key in self.order.names[:at] if key not in keys}
        barred = {key for key, others in self.implied if not gone.isdisjoint(others)}
        return sum(key not in barred for key in self.order.names[at + 1 :])

    def allows_some(self, facts: Facts, names: Names) -> bool:
        missing = self._missing(facts)
        tried: Iterable[str] = names.all
        if self.order is not None:
            first, last = self._span(facts, self.order, missing)
            places = names.places(self.order)
            tried = self._at(self.order, places[bisect_left(places, first) : bisect_right(places, last)], names.all)
        return any(self._takes(facts, name, missing) for name in tried)

    def open_names(self, facts: Facts) -> Set[str]:
        missing = self._missing(facts)
        tried: Iterable[str] = self.names
        if self.order is not None:
            first, last = self._span(facts, self.order, missing)
            tried = self._at(self.order, range(first, last + 1), self.names)
        return {name for name in tried if self._takes(facts, name, missing)}

    def _span(self, facts: Facts, order: Order, missing: frozenset[str]) -> tuple[int, int]:
        """The places in the order at which a key leaves out none that is missing."""
        last = min((place for place, _ in _foremost(order, missing)), default=len(order.names))
        return min(self._begin(facts), len(order.names)), last

    def _at(self, order: Order, places: Sequence[int], names: frozenset[str]) -> Iterator[str]:
        """Those of the names that stand there; those in no order behind all others."""
        for place in places:
            if place < len(order.names) and order.names[place] in names:
                yield order.names[place]
        if places and places[-1] == len(order.names):
            yield from _difference(names, order)


@lru_cache(maxsize=256)
def _difference(names: frozenset[str], order: Order) -> frozenset[str]:
    return names - order.index.keys()


class Names:
    """Some declared keys, which many guards of one object hold parts of."""

    __slots__ = ("_places", "_required", "all")

    def __init__(self, names: Iterable[str]) -> None:
        self.all = frozenset(names)
        self._places: tuple[Order, list[int]] | None = None
        self._required: tuple[frozenset[str], frozenset[str]] | None = None

    def __hash__(self) -> int:
        return hash(self.all)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Names) and self.all == other.all)

    def __iter__(self) -> Iterator[str]:
        return iter(self.all)

    def places(self, order: Order) -> list[int]:
        """Where they stand in an order, sorted; remembered for one."""
        known = self._places
        if known is None or known[0] is not order:
            there = [at for at, name in enumerate(order.names) if name in self.all]
            known = self._places = order, there + [len(order.names)] * (len(self.all) - len(there))
        return known[1]

    def required(self, required: frozenset[str]) -> frozenset[str]:
        """Those that are required; remembered for one object."""
        known = self._required
        if known is None or known[0] is not required:
            known = self._required = required, self.all & required
        return known[1]


_KNOWN = 256
_NO_KEYS: frozenset[str] = frozenset()


def _by_identity(compute: Callable[..., R]) -> Callable[..., R]:
    """What was computed of one or two objects is remembered for a while, and they are kept alive: to compare large sets
    would take as long as to compute. A quarter of a microsecond."""
    known: dict[tuple[int, int], tuple[Any, Any, R]] = {}

    def remembered(one: Any, other: Any = None) -> R:
        found = known.get((id(one), id(other)))
        if found is None:
            if len(known) >= _KNOWN:
                known.clear()
            result = compute(one) if other is None else compute(one, other)
            found = known[id(one), id(other)] = one, other, result
        return found[2]

    return remembered


@_by_identity
def by_key(implied: tuple[tuple[str, frozenset[str]], ...]) -> dict[str | None, frozenset[str]]:
    """What each key implies, those first that imply most."""
    return dict(sorted(implied, key=lambda pair: -len(pair[1])))


@_by_identity
def _needed(members: DependentMembers, keys: Set[str]) -> frozenset[str]:
    """What is required, and all that the keys imply: what an implied key implies is in that."""
    found = _NO_KEYS
    for key, others in by_key(members.implied).items():
        if key in keys and key not in found:
            found |= others
    return members.required | found


@_by_identity
def _absent(needed: frozenset[str], keys: Set[str]) -> frozenset[str]:
    return needed - keys


@_by_identity
def _foremost(order: Order, missing: frozenset[str]) -> list[tuple[int, str]]:
    """The places of the two that come first, and they."""
    return heapq.nsmallest(2, ((order.place(key), key) for key in missing))


def missing(required: frozenset[str], keys: Set[str]) -> int:
    """How many of the `required` keys are not among `keys`. Linear in the smaller set, then remembered for a while."""
    return _how_many_absent(required, keys) if required and keys else len(required)


@_by_identity
def _how_many_absent(required: frozenset[str], keys: Set[str]) -> int:
    few, many = (required, keys) if len(required) < len(keys) else (keys, required)
    return len(required) - sum(name in many for name in few)


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
        return are_enough(self.choices, facts.count, max(self.low, facts.count + more), used, item)


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
        return not isinstance(region, Members) or not missing(region.needed(facts.keys), facts.keys)


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
    names: Names
    free: bool = False

    def holds(self, facts: Facts) -> bool:
        return (self.free and self.region.allows(facts, None)) or self.region.allows_some(facts, self.names)


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


@dataclass(frozen=True, slots=True)
class Within:
    """This holds of the document that the open string holds."""

    guard: Room | Letter | Enough | Member | Another | Item | Unrepeated | AnyOf | Within

    def holds(self, facts: Facts) -> bool:
        return self.guard.holds(facts.inner)


Bounds = Length | Matching | Members | Items
Guard = Room | Letter | Enough | Member | Another | Item | Unrepeated | AnyOf | Within


def bare(guard: Guard | None) -> Guard | None:
    """What is asked, wherever it is."""
    while isinstance(guard, Within):
        guard = guard.guard
    return guard


def depth(guard: Guard | None) -> int:
    """How many strings stand around what is asked."""
    found = 0
    while isinstance(guard, Within):
        found, guard = found + 1, guard.guard
    return found


def regions(guard: Guard) -> tuple[Bounds, ...]:
    """The bounds that a guard looks at in this document; `Unrepeated` has none, since it sees the text of keys."""
    if isinstance(guard, AnyOf):
        return tuple(dict.fromkeys(part.region for part in guard.guards))
    return () if isinstance(guard, Unrepeated | Within) else (guard.region,)


_SHARED = (Length, Matching, Members, DependentMembers, Items, Names)
_NAMES: dict[type, str] = {
    kind: kind.__name__
    for kind in (*_SHARED, Order, Room, Letter, Enough, Member, Another, Item, Unrepeated, AnyOf, Within)
}
_FIELDS: dict[type, list[str]] = {kind: [entry.name for entry in fields(kind)] for kind in _NAMES if is_dataclass(kind)}
_FIELDS |= {Names: ["all"], Order: ["names", "required", "open"]}
_MADE: dict[str, Callable[..., Any]] = {name: kind for kind, name in _NAMES.items()}
_MADE["Order"] = lambda names, required, is_open: Order(names, required, is_open=is_open)


class Packing:
    """Guards as JSON, equal in every process for equal guards; what many of them hold, each once."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}

    def packed(self, guards: tuple[Guard | None, ...]) -> Any:
        return _plain(guards, self._number)

    @property
    def shared(self) -> list[Any]:
        """What the guards so far share: bounds and names."""
        return [_spelled(part, self._number) for part in self._known]

    def _number(self, part: Any) -> int:
        return self._known.setdefault(part, len(self._known))


def unpacked_shared(plain: list[Any]) -> list[Any]:
    """The inverse of `Packing.shared`."""
    return [unpacked(part, []) for part in plain]


def unpacked(plain: Any, shared: list[Any]) -> Any:
    """The inverse of `Packing.packed`."""
    match plain:
        case {"shared": number}:
            return shared[number]
        case {"each": parts}:
            return tuple([unpacked(part, shared) for part in parts])
        case {"set": parts}:
            return frozenset(parts)
        case [name, *values]:
            return _MADE[name](*[unpacked(value, shared) for value in values])
    return plain


def contents(guards: tuple[Guard | None, ...]) -> str:
    """What tells guards from others, in every process."""
    return str(_plain(guards, _digest))


@lru_cache(maxsize=1024)
def _digest(part: Any) -> str:
    return blake2b(str(_spelled(part, _digest)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plain(value: Any, share: Callable[[Any], int | str]) -> Any:
    return {"shared": share(value)} if isinstance(value, _SHARED) else _spelled(value, share)


def _spelled(value: Any, share: Callable[[Any], int | str]) -> Any:
    """A list is an object of some kind with its fields; tuples and sets say what they are."""
    kind = type(value)
    if kind in _NAMES:
        return [_NAMES[kind], *[_plain(getattr(value, name), share) for name in _FIELDS[kind]]]
    if isinstance(value, tuple):
        return {"each": [_plain(part, share) for part in value]}
    return {"set": sorted(value)} if isinstance(value, frozenset) else value
