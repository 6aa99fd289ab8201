"""The values of a term, one by one, where they are few; some of them where they are many. Knows shapes.

For arrays whose items must differ: how many values there are decides which places can still be filled. They are
counted first, which spells none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice, permutations, product
from math import prod
from typing import Protocol

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers.intervals import Interval, Numbers
from engine.schema.numbers.numerals import numerals
from engine.schema.sets.distinct import canonical
from engine.schema.sets.lengths import in_states
from engine.schema.sets.shape import ArrayShape, ObjectShape, Shape, StringSet
from engine.schema.sets.term import Term
from engine.schema.sets.words import ascending

FEW = 4096
"""Values up to which all are listed."""
DEEP = 4
"""Containers in one another up to which values are listed."""
SIZES = 16
"""Items and named members of containers of which values are listed."""
TRIED = 4 * FEW
"""Ways to put values together that are tried for one container."""

Texts = Iterable[tuple[str, str]]
"""Values as `canonical` writes them, and as compact JSON."""
_Member = tuple[str, str, str]
"""A key, and the member in both forms."""


@dataclass(frozen=True, slots=True)
class Listed:
    """How many values there are at most (None: many, or nobody knows), and up to so many of them."""

    count: int | None
    spell: Callable[[int], Texts]


_MANY = Listed(None, lambda _: ())


class Meanings(Protocol):
    """What terms allow as they are written: a writer of values."""

    @property
    def tight(self) -> bool: ...

    def is_empty(self, term: Term) -> bool: ...

    def shape(self, term: Term) -> Shape: ...


@dataclass(frozen=True, slots=True)
class Lister:
    """The values of terms as one writer writes them."""

    writer: Meanings
    known: dict[tuple[Term, int], Listed] = field(default_factory=dict)

    def values(self, term: Term, some: int) -> tuple[dict[str, str], bool]:
        """All values of a term that has no more than FEW, else about `some`: compact JSON by its canonical text. And
        whether they are all."""
        listed = self._values(term, DEEP)
        whole = listed.count is not None and listed.count <= FEW
        most = FEW if whole else some
        return dict(listed.spell(most) if most else ()), whole

    def _values(self, term: Term, deep: int) -> Listed:
        if (term, deep) not in self.known:
            self.known[term, deep] = self._either(term, deep)
        return self.known[term, deep]

    def _either(self, term: Term, deep: int) -> Listed:
        if self.writer.is_empty(term):
            return Listed(0, lambda _: ())
        shape = self.writer.shape(term)
        plain = ["null"] * shape.null + [json.dumps(flag) for flag in sorted(shape.booleans)]
        parts = [Listed(len(plain), lambda _: zip(plain, plain, strict=True)), *map(_strings, shape.strings)]
        parts += [_numbers(shape.numbers)] if shape.numbers else []
        if deep:
            parts += [self._arrays(array, deep - 1) for array in shape.arrays]
            parts += [self._objects(item, deep - 1) for item in shape.objects]
        elif shape.arrays or shape.objects:
            parts.append(_MANY)

        @cache
        def spell(limit: int) -> Texts:
            found: dict[str, str] = {}
            for value, text in chain.from_iterable(part.spell(limit) for part in parts):
                if len(found) >= limit:
                    break
                found.setdefault(value, text)
            return tuple(found.items())

        return Listed(_combined(sum, [part.count for part in parts]), spell)

    def _arrays(self, array: ArrayShape, deep: int) -> Listed:
        if array.contains or array.low > SIZES:
            return _MANY
        sizes = range(array.low, 1 + (SIZES if array.high is None else min(array.high, SIZES)))
        places = [self._values(array.item(at), deep) for at in range(sizes.stop - 1)]
        counts = [place.count for place in places]
        if array.unique and not array.prefix:
            counts = [None if count is None else max(count - at, 0) for at, count in enumerate(counts)]
        whole = array.high is not None and array.high < sizes.stop

        def spell(limit: int) -> Texts:
            for size in sizes:
                alike = size > 1 and array.unique and not array.prefix
                texts = [place.spell(limit) for place in places[:size]]
                for items in permutations(texts[0], size) if alike else islice(product(*texts), TRIED):
                    if not array.unique or len({value for value, _ in items}) == size:
                        value, text = (",".join([item[form] for item in items]) for form in (0, 1))
                        yield f"[{value}]", f"[{text}]"

        return Listed(_combined(sum, [_combined(prod, counts[:size]) for size in sizes]) if whole else None, spell)

    def _objects(self, shape: ObjectShape, deep: int) -> Listed:
        named = [(key, term) for key, term in shape.named if not self.writer.is_empty(term)]
        if shape.needs or shape.required - dict(named).keys() or len(named) > SIZES:
            return _MANY
        closed = self.writer.tight and shape.declared
        others = [part for part in shape.others if part.explicit or not closed]
        others = [part for part in others if not self.writer.is_empty(part.value)]
        optional = dict(named).keys() - shape.required

        def counts() -> Iterator[int | None]:
            for key, term in named:
                count = self._values(term, deep).count
                yield None if count is None else count + (key in optional)

        def spell(limit: int) -> Texts:
            choices = [
                [
                    *([None] if key in optional else []),
                    *(_member(key, value) for value in self._values(term, deep).spell(limit)),
                ]
                for key, term in named
            ]
            members = ([part for part in chosen if part is not None] for chosen in islice(product(*choices), TRIED))
            yield from (_object(parts) for parts in members if _fits(shape, [key for key, *_ in parts]))
            for part in others if not shape.required and _fits(shape, [""]) else ():
                declared = Automaton.of(key for key, _ in shape.named if part.keys.accepts(key))
                for value in self._values(part.value, deep).spell(1):
                    yield from (_object([_member(key, value)]) for key in ascending(part.keys - declared))

        return Listed(None if others else _combined(prod, counts()), spell)


def _combined(how: Callable[[Iterable[int]], int], counts: Iterable[int | None]) -> int | None:
    """Numbers of values added up or multiplied; None where one is not known, or the result is above FEW."""
    known: list[int] = []
    for count in counts:
        if count is None:
            return None
        known.append(count)
    found = how(known)
    return found if found <= FEW else None


def _strings(part: StringSet) -> Listed:
    automaton, exact = in_states(part)
    if not exact:
        return _MANY
    return _words(automaton, lambda text: (json.dumps(text), json.dumps(text, ensure_ascii=False)))


def _numbers(numbers: Numbers) -> Listed:
    count = _combined(sum, [_size(interval) for interval in numbers])
    return Listed(count, lambda limit: _words(numerals(numbers, every_spelling=False), _number).spell(limit))


def _size(interval: Interval) -> int | None:
    """How many numbers are in an interval at most; None: any number."""
    if interval.single is not None:
        return 1
    if interval.step is None or interval.low is None or interval.high is None:
        return None
    return int((interval.high - interval.low) / interval.step) + 1


def _number(text: str) -> tuple[str, str]:
    return str(canonical(text.encode())), text


def _words(automaton: Automaton, written: Callable[[str], tuple[str, str]]) -> Listed:
    count = automaton.count()
    few = count is not None and count <= FEW
    return Listed(
        count if few else None,
        lambda limit: map(written, automaton.strings(FEW) or () if few else islice(ascending(automaton), limit)),
    )


def _member(key: str, value: tuple[str, str]) -> _Member:
    return key, f"{json.dumps(key)}:{value[0]}", f"{json.dumps(key, ensure_ascii=False)}:{value[1]}"


def _object(members: list[_Member]) -> tuple[str, str]:
    return (
        f"{{{','.join([value for _, value, _ in sorted(members)])}}}",
        f"{{{','.join([text for *_, text in members])}}}",
    )


def _fits(shape: ObjectShape, keys: list[str]) -> bool:
    """Whether objects may have these keys and no other ones, as far as they are counted or imply others."""
    held = all(key not in keys or other in keys for key, other in shape.implied)
    return held and shape.low <= len(keys) and (shape.high is None or len(keys) <= shape.high)
