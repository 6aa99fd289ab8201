"""Objects as rules: in schema order and closed (tight), or in any order with a rule per set of what is still missing.

Knows members, required keys, needs and counts. Right-recursive, brace inside. One shared rule holds the members that
change nothing, so that the states stay small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from engine.errors import LimitExceeded
from engine.schema.automaton import Automaton
from engine.schema.grammar import Ref, Sequence
from engine.schema.layout import Follow
from engine.schema.object_state import Member, ObjectState
from engine.schema.origins import mark, name_repeats
from engine.schema.products import less, meet
from engine.schema.shape import ObjectShape
from engine.schema.term import FALSE, TRUE, Term
from engine.schema.verdict import VerdictWord

if TYPE_CHECKING:
    from engine.schema.values import ValueWriter

WRITABLE = 10_000
"""Most members that an object may be required to have."""
STATE_LIMIT = 5_000
"""Rules of one object."""
TRACKED = 7
"""Required keys whose presence is followed in any order: every subset of them is a state."""
CROWDED, TRACKED_OF_MORE = 3, 4
"""Objects of a schema with more of them in which still TRACKED are followed, and how many in each further one."""


class ObjectWriter:
    """Writes one object shape in one place."""

    def __init__(self, writer: ValueWriter, item: ObjectShape, follow: Follow, term: Term) -> None:
        self.writer = writer
        self.term = term
        self.follow: Follow = follow
        self.closed = writer.options.tight and (item.declared or writer.closes)
        in_order = self.closed and not writer.options.any_order
        self.ordered = writer.options.tight and (in_order or len(item.required) > TRACKED)
        self.item = item = self._countable(item)
        self.named = [(key, term) for key, term in item.named if term != FALSE]
        self.free = self._free_keys()
        self.count_to = max(item.low, (item.high or -1) + 1, 0)
        self._names: dict[ObjectState, str] = {}
        self._pending: list[ObjectState] = []
        self._free: dict[frozenset[int], list[Member]] = {}
        self._offers: dict[frozenset[int], tuple[list[tuple[Member, Sequence]], Sequence]] = {}
        self.tracked = self._tracked()
        self._name_limits()

    def write(self) -> Ref:
        """The rule for what follows the opening brace, closing brace included."""
        missing = frozenset() if self.ordered else self.tracked
        start = self._name(ObjectState(0, missing, frozenset(range(len(self.item.needs))), 0, True))
        while self._pending:
            state = self._pending.pop()
            self.writer.add(self._names[state], self._alternatives(state), self.follow)
        return Ref(start)

    def _countable(self, item: ObjectShape) -> ObjectShape:
        """Without bounds on the members where counting them would multiply the states too much."""
        if item.low > WRITABLE:
            raise LimitExceeded(f"minProperties {item.low} is over the limit of {WRITABLE} members", param="schema")
        counts = max(item.low, (item.high or -1) + 1)
        states = len(item.named) + 1 if self.ordered else 1 << min(len(item.required), TRACKED)
        if counts * states <= STATE_LIMIT // 3:
            return item
        self._mark(("minProperties", "maxProperties"), "checked", "too many members to count")
        return replace(item, low=0, high=None)

    def _free_keys(self) -> list[tuple[Automaton, Term]]:
        """Kinds of undeclared keys that may be written; declared ones are still among them."""
        return [(part.keys, part.value) for part in self.item.others if part.explicit or not self.closed]

    def _free_key(self, keys: Automaton) -> Sequence | None:
        """Those of `keys` that are not declared; None when there are none."""
        names = [key for key, _ in self.item.named]
        if keys.is_universal:
            return self.writer.other_key(frozenset(names)) if names else self.writer.key(keys)
        left = keys - Automaton.of(name for name in names if keys.accepts(name))
        return None if left.is_empty else self.writer.key(left)

    def _name(self, state: ObjectState) -> str:
        if state not in self._names:
            if len(self._names) >= STATE_LIMIT:
                raise LimitExceeded(f"an object needs more than {STATE_LIMIT} rules", param="schema")
            self._names[state] = self.writer.fresh("o")
            self._pending.append(state)
        return self._names[state]

    def _alternatives(self, state: ObjectState) -> list[Sequence]:
        """The brace, or the next member and what follows it.

        A state leads back to itself directly and to no earlier one, so the compiler can remember its rule.
        """
        layout = self.writer.layout
        comma = () if state.first else layout.comma()
        ends = self.may_end(state) and (not self.ordered or self._ends_in_order(state))
        found: list[Sequence] = [layout.closed("}")] if ends else []
        if not self.is_full(state):
            found += self._in_order(state, comma) if self.ordered else self._in_any_order(state, comma)
        return found

    @property
    def states(self) -> int:
        """Rules that this shape takes, at most."""
        return (self.count_to + 1) << len(self.tracked)

    def may_end(self, state: ObjectState) -> bool:
        """Whether the brace can come."""
        return not state.missing and not state.needs and state.count >= self.item.low

    def is_full(self, state: ObjectState) -> bool:
        """Whether no member can come any more."""
        return self.item.high is not None and state.count >= self.item.high

    def _ends_in_order(self, state: ObjectState) -> bool:
        """Nothing required is ahead, and no later position of the chain writes the same brace."""
        ahead = self.named[state.position :]
        return all(key not in self.item.required for key, _ in ahead) and not (
            ahead and self._worth(state.position + 1)
        )

    def _in_order(self, state: ObjectState, comma: Sequence) -> list[Sequence]:
        found: list[Sequence] = []
        if state.position < len(self.named):
            key, term = self.named[state.position]
            kinds = self._kinds(key, term, state.needs)
            found.extend(self._step(member, state, comma, state.position + 1) for member in kinds)
            if key not in self.item.required:
                onward = ObjectState(state.position + 1, state.missing, state.needs, state.count, state.first)
                if self._worth(onward.position):
                    found.append((Ref(self._name(onward)),))
            return found
        free = self._free_members(state.needs)
        found.extend(self._step(member, state, comma, state.position) for member in free)
        return found

    def _worth(self, position: int) -> bool:
        """Whether anything but the brace can come."""
        return position < len(self.named) or bool(self.free)

    def _in_any_order(self, state: ObjectState, comma: Sequence) -> list[Sequence]:
        steps, plain = self._offered(state.needs)
        gone = self.tracked - state.missing
        found: list[Sequence] = [
            (*comma, *symbols, Ref(self._name(state.after(member.name, self.count_to, member.meets))))
            for member, symbols in steps
            if member.name not in gone
        ]
        if plain:
            found.append((*comma, *plain, Ref(self._name(state.after(None, self.count_to)))))
        return found

    def _offered(self, needs: frozenset[int]) -> tuple[list[tuple[Member, Sequence]], Sequence]:
        """Members that change what is missing or needed, and symbols for one of all others (none: there are none)."""
        if needs not in self._offers:
            kinds = [member for key, term in self.named for member in self._kinds(key, term, needs)]
            kinds += self._free_members(needs)
            plain = [member for member in kinds if not member.meets and member.name not in self.tracked]
            steps: list[tuple[Member, Sequence]] = []
            for member in kinds:
                if member.meets or member.name in self.tracked:
                    key = member.key if member.name is None else self.writer.declared_key(member.name)
                    steps.append((member, (*key, *self.writer.value(member.value))))
            self._offers[needs] = steps, self.together(plain)
        return self._offers[needs]

    def _tracked(self) -> frozenset[str]:
        """The required keys that are followed: all in schema order; in any order all of a few, or the first ones."""
        required = [key for key, _ in self.named if key in self.item.required]
        if self.ordered or len(required) <= TRACKED:
            return frozenset(required)
        self._mark(("required",), "checked", f"more than {TRACKED} required keys in any order")
        crowded = self.writer.crowded.setdefault(self.item, len(self.writer.crowded)) >= CROWDED
        return frozenset(required[: TRACKED_OF_MORE if crowded else TRACKED])

    def _name_limits(self) -> None:
        """Name what these rules cannot hold, or hold only in part."""
        if self.ordered and self.named:
            keywords = ("properties",) if self.item.declared else ("required",)
            self._mark(keywords, "narrowed", "keys are written in schema order")
        if self.closed and any(not part.explicit for part in self.item.others):
            self._mark(("properties", "patternProperties"), "narrowed", "undeclared keys are not written")
        if self.free or (not self.ordered and self.named):
            name_repeats(self.writer.expander, self.writer.options.tight)
        if (self.free or not self.ordered) and self.item.low > len(self.item.required):
            self._mark(("minProperties",), "checked", "a repeated key would count twice")

    def _mark(self, keywords: tuple[str, ...], word: VerdictWord, reason: str) -> None:
        mark(self.writer.expander, self.term, keywords, word, reason)

    def _kinds(self, key: str, term: Term, needs: frozenset[int]) -> list[Member]:
        """The member as it is, and as one that meets needs."""
        able = [index for index in sorted(needs) if self.item.needs[index].keys.accepts(key)]
        written = self.writer.layout.key(key)
        return self._meeting(written, term, key, able) if able else [Member(written, term, key)]

    def _meeting(self, key: Sequence, term: Term, name: str | None, able: list[int]) -> list[Member]:
        """One member for every set of needs it can meet; those that ask nothing of the value are always met."""
        values = {index: self.item.needs[index].value for index in able}
        surely = frozenset(index for index in able if values[index] == TRUE)
        perhaps = [index for index in able if index not in surely]
        found: list[Member] = []
        for size in range(len(perhaps) + 1):
            for chosen in combinations(perhaps, size):
                both = self.writer.expander.terms.all_of((term, *(values[index] for index in chosen)))
                found.append(Member(key, both, name, surely | frozenset(chosen)))
        return [member for member in found if member.value != FALSE]

    def _free_members(self, needs: frozenset[int]) -> list[Member]:
        if needs not in self._free:
            self._free[needs] = self._undeclared(needs)
        return self._free[needs]

    def _undeclared(self, needs: frozenset[int]) -> list[Member]:
        """Members with undeclared keys, the keys cut by what the needs ask for."""
        regions: list[tuple[Automaton, Term, list[int]]] = [(keys, value, []) for keys, value in self.free]
        for index in sorted(needs):
            asked = self.item.needs[index].keys
            cut = [(meet(keys, asked), value, [*able, index]) for keys, value, able in regions]
            if not asked.is_universal:
                cut.extend((less(keys, asked), value, able) for keys, value, able in regions)
            regions = [part for part in cut if not part[0].is_empty]
        found: list[Member] = []
        for keys, value, able in regions:
            if (key := self._free_key(keys)) is not None:
                found.extend(self._meeting(key, value, None, able))
        return found

    def _step(self, member: Member, state: ObjectState, comma: Sequence, position: int) -> Sequence:
        onward = state.after(member.name, self.count_to, member.meets, position)
        return (*comma, *member.key, *self.writer.value(member.value), Ref(self._name(onward)))

    def together(self, members: Iterable[Member]) -> Sequence:
        """One of these members, which lead to the same state; nothing when there are none."""
        sequences: list[Sequence] = [(*m.key, *self.writer.value(m.value)) for m in members]
        if len(sequences) < 2:
            return sequences[0] if sequences else ()
        name = self.writer.fresh("m")
        self.writer.add(name, sequences, "value")
        return (Ref(name),)
