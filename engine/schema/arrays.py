"""Arrays as chains of rules: one per position that matters, then one that repeats, whose guards ask how many items
there are.

Knows positions, counts of `contains`, and which values of a small set are used up. Right-recursive, bracket inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.errors import LimitExceeded
from engine.schema.grammar import Ref, Sequence
from engine.schema.guards import Enough, Item, Items
from engine.schema.layout import Follow
from engine.schema.object_state import Way
from engine.schema.origins import mark
from engine.schema.shape import ArrayShape, Contains, Shape
from engine.schema.shortest import Fewest
from engine.schema.term import FALSE, Term

if TYPE_CHECKING:
    from engine.schema.values import ValueWriter

STATE_LIMIT = 5_000
"""Rules of one array."""
COUNTED = 512
"""Items that are counted by rules, one each: beside `contains`, which rules count, and in parameters of calls."""
MOST_REQUIRED = 10_000
"""Items that an array may be required to have."""
DISTINCT = 6
"""Values of an item that uniqueItems can keep apart: every subset of them is a state."""


@dataclass(frozen=True, slots=True)
class _State:
    """How many items there are (up to the last count that matters), how many meet each `contains`, which are used."""

    items: int
    met: tuple[int, ...] = ()
    used: frozenset[Term] = frozenset()


class ArrayWriter:
    """Writes one array shape in one place."""

    def __init__(self, writer: ValueWriter, array: ArrayShape, follow: Follow, term: Term) -> None:
        self.writer = writer
        self.term = term
        self.follow: Follow = follow
        self.choices = self._distinct(array) if array.unique else None
        self.counted = writer.counted and self.choices is None and not array.contains
        self.array = array = self._countable(array)
        self.last = max(len(array.prefix), *(need.start for need in array.contains), 0)
        if not self.counted:
            self.last = max(self.last, array.low, array.high or 0)
        self.region = Items(array.low, array.high) if self.counted else Items(0, None)
        self._names: dict[tuple[_State, bool], str] = {}
        self._pending: list[tuple[_State, bool]] = []

    def write(self) -> Ref:
        """The rule for what follows the opening bracket, closing bracket included."""
        start = self._name(_State(0, (0,) * len(self.array.contains)), True)
        while self._pending:
            state, first = self._pending.pop()
            self._write_state(state, first)
        return Ref(start)

    def _countable(self, array: ArrayShape) -> ArrayShape:
        """Without bounds that would need a rule for every one of very many items."""
        most = MOST_REQUIRED if self.counted else COUNTED
        if not self.counted and array.high is not None and array.high > COUNTED:
            mark(self.writer.expander, self.term, ("maxItems",), "checked", f"more than {COUNTED} items to count")
            array = replace(array, high=None)
        if array.low > most:
            mark(self.writer.expander, self.term, ("minItems",), "checked", f"more than {most} items to count")
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
        more = Item(self.region) if self.region.high is not None else None
        ways: list[Way] = [(layout.closed("]"), end)] if self._may_end(state) else []
        if self.array.high is None or state.items < self.array.high:
            comma: Sequence = () if first else layout.comma()
            for term, onward in self._steps(state):
                if term != FALSE:
                    after = Ref(self._name(onward, False))
                    ways.append(((*comma, *self.writer.value(term), after), more))
        self.writer.add_ways(name, ways, self.follow)
        if self.region.low:
            self.writer.fewest[name] = self._fewest(state, first)

    def _may_end(self, state: _State) -> bool:
        needs = zip(self.array.contains, state.met, strict=True)
        enough = self.counted or state.items >= self.array.low
        return enough and all(met >= need.low for need, met in needs)

    def _fewest(self, state: _State, first: bool) -> tuple[Fewest, ...]:
        """The items that are needed from here on."""
        layout, places = self.writer.layout, range(state.items, self.array.low)
        always = tuple((at, self.writer.value(self.array.item(at))) for at in places)
        return (Fewest(always, (), 0, layout.comma(), layout.closed("]"), not first),)

    def _steps(self, state: _State) -> list[tuple[Term, _State]]:
        """Every kind of next item, and the state after it."""
        items = min(state.items + 1, self.last)
        term = self.array.item(state.items)
        if self.choices is not None:
            left = [value for value in self.choices if value not in state.used]
            return [(value, _State(items, state.met, state.used | {value})) for value in left]
        steps: list[tuple[Term, tuple[int, ...]]] = [(term, ())]
        for need, met in zip(self.array.contains, state.met, strict=True):
            steps = [
                (self.writer.expander.terms.all_of((old, more)), (*counts, count))
                for old, counts in steps
                for more, count in self._counted(need, met, state.items)
            ]
        return [(term, _State(items, counts)) for term, counts in steps]

    def _counted(self, need: Contains, met: int, index: int) -> list[tuple[Term, int]]:
        """What an item may be with respect to one `contains`, and its count afterwards."""
        terms = self.writer.expander.terms
        anything = terms.all_of(())
        if index < need.start:
            return [(anything, met)]
        if need.high is None:
            return [(anything, met)] + ([(need.term, met + 1)] if met < need.low else [])
        counted = [(need.term, met + 1)] if met < need.high else []
        return [(terms.negate(need.term), met), *counted]

    def _distinct(self, array: ArrayShape) -> list[Term] | None:
        """The values of the items as terms, when they are few and the same in every position."""
        if array.high is not None and array.high <= 1:
            return None
        if not (array.prefix or array.contains):
            values = few_values(self.writer.expander.shape(array.rest), DISTINCT)
            if values is not None:
                return [self.writer.expander.terms.const(value) for value in values]
        reason = f"items are not out of at most {DISTINCT} known values"
        mark(self.writer.expander, self.term, ("uniqueItems",), "checked", reason)
        return None


def few_values(shape: Shape, limit: int) -> list[object] | None:
    """All values of a shape without arrays and objects, when there are at most `limit`."""
    if shape.arrays or shape.objects or any(part.low or part.high is not None for part in shape.strings):
        return None
    values: list[object] = [None] if shape.null else []
    values.extend(sorted(shape.booleans))
    for interval in shape.numbers:
        if interval.single is None:
            return None
        value = interval.single
        values.append(int(value) if value.denominator == 1 else float(value))
    for part in shape.strings:
        strings = part.automaton.strings(limit)
        if strings is None:
            return None
        values.extend(strings)
    return values if len(values) <= limit else None
