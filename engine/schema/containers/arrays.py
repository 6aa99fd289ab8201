"""Arrays as chains of rules: one per position that matters, then one that repeats, whose guards ask how many items
there are.

Knows positions, counts of `contains`, and which values items that must differ can have. Right-recursive, bracket
inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.errors import LimitExceeded
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.grammar import Ref, Sequence, Text, Way
from engine.schema.rules.guards import Enough, Item, Items
from engine.schema.rules.layout import Follow
from engine.schema.rules.shortest import Fewest
from engine.schema.semantics.contents import holds_documents
from engine.schema.semantics.occurrences import mark
from engine.schema.sets.distinct import representatives
from engine.schema.sets.shape import ArrayShape, Contains
from engine.schema.sets.term import FALSE, Term

STATE_LIMIT = 5_000
"""Rules of one array."""
COUNTED = 512
"""Items that are counted by rules, one each: beside `contains`, which rules count, and in parameters of calls."""
MOST_REQUIRED = 10_000
"""Items that an array may be required to have."""


@dataclass(frozen=True, slots=True)
class _State:
    """How many items there are (up to the last count that matters), and how many meet each `contains`."""

    items: int
    met: tuple[int, ...] = ()


class ArrayWriter:
    """Writes one array shape in one place."""

    def __init__(self, writer: ValueWriter, array: ArrayShape, follow: Follow, term: Term) -> None:
        self.writer = writer
        self.term = term
        self.follow: Follow = follow
        self.counted = writer.counted and not array.contains
        array = self._countable(array)
        self.places = self._places(array) if array.unique else None
        self.array = array = replace(array, unique=self.places is not None)
        self.least = self._least_items()
        self.last = max(len(array.prefix), *(need.start for need in array.contains), 0)
        if not self.counted:
            self.last = max(self.last, array.low, array.high or 0)
        choices = tuple([frozenset(place) if whole else None for place, whole in self.places or ()]) or None
        self.region = Items(array.low, array.high, choices) if self.counted else Items(0, None, choices)
        self._names: dict[tuple[_State, bool], str] = {}
        self._pending: list[tuple[_State, bool]] = []

    def write(self) -> Ref:
        """The rule for what follows the opening bracket, closing bracket included."""
        if self.least is None:
            name = self.writer.fresh("a")
            self.writer.add(name, [], self.follow)  # there are not as many values as items
            return Ref(name)
        start = self._name(_State(0, (0,) * len(self.array.contains)), True)
        while self._pending:
            state, first = self._pending.pop()
            self._write_state(state, first)
        return Ref(start)

    def _countable(self, array: ArrayShape) -> ArrayShape:
        """Without bounds that would need a rule for every one of very many items."""
        most = MOST_REQUIRED if self.counted else COUNTED
        if not self.counted and array.high is not None and array.high > COUNTED:
            mark(self.writer.evaluator, self.term, ("maxItems",), "checked", f"more than {COUNTED} items to count")
            array = replace(array, high=None)
        if array.low > most:
            mark(self.writer.evaluator, self.term, ("minItems",), "checked", f"more than {most} items to count")
            array = replace(array, low=most)
        return array

    def _name(self, state: _State, first: bool) -> str:
        key = (state, first)
        if key not in self._names:
            if len(self._names) >= STATE_LIMIT:
                raise LimitExceeded(f"an array needs more than {STATE_LIMIT} rules", param="schema")
            self._names[key] = self.writer.fresh("a")
            self._pending.append(key)
        return self._names[key]

    def _write_state(self, state: _State, first: bool) -> None:
        layout = self.writer.layout
        name = self._names[state, first]
        end = Enough(self.region) if self.region != Items(0, None) else None
        more = Item(self.region) if self.region.high is not None or self.region.choices else None
        ways: list[Way] = [(layout.closed("]"), end)] if self._may_end(state) else []
        if self.array.high is None or state.items < self.array.high:
            comma: Sequence = () if first else layout.comma()
            for term, onward in self._steps(state):
                if term != FALSE:
                    after = Ref(self._name(onward, False))
                    ways.append(((*comma, *self.writer.value(term), after), more))
        self.writer.add_ways(name, ways, self.follow)
        if self.array.low and self.counted:
            self.writer.fewest[name] = self._fewest(state, first)

    def _may_end(self, state: _State) -> bool:
        needs = zip(self.array.contains, state.met, strict=True)
        enough = self.counted or state.items >= self.array.low
        return enough and all(met >= need.low for need, met in needs)

    def _fewest(self, state: _State, first: bool) -> tuple[Fewest, ...]:
        """The items that are needed from here on."""
        layout, places = self.writer.layout, range(state.items, self.array.low)
        assert self.least is not None, "nothing is written without"
        always = tuple((at, self.least[at] or self.writer.value(self.array.item(at))) for at in places)
        return (Fewest(always, (), 0, layout.comma(), layout.closed("]"), not first),)

    def _steps(self, state: _State) -> list[tuple[Term, _State]]:
        """Every kind of next item, and the state after it."""
        items = min(state.items + 1, self.last)
        term = self.array.item(state.items)
        steps: list[tuple[Term, tuple[int, ...]]] = [(term, ())]
        for need, met in zip(self.array.contains, state.met, strict=True):
            steps = [
                (self.writer.evaluator.terms.all_of((old, more)), (*counts, count))
                for old, counts in steps
                for more, count in self._counted(need, met, state.items)
            ]
        return [(term, _State(items, counts)) for term, counts in steps]

    def _counted(self, need: Contains, met: int, index: int) -> list[tuple[Term, int]]:
        """What an item may be with respect to one `contains`, and its count afterwards."""
        terms = self.writer.evaluator.terms
        anything = terms.all_of(())
        if index < need.start:
            return [(anything, met)]
        if need.high is None:
            return [(anything, met)] + ([(need.term, met + 1)] if met < need.low else [])
        counted = [(need.term, met + 1)] if met < need.high else []
        return [(terms.negate(need.term), met), *counted]

    def _places(self, array: ArrayShape) -> list[tuple[dict[str, str], bool]] | None:
        """Where items must differ: the values that each place can have, all further ones last, by their canonical text,
        and whether they are all. None where it says nothing, or nobody compares."""
        if array.high is not None and array.high <= 1:
            return None
        reason = "" if self.writer.counted else "in parameters of calls"
        if self.writer.options.depth or holds_documents(self.writer.evaluator, (*array.prefix, array.rest)):
            reason = "in a string that holds a document, or around one"
        if array.contains and max(array.low, *(need.low for need in array.contains)) > 1:
            reason = "beside contains, where several items are asked for"
        if not reason:
            some = array.low if array.low > 1 else 0
            found = [self.writer.lister.values(term, some) for term in (*array.prefix, array.rest)]
            if array.low < 2 or all(whole or len(texts) >= array.low for texts, whole in found):
                return found
            reason = "different items of the least number cannot be named"
        mark(self.writer.evaluator, self.term, ("uniqueItems",), "checked", reason)
        return None

    def _least_items(self) -> list[Sequence] | None:
        """The items that an array has at least, those that must differ spelled out (else empty); None: too many."""
        if self.places is None or self.array.low < 2:
            return [()] * self.array.low
        places = [self.places[min(at, len(self.places) - 1)][0] for at in range(self.array.low)]
        known = {id(place): frozenset(place) for place in places}
        chosen = representatives([known[id(place)] for place in places])
        if chosen is None:
            return None
        return [(Text(place[value]),) for place, value in zip(places, chosen, strict=True) if value is not None]
