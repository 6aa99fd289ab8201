"""Which object shapes lie in others, as far as that shows without opening their members.

Branches and complements multiply, and most of the products lie in one another: dropping them keeps schemas with
`oneOf`, `not` and conditions small. Knows shapes and terms.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import LimitExceeded
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import FALSE, TRUE, Terms

ALTERNATIVES = 128
"""Arrays or objects in one union; more is an exponential schema."""


def widest(terms: Terms, items: Iterable[ObjectShape | None]) -> tuple[ObjectShape, ...]:
    """The shapes that lie in no other one, each once. LimitExceeded over ALTERNATIVES. Quadratic in what is left."""
    found: dict[ObjectShape, None] = {}
    for item in items:
        if item is None or item in found:
            continue
        required = item.required
        if any(other.required <= required and covers(terms, other, item) for other in found):
            continue
        for other in [other for other in found if required <= other.required and covers(terms, item, other)]:
            del found[other]
        found[item] = None
        if len(found) > ALTERNATIVES:
            raise LimitExceeded(f"more than {ALTERNATIVES} alternatives in one place", param="schema")
    return tuple(found)


def _is_met(item: ObjectShape, key: str, other: str) -> bool:
    """Whether who has the key has the other one in any case."""
    return other in item.required or item.value(key) == FALSE


def covers(terms: Terms, wide: ObjectShape, narrow: ObjectShape) -> bool:
    """Every object of `narrow` is one of `wide`. Sound; sees no deeper than the terms. Linear in the members."""
    if not wide.required <= narrow.required or wide.low > max(narrow.low, len(narrow.required)):
        return False
    if wide.high is not None and (narrow.high is None or narrow.high > wide.high):
        return False
    if (wide.seen_names, wide.seen_keys, wide.vague) != (narrow.seen_names, narrow.seen_keys, narrow.vague):
        return False
    if wide.needs and not set(wide.needs) <= set(narrow.needs):
        return False
    if any(pair not in narrow.implied and not _is_met(narrow, *pair) for pair in wide.implied):
        return False
    free = wide.free_value
    if free != TRUE and wide.others != narrow.others:
        return False
    values = narrow.values
    for key, term in wide.named:
        inside = values.get(key)
        if inside != term and not terms.implies(narrow.other(key) if inside is None else inside, term):
            return False
    return free == TRUE or all(terms.implies(term, wide.other(k)) for k, term in narrow.named if k not in wide.values)
