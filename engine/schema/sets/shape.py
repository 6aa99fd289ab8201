"""What values a term allows, by JSON type: the normal form of lowering. Plain data with look-ups.

A shape is a union inside every type (several strings, arrays, objects) and a union over the types. Values of members
and items are terms, so shapes of recursive schemas are finite. Knows no keyword and no grammar.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers.intervals import ALL_NUMBERS, Numbers
from engine.schema.sets.term import FALSE, TRUE, Term

ALL_ITEMS = 1 << 60
"""`seen_items` when every item has been evaluated."""


@dataclass(frozen=True, slots=True)
class StringSet:
    """Strings in `automaton` with `low` to `high` code points. Made by `lengths.bounded` where there are bounds.

    With a `pattern` only those of them in which it matches: its repeats are counted, which the automaton leaves out.
    """

    automaton: Automaton
    low: int = 0
    high: int | None = None
    pattern: str | None = None
    content: Term | None = None
    """The strings are JSON documents of this term."""

    @property
    def is_bounded(self) -> bool:
        """Whether something is counted beside the automaton."""
        return self.low > 0 or self.high is not None or self.pattern is not None


@dataclass(frozen=True, slots=True)
class Contains:
    """Between `low` and `high` items from index `start` on satisfy `term`."""

    term: Term
    low: int
    high: int | None = None
    start: int = 0


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """Arrays of `low` to `high` items: `prefix` by position, then `rest`."""

    prefix: tuple[Term, ...] = ()
    rest: Term = TRUE
    low: int = 0
    high: int | None = None
    contains: tuple[Contains, ...] = ()
    unique: bool = False
    seen_items: int = 0
    """How many leading items an in-place applicator has evaluated; only kept where unevaluatedItems needs it."""
    seen_terms: frozenset[Term] = frozenset()
    """Items of these terms are evaluated wherever they stand (contains, where there is unevaluatedItems)."""
    vague: bool = False
    """Which items have been evaluated is not known: all are taken to be."""

    def item(self, index: int) -> Term:
        """What the item at `index` must satisfy."""
        return self.prefix[index] if index < len(self.prefix) else self.rest


@dataclass(frozen=True, slots=True)
class Others:
    """Keys in `keys` that are not named have values in `value`. `explicit`: the schema speaks of them."""

    keys: Automaton
    value: Term
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """Some member whose key is in `keys` has a value in `value`."""

    keys: Automaton
    value: Term


ANY_KEY = (Others(Automaton.anything(), TRUE),)


@dataclass(frozen=True)
class ObjectShape:
    """Objects of `low` to `high` members. A key neither named nor in any of the disjoint `others` is forbidden."""

    named: tuple[tuple[str, Term], ...] = ()
    others: tuple[Others, ...] = ANY_KEY
    required: frozenset[str] = frozenset()
    needs: tuple[Need, ...] = ()
    low: int = 0
    high: int | None = None
    seen_names: frozenset[str] = frozenset()
    seen_keys: Automaton | None = None
    """Keys an in-place applicator has evaluated; only kept where unevaluatedProperties needs them."""
    vague: bool = False
    """Which keys have been evaluated is not known: all are taken to be."""
    implied: frozenset[tuple[str, str]] = frozenset()
    """Pairs of keys: who has the first has the second."""
    declared: bool = False
    """Some `properties` speaks of the members: tight is closed where none of `others` is explicit."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.named, self.others, self.required, self.needs, self.low, self.high, self.seen_names))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def values(self) -> dict[str, Term]:
        """What the values of named keys must satisfy; FALSE for a forbidden key."""
        return dict(self.named)

    def value(self, key: str) -> Term:
        """The same for any key."""
        found = self.values.get(key)
        return self.other(key) if found is None else found

    @cached_property
    def free_value(self) -> Term | None:
        """The one value of all keys that are not named, None where they differ."""
        return self.others[0].value if len(self.others) == 1 and self.others[0].keys.is_universal else None

    def other(self, key: str) -> Term:
        """The same for a key that is not named."""
        free = self.free_value if self.others else FALSE
        if free is not None:
            return free
        return next((part.value for part in self.others if part.keys.accepts(key)), FALSE)


@dataclass(frozen=True, slots=True)
class Shape:
    """`exact`: neither more nor less than what the schema allows, not counting what its children say."""

    null: bool
    booleans: frozenset[bool]
    numbers: Numbers
    strings: tuple[StringSet, ...]
    arrays: tuple[ArrayShape, ...]
    objects: tuple[ObjectShape, ...]
    exact: bool = True

    @property
    def is_empty(self) -> bool:
        """Nothing is allowed, without looking at children."""
        return not (self.null or self.booleans or self.numbers or self.strings or self.arrays or self.objects)


ANY_STRING = (StringSet(Automaton.anything()),)
BOTH = frozenset({False, True})
EVERYTHING = Shape(True, BOTH, ALL_NUMBERS, ANY_STRING, (ArrayShape(),), (ObjectShape(),))
UNKNOWN = replace(EVERYTHING, exact=False)
"""In place of what cannot be held: nothing is excluded, and nobody may take its complement."""
NOTHING = Shape(False, frozenset(), (), (), (), ())
