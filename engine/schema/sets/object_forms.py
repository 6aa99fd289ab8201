"""Object shapes as they are written: keys of a finite set are named, and what some member must be is divided into cases
where that decides how many members there can be.

So a member that is still asked for has always a key left that the object does not have. Knows shapes and terms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product

from engine.schema.automata.automaton import Automaton
from engine.schema.sets.algebra import IsEmpty, closed, settle_object
from engine.schema.sets.shape import Need, ObjectShape
from engine.schema.sets.term import FALSE, TRUE, Terms

NAMED = 512
"""Keys of a finite set that are named one by one. Of more, no document is expected to use up all."""
CASES = 32
"""Cases into which one object is divided by what its members must be."""
DIVIDED = 6
"""Keys that imply others, by which one object is divided where nobody counts."""

Refuse = Callable[[tuple[str, ...], str], None]
"""Names keywords that are not held, with the reason."""


def written_forms(terms: Terms, is_empty: IsEmpty, item: ObjectShape, refuse: Refuse) -> list[ObjectShape]:
    """Shapes that together say what this one says, none where it says nothing. What is too much is named."""
    named = _with_names(is_empty, item)
    if named is None:
        return []
    bounded = named.low > 0 and named.high is not None  # else one key more may always come with all that it implies
    parts = divided(is_empty, named, _mutual(named) if bounded else (), refuse)
    return [form for part in parts for form in _cases(terms, is_empty, part, refuse)]


def divided(is_empty: IsEmpty, item: ObjectShape, keys: Sequence[str], refuse: Refuse) -> list[ObjectShape]:
    """By each of these keys, which imply others, into objects without it and those with all that it implies."""
    dropped = keys[DIVIDED:]
    if dropped:
        refuse(("dependentRequired", "dependencies"), f"more than {DIVIDED} keys imply others")
        item = replace(item, implied=frozenset(pair for pair in item.implied if pair[0] not in dropped))
    parts = [item]
    for key in keys[:DIVIDED]:
        without = [replace(part, named=tuple({**part.values, key: FALSE}.items())) for part in parts]
        with_it = [replace(part, required=part.required | {key}) for part in parts]
        parts = [part for shape in (*without, *with_it) if (part := settle_object(is_empty, shape)) is not None]
    return parts


def _mutual(item: ObjectShape) -> list[str]:
    """The keys that are there only with others which are there only with them: no objects of every size have these."""
    implied = closed(item.implied)
    return [key for key, others in implied.items() if any(key in implied.get(other, ()) for other in others)]


def _cases(terms: Terms, is_empty: IsEmpty, named: ObjectShape, refuse: Refuse) -> list[ObjectShape]:
    """Divided by what some members must be, where that decides how many there can be."""
    if not named.needs:
        return [named]
    ways = [list(_ways_to_meet(terms, is_empty, named, need)) for need in named.needs]
    total = 1
    for way in ways:
        total *= len(way)
    if total > CASES:
        refuse(("not", "oneOf", "if", "contains"), "too many members could be what is asked for")
        return [replace(named, needs=())]
    found: dict[ObjectShape, None] = {}
    for chosen in product(*ways):
        shape: ObjectShape | None = replace(named, needs=())
        for case in chosen:
            shape = shape and case(shape)
        shape = shape and settle_object(is_empty, shape)
        if shape is not None and (shape := _countable(shape, refuse)) is not None:
            found[shape] = None
    return list(found)


def _with_names(is_empty: IsEmpty, item: ObjectShape) -> ObjectShape | None:
    """The same with every undeclared key named that belongs to a finite set, and without members that cannot be."""
    named = {key: FALSE if is_empty(value) else value for key, value in item.named}
    others = []
    for part in item.others:
        if is_empty(part.value):
            continue
        words = _few(part.keys, named)
        if words is None:
            others.append(part)
        for need in item.needs if words is None else ():
            named.update(dict.fromkeys(_few(part.keys & need.keys, named) or (), part.value))
        named.update(dict.fromkeys(words or (), part.value))
    if (pairs := tuple(named.items())) == item.named and len(others) == len(item.others):
        return item
    return settle_object(is_empty, replace(item, named=pairs, others=tuple(others)))


def _few(keys: Automaton, named: Collection[str]) -> list[str] | None:
    """Those of `keys` that are not named yet, if they are not many."""
    if keys.is_universal:
        return None
    return (keys - Automaton.of(key for key in named if keys.accepts(key))).strings(NAMED)


Case = Callable[[ObjectShape], ObjectShape | None]


def _ways_to_meet(terms: Terms, is_empty: IsEmpty, item: ObjectShape, need: Need) -> Iterator[Case]:
    """The need as it is where any number of members fit and it has always a key left; else each key by itself."""
    able = [key for key, value in item.named if need.keys.accepts(key) and not is_empty(terms.both(value, need.value))]
    names = Automaton.of(key for key, _ in item.named)
    free = any(
        not ((part.keys & need.keys) - names).is_empty and not is_empty(terms.both(part.value, need.value))
        for part in item.others
    )
    if item.high is None and (free or (need.value == TRUE and able)):
        yield lambda shape: replace(shape, needs=(*shape.needs, need))
        return
    for key in able:
        yield lambda shape, key=key: _with_member(terms, shape, key, need)  # type: ignore[misc]  # bound at once
    if free:
        yield lambda shape: replace(shape, needs=(*shape.needs, Need(need.keys - names, need.value)))


def _with_member(terms: Terms, shape: ObjectShape, key: str, need: Need) -> ObjectShape:
    """The key is there, with a value that is asked for."""
    named = tuple((name, terms.both(value, need.value) if name == key else value) for name, value in shape.named)
    return replace(shape, named=named, required=shape.required | {key})


def _countable(shape: ObjectShape, refuse: Refuse) -> ObjectShape | None:
    """With room for what its members must be, None without; one member could be several of it."""
    if shape.high is None or len(shape.needs) < 2:
        room = shape.high is None or len(shape.required) + len(shape.needs) <= shape.high
        return shape if room else None
    refuse(("maxProperties",), "one member could be several that are asked for")
    return replace(shape, high=None)
