"""Guards of object shapes that are written together: one of the shapes must allow what comes. Plain functions.

None where a guard would always hold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.schema.rules.guards import Another, AnyOf, Enough, Guard, Member, Members, Names

Regions = Collection[Members]


def end(regions: Regions) -> Guard | None:
    """Before the brace."""
    if any(region.may_always_end for region in regions):
        return None
    return _any([Enough(region) for region in regions])


def member(regions: Regions, name: str | None) -> Guard | None:
    """Before the member with this key; None: some undeclared key."""
    if name is None and any(region.high is None and region.order is None for region in regions):
        return None
    return _any([Member(region, name) for region in regions])


def another(regions: Regions, names: Names, free: bool) -> Guard | None:
    """Before one of several members."""
    if free and any(region.high is None and region.order is None for region in regions):
        return None
    return _any([Another(region, names, free) for region in regions])


def _any(guards: Sequence[Enough | Member | Another]) -> Guard:
    unique = tuple(dict.fromkeys(guards)) if len(guards) > 1 else guards
    return unique[0] if len(unique) == 1 else AnyOf(tuple(unique))
