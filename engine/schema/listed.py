"""The values of a term, one by one, where they are few; some of them where they are many. Knows shapes.

For arrays whose items must differ: how many values there are decides which places can still be filled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, product
from typing import TYPE_CHECKING

from engine.schema.automaton import Automaton
from engine.schema.distinct import canonical
from engine.schema.fewest import words
from engine.schema.lengths import in_states
from engine.schema.numerals import numerals
from engine.schema.products import less
from engine.schema.shape import ArrayShape, ObjectShape, StringSet
from engine.schema.term import Term

if TYPE_CHECKING:
    from engine.schema.values import ValueWriter

FEW = 4096
"""Values up to which all are listed."""
DEEP = 4
"""Containers in one another up to which values are listed."""
SIZES = 16
"""Items and named members of containers of which values are listed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Different values as compact JSON; whether they are all."""

    texts: tuple[str, ...]
    whole: bool


_NONE = Listed((), False)


@dataclass(frozen=True, slots=True)
class Lister:
    """Lists all values of terms that have no more than FEW, and else about `some` of them."""

    writer: ValueWriter
    some: int
    known: dict[tuple[Term, int], Listed] = field(default_factory=dict)

    def values(self, term: Term, deep: int = DEEP) -> Listed:
        """Those of one term."""
        if (term, deep) not in self.known:
            self.known[term, deep] = self._values(term, deep)
        return self.known[term, deep]

    def _values(self, term: Term, deep: int) -> Listed:
        if self.writer.is_empty(term):
            return Listed((), True)
        shape = self.writer.shape(term)
        plain = ["null"] * shape.null + [json.dumps(flag) for flag in sorted(shape.booleans)]
        parts = [Listed(tuple(plain), True), *map(self._strings, shape.strings)]
        if shape.numbers:
            parts.append(self._words(numerals(shape.numbers, every_spelling=False), quoted=False))
        if deep:
            parts += [self._arrays(array, deep - 1) for array in shape.arrays]
            parts += [self._objects(item, deep - 1) for item in shape.objects]
        elif shape.arrays or shape.objects:
            parts.append(_NONE)
        return _first(chain.from_iterable(part.texts for part in parts), all(part.whole for part in parts))

    def _strings(self, part: StringSet) -> Listed:
        automaton, exact = in_states(part)
        return self._words(automaton, quoted=True) if exact else _NONE

    def _words(self, automaton: Automaton, *, quoted: bool) -> Listed:
        found = automaton.strings(FEW)
        texts = islice(words(automaton), self.some) if found is None else found
        written = (json.dumps(text, ensure_ascii=False) for text in texts) if quoted else texts
        return Listed(tuple(written), found is not None)

    def _arrays(self, array: ArrayShape, deep: int) -> Listed:
        if array.contains or array.low > SIZES:
            return _NONE
        most = SIZES if array.high is None else min(array.high, SIZES)
        whole, found = array.high == most, list[str]()
        for size in range(array.low, most + 1):
            places = [self.values(array.item(at), deep) for at in range(size)]
            whole = whole and all(place.whole for place in places)
            chosen = product(*(place.texts for place in places))
            different = (items for items in chosen if not array.unique or len(set(items)) == size)
            found.extend(f"[{','.join(items)}]" for items in islice(different, FEW + 1))
            if len(found) > (FEW if whole else self.some):
                break
        return _first(found, whole)

    def _objects(self, shape: ObjectShape, deep: int) -> Listed:
        named = [(key, term) for key, term in shape.named if not self.writer.is_empty(term)]
        if shape.needs or shape.required - dict(named).keys() or len(named) > SIZES:
            return _NONE
        places = [(key, self.values(term, deep)) for key, term in named]
        optional = [key for key, _ in named if key not in shape.required]
        choices = [
            [
                *([""] if key in optional else []),
                *(f"{json.dumps(key, ensure_ascii=False)}:{text}" for text in part.texts),
            ]
            for key, part in places
        ]
        tried = list(islice(product(*choices), 4 * FEW + 1))
        members = ([part for part in chosen if part] for chosen in tried)
        found = ["{" + ",".join(part) + "}" for part in members if _fits(shape, len(part))]
        free = next(self._undeclared(shape, deep), None)
        whole = free is None and all(part.whole for _, part in places) and len(tried) <= 4 * FEW
        return _first(chain(found, free or ()), whole)

    def _undeclared(self, shape: ObjectShape, deep: int) -> Iterator[list[str]]:
        """Objects of one member more, for each kind of undeclared key that there may be."""
        closed = self.writer.options.tight and shape.declared
        for part in shape.others:
            if self.writer.is_empty(part.value) or (closed and not part.explicit):
                continue
            keys = words(less(part.keys, Automaton.of(key for key, _ in shape.named if part.keys.accepts(key))))
            value = self.values(part.value, deep).texts[:1]
            able = bool(value) and not shape.required and _fits(shape, 1)
            yield [f"{{{json.dumps(key, ensure_ascii=False)}:{value[0]}}}" for key in islice(keys, able * self.some)]


def _fits(shape: ObjectShape, members: int) -> bool:
    return shape.low <= members and (shape.high is None or members <= shape.high)


def _first(texts: Iterable[str], whole: bool) -> Listed:
    """Each value once."""
    unique = {canonical(text.encode()): text for text in texts}
    return Listed(tuple(unique.values())[:FEW], whole and len(unique) <= FEW)
