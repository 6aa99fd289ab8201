"""Objects where nobody counts (parameters of calls): in schema order, or in any order; rules remember what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.schema.containers.object_members import Member
from engine.schema.containers.objects import STATE_LIMIT, ObjectWriter
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.grammar import Ref, Sequence
from engine.schema.rules.layout import Follow
from engine.schema.semantics.occurrences import name_repeats
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import Term

TRACKED = 7
"""Required keys whose presence is remembered in any order: every subset of them is a state."""


@dataclass(frozen=True, slots=True)
class _State:
    """Where the object is: next position in schema order (0 in any order), what is missing, members so far."""

    position: int
    missing: frozenset[str]
    needs: frozenset[int]
    count: int
    first: bool = False

    def after(self, member: Member, count_to: int, position: int) -> _State:
        """Behind one more member; members are counted up to `count_to`."""
        return _State(position, self.missing - {member.name}, self.needs - member.meets, min(self.count + 1, count_to))


class ParameterObject(ObjectWriter):
    """Writes one object shape whose rules have no guards."""

    def __init__(self, writer: ValueWriter, item: ObjectShape, follow: Follow, term: Term) -> None:
        super().__init__(writer, item, follow, term)
        self.item = item = self._countable(item)
        self.count_to = max(item.low, (item.high or -1) + 1, 0)
        self.tracked = self._tracked()
        if self.free or (not self.ordered and self.named):
            name_repeats(writer.evaluator)
        if (self.free or not self.ordered) and item.low > len(item.required):
            self.mark(("minProperties",), "checked", "a repeated key would count twice")

    def _is_ordered(self) -> bool:
        return self.writer.options.tight and (super()._is_ordered() or len(self.item.required) > TRACKED)

    def write(self) -> Ref:
        missing = frozenset() if self.ordered else self.tracked
        start = self._name(_State(0, missing, frozenset(range(len(self.item.needs))), 0, True))
        while self._pending:
            state = self._pending.pop()
            self.writer.add(self._names[state], self._ways(state), self.follow)
        return Ref(start)

    def _countable(self, item: ObjectShape) -> ObjectShape:
        """Without bounds on the members where counting them would multiply the states too much."""
        counts = max(item.low, (item.high or -1) + 1)
        states = len(item.named) + 1 if self.ordered else 1 << min(len(item.required), TRACKED)
        if counts * states <= STATE_LIMIT // 3:
            return item
        self.mark(("minProperties", "maxProperties"), "checked", "too many members to count")
        return replace(item, low=0, high=None)

    def _tracked(self) -> frozenset[str]:
        """The required keys that rules remember: all in schema order; in any order all of a few, or the first ones."""
        required = [key for key, _ in self.named if key in self.item.required]
        if not self.ordered and len(required) > TRACKED:
            self.mark(("required",), "checked", f"more than {TRACKED} required keys in any order")
            return frozenset(required[:TRACKED])
        return frozenset(required)

    def _ways(self, state: _State) -> list[Sequence]:
        """The brace, or the next member and what follows it."""
        layout = self.writer.layout
        comma = () if state.first else layout.comma()
        found = [layout.closed("}")] if self._may_end(state) else []
        if self.item.high is None or state.count < self.item.high:
            found += self._in_order(state, comma) if self.ordered else self._in_any_order(state, comma)
        return found

    def _may_end(self, state: _State) -> bool:
        """Nothing is missing or ahead, and no later position of the chain writes the same brace."""
        if state.missing or state.needs or state.count < self.item.low:
            return False
        ahead = self.named[state.position :] if self.ordered else []
        required = any(key in self.item.required for key, _ in ahead)
        return not required and not (ahead and self._worth(state.position + 1))

    def _in_order(self, state: _State, comma: Sequence) -> list[Sequence]:
        if state.position == len(self.named):
            free = self.members.undeclared(state.needs)
            return [self._step(member, state, comma, state.position) for member in free]
        key, term = self.named[state.position]
        kinds = self.members.declared(key, term, state.needs)
        found = [self._step(member, state, comma, state.position + 1) for member in kinds]
        if key not in self.item.required and self._worth(state.position + 1):
            found.append((Ref(self._name(replace(state, position=state.position + 1))),))
        return found

    def _worth(self, position: int) -> bool:
        """Whether anything but the brace can come."""
        return position < len(self.named) or bool(self.free)

    def _in_any_order(self, state: _State, comma: Sequence) -> list[Sequence]:
        kinds = [member for key, term in self.named for member in self.members.declared(key, term, state.needs)]
        kinds += self.members.undeclared(state.needs)
        gone = self.tracked - state.missing
        by_state: dict[_State, list[Sequence]] = {}
        for member in kinds:
            if member.name not in gone:
                symbols = (*member.key, *self.writer.value(member.value))
                by_state.setdefault(state.after(member, self.count_to, 0), []).append(symbols)
        return [(*comma, *self._one_of(ways), Ref(self._name(onward))) for onward, ways in by_state.items()]

    def _one_of(self, ways: list[Sequence]) -> Sequence:
        if len(ways) == 1:
            return ways[0]
        name = self.writer.fresh("m")
        self.writer.add(name, ways, "value")
        return (Ref(name),)

    def _step(self, member: Member, state: _State, comma: Sequence, position: int) -> Sequence:
        onward = state.after(member, self.count_to, position)
        return (*comma, *member.key, *self.writer.value(member.value), Ref(self._name(onward)))
