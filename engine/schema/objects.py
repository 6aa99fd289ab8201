"""Objects as rules: in schema order and closed (tight), or in any order. Guards ask what is there and how many members;
where nobody counts (parameters of calls), rules remember it.

Knows members, required keys, needs and counts. Right-recursive, brace inside. One shared rule holds the members that
change nothing, so that the states stay small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from engine.errors import LimitExceeded
from engine.schema import object_guards
from engine.schema.fewest import fewest_members
from engine.schema.grammar import Ref, Sequence
from engine.schema.guards import Enough, Guard, Members
from engine.schema.layout import Follow
from engine.schema.object_members import MemberKinds
from engine.schema.object_state import Member, ObjectState, Way
from engine.schema.origins import mark, name_repeats
from engine.schema.shape import ObjectShape
from engine.schema.term import FALSE, Term
from engine.schema.verdict import VerdictWord

if TYPE_CHECKING:
    from engine.schema.values import ValueWriter

WRITABLE = 10_000
"""Most members that an object may be required to have."""
STATE_LIMIT = 5_000
"""Rules of one object."""
OPTIONAL_RUN = 1_000
"""Optional keys in a row that schema order may skip. All of them may come next, and a mask looks at each: 60 ms for
300, and 3 s and 0.3 GB for 2,000."""
TRACKED = 7
"""Required keys whose presence rules remember in any order, where nobody counts: every subset of them is a state."""


class ObjectWriter:
    """Writes one object shape in one place."""

    def __init__(self, writer: ValueWriter, item: ObjectShape, follow: Follow, term: Term) -> None:
        self.writer = writer
        self.term = term
        self.follow: Follow = follow
        self.counted = writer.counted
        self.closed = writer.options.tight and (item.declared or writer.closes)
        in_order = self.closed and not writer.options.any_order
        many = not self.counted and len(item.required) > TRACKED
        self.ordered = writer.options.tight and (in_order or many)
        self.item = item = self._countable(item)
        self.named = [(key, term) for key, term in item.named if term != FALSE]
        self.free = [(part.keys, part.value) for part in item.others if part.explicit or not self.closed]
        self.count_to = 0 if self.counted else max(item.low, (item.high or -1) + 1, 0)
        self._names: dict[ObjectState, str] = {}
        self._pending: list[ObjectState] = []
        self.members = MemberKinds(writer, item, self.free)
        self._offers: dict[frozenset[int], tuple[list[Member], list[Member]]] = {}
        self.tracked = frozenset[str]() if self.counted else self._tracked()
        self._name_limits()

    @property
    def is_plain(self) -> bool:
        """Whether all that rules need to know is which shapes are still possible."""
        if self.ordered or self.item.needs or not self.counted:
            return False
        return not self.free or (len(self.free) == 1 and self.free[0][0].is_universal)

    @cached_property
    def parts(self) -> list[Sequence]:
        """Declared members as symbols."""
        return [(*self.writer.layout.key(key), *self.writer.value(term)) for key, term in self.named]

    def region(self, still_needed: int = 0) -> Members:
        """What the guards ask for, with room for members that are needed for what they are."""
        item = self.item
        names = item.required if self.ordered else frozenset(key for key, _ in self.named)
        return Members(names, item.required, item.low, None if item.high is None else item.high - still_needed)

    def write(self) -> Ref:
        """The rule for what follows the opening brace, closing brace included."""
        missing = frozenset() if self.ordered else self.tracked
        start = self._name(ObjectState(0, missing, frozenset(range(len(self.item.needs))), 0, True))
        while self._pending:
            state = self._pending.pop()
            self.writer.add_ways(self._names[state], self._alternatives(state), self.follow)
            if self.counted and (fewest := fewest_members(self, state)):
                self.writer.fewest[self._names[state]] = fewest
        return Ref(start)

    def _countable(self, item: ObjectShape) -> ObjectShape:
        """Without bounds on the members where counting them by rules would multiply the states too much."""
        if item.low > WRITABLE:
            raise LimitExceeded(f"minProperties {item.low} is over the limit of {WRITABLE} members", param="schema")
        if self.counted:
            return item
        counts = max(item.low, (item.high or -1) + 1)
        states = len(item.named) + 1 if self.ordered else 1 << min(len(item.required), TRACKED)
        if counts * states <= STATE_LIMIT // 3:
            return item
        self._mark(("minProperties", "maxProperties"), "checked", "too many members to count")
        return replace(item, low=0, high=None)

    def _name(self, state: ObjectState) -> str:
        if state not in self._names:
            if len(self._names) >= STATE_LIMIT:
                raise LimitExceeded(f"an object needs more than {STATE_LIMIT} rules", param="schema")
            self._names[state] = self.writer.fresh("o")
            self._pending.append(state)
        return self._names[state]

    def _alternatives(self, state: ObjectState) -> list[Way]:
        """The brace, or the next member and what follows it.

        A state leads back to itself directly and to no earlier one, so the compiler can remember its rule.
        """
        layout = self.writer.layout
        comma = () if state.first else layout.comma()
        ends = self._may_end(state) and (not self.ordered or self._ends_in_order(state))
        found: list[Way] = [(layout.closed("}"), self._end())] if ends else []
        if self.counted or self.item.high is None or state.count < self.item.high:
            found += self._in_order(state, comma) if self.ordered else self._in_any_order(state, comma)
        return found

    def _may_end(self, state: ObjectState) -> bool:
        return not state.missing and not state.needs and (self.counted or state.count >= self.item.low)

    def _end(self) -> Guard | None:
        if not self.counted or (self.ordered and not self.item.low and self.item.high is None):
            return None
        return object_guards.end((self.region(),))

    def _guard(self, member: Member, needs: frozenset[int]) -> Guard | None:
        """Before a member, behind which `needs` are left."""
        if not self.counted or (self.ordered and self.item.high is None):
            return None
        return object_guards.member((self.region(len(needs)),), member.name)

    def _ends_in_order(self, state: ObjectState) -> bool:
        """Nothing required is ahead, and no later position of the chain writes the same brace."""
        ahead = self.named[state.position :]
        return all(key not in self.item.required for key, _ in ahead) and not (
            ahead and self._worth(state.position + 1)
        )

    def _in_order(self, state: ObjectState, comma: Sequence) -> list[Way]:
        found: list[Way] = []
        if state.position < len(self.named):
            key, term = self.named[state.position]
            kinds = self.members.declared(key, term, state.needs)
            found.extend(self._step(member, state, comma, state.position + 1) for member in kinds)
            if key not in self.item.required:
                onward = ObjectState(state.position + 1, state.missing, state.needs, state.count, state.first)
                if self._worth(onward.position):
                    found.append(((Ref(self._name(onward)),), self._skipping(onward.position)))
            return found
        found.extend(
            self._step(member, state, comma, state.position) for member in self.members.undeclared(state.needs)
        )
        return found

    def _skipping(self, position: int) -> Guard | None:
        """Before leaving a member out: enough are left to come."""
        least = self.item.low - (len(self.named) - position)
        if not self.counted or self.free or least <= 0:
            return None
        return Enough(Members(frozenset(), frozenset(), least, None))

    def _worth(self, position: int) -> bool:
        """Whether anything but the brace can come."""
        return position < len(self.named) or bool(self.free)

    def _in_any_order(self, state: ObjectState, comma: Sequence) -> list[Way]:
        special, plain = self._offered(state.needs)
        gone = self.tracked - state.missing
        found = [self._step(member, state, comma, 0) for member in special if member.name not in gone]
        if plain:
            onward = state.after(None, self.count_to)
            guards = [self._guard(member, onward.needs) for member in plain]
            symbols = self.together(plain, guards)
            names = frozenset(member.name for member in plain if member.name is not None)
            regions = (self.region(len(onward.needs)),)
            any_of_them = object_guards.another(regions, names, any(member.name is None for member in plain))
            guard = guards[0] if len(plain) == 1 else any_of_them if self.counted else None
            found.append(((*comma, *symbols, Ref(self._name(onward))), guard))
        return found

    def _offered(self, needs: frozenset[int]) -> tuple[list[Member], list[Member]]:
        """Members that change what is missing or needed, and all others."""
        if needs not in self._offers:
            kinds = [member for key, term in self.named for member in self.members.declared(key, term, needs)]
            kinds += self.members.undeclared(needs)
            special = [member for member in kinds if member.meets or member.name in self.tracked]
            self._offers[needs] = special, [member for member in kinds if member not in special]
        return self._offers[needs]

    def _tracked(self) -> frozenset[str]:
        """The required keys that rules remember: all in schema order; in any order all of a few, or the first ones."""
        required = [key for key, _ in self.named if key in self.item.required]
        if not self.ordered and len(required) > TRACKED:
            self._mark(("required",), "checked", f"more than {TRACKED} required keys in any order")
            return frozenset(required[:TRACKED])
        return frozenset(required)

    def _name_limits(self) -> None:
        """Name what these rules cannot hold, or hold only in part."""
        if self.ordered and self.named:
            keywords = ("properties",) if self.item.declared else ("required",)
            self._mark(keywords, "narrowed", "keys are written in schema order")
        if self.closed and any(not part.explicit for part in self.item.others):
            self._mark(("properties", "patternProperties"), "narrowed", "undeclared keys are not written")
            run = max(len(keys) for keys in self._optional_runs())
            if run > OPTIONAL_RUN:
                raise LimitExceeded(
                    f"{run:,} optional keys in a row are over the limit of {OPTIONAL_RUN:,} in schema order; "
                    'conformance="spec" takes them in any order',
                    param="schema",
                )
        if self.counted:
            return
        if self.free or (not self.ordered and self.named):
            name_repeats(self.writer.expander)
        if (self.free or not self.ordered) and self.item.low > len(self.item.required):
            self._mark(("minProperties",), "checked", "a repeated key would count twice")

    def _optional_runs(self) -> Iterator[list[str]]:
        """The optional keys between required ones, in schema order."""
        run: list[str] = []
        for key, _ in self.named:
            if key in self.item.required:
                yield run
                run = []
            else:
                run.append(key)
        yield run

    def _mark(self, keywords: tuple[str, ...], word: VerdictWord, reason: str) -> None:
        mark(self.writer.expander, self.term, keywords, word, reason)

    def _step(self, member: Member, state: ObjectState, comma: Sequence, position: int) -> Way:
        onward = state.after(member.name, self.count_to, member.meets, position)
        symbols = (*comma, *member.key, *self.writer.value(member.value), Ref(self._name(onward)))
        return symbols, self._guard(member, onward.needs)

    def together(self, members: Iterable[Member], guards: Iterable[Guard | None]) -> Sequence:
        """One of these members, which lead to the same state, each with its guard where they are several."""
        sequences: list[Sequence] = [(*m.key, *self.writer.value(m.value)) for m in members]
        if len(sequences) == 1:
            return sequences[0]
        name = self.writer.fresh("m")
        self.writer.add_ways(name, list(zip(sequences, guards, strict=True)), "value")
        return (Ref(name),)
