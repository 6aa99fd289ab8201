"""How large a schema is once every reference is written out per use: what lowering and judging may have to do.

A few lines of references that double can stand for 2^40 subschemas; counting them takes one pass over the references as
`Schemas` resolves them, whatever their spelling. Lowers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import SchemaRefused
from engine.schema.reading.keywords import REFERENCES
from engine.schema.reading.reference import Location, Schemas

_IN_PLACE = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies", *REFERENCES}
)
"""Keywords whose schemas judge the same value."""
_NOT_APPLIED = frozenset({"$defs", "definitions"})
MOST = 10**9


@dataclass(frozen=True, slots=True)
class Expansion:
    """`subschemas` applied in all; `in_place`, the most that apply to any one value. Circles count once."""

    subschemas: int
    in_place: int


def expand(schemas: Schemas) -> Expansion:
    """Count what the root applies. Linear. SchemaRefused for a subschema that applies itself to the same value."""
    whole: dict[int, int] = {}
    here: dict[int, int] = {}
    most = 0
    for at in _innermost_first(schemas):
        size, same = 1, 1
        for keyword, below in _applied(schemas, at):
            size += whole.get(below.number, 0)
            if keyword in _IN_PLACE:
                same += here.get(below.number, 0)
        whole[at.number], here[at.number] = min(size, MOST), min(same, MOST)
        most = max(most, here[at.number])
    refuse_circles(schemas)
    return Expansion(whole[schemas.root.number], most)


def refuse_circles(schemas: Schemas) -> None:
    """SchemaRefused for a subschema that, by references and in-place applicators, applies itself to the same value."""
    done: set[int] = set()
    for start in _innermost_first(schemas):
        way: dict[int, Location] = {}
        stack = [(start, _in_place(schemas, start))]
        while stack and start.number not in done:
            at, below = stack[-1]
            way[at.number] = at
            onward = next((target for target in below if target.number not in done), None)
            if onward is None:
                stack.pop()
                del way[at.number]
                done.add(at.number)
            elif onward.number in way:
                raise _endless([way[number] for number in [*way][[*way].index(onward.number) :]])
            else:
                stack.append((onward, _in_place(schemas, onward)))


def _endless(circle: list[Location]) -> SchemaRefused:
    places = [at.pointer or "(root)" for at in (*circle, circle[0])]
    return SchemaRefused(
        f"a circle of references without a base: {' -> '.join(places)[:400]}; a value would be judged without end",
        param="schema",
        pointer=circle[0].pointer,
    )


def _in_place(schemas: Schemas, at: Location) -> Iterator[Location]:
    return (below for keyword, below in _applied(schemas, at) if keyword in _IN_PLACE)


def _applied(schemas: Schemas, at: Location) -> list[tuple[str, Location]]:
    children = [(path[0], child) for path, child in at.children.items() if path[0] not in _NOT_APPLIED]
    return [*children, *schemas.references(at)]


def _innermost_first(schemas: Schemas) -> list[Location]:
    """What the root applies, everything behind what it applies itself, as far as there are no circles."""
    found: dict[int, Location] = {}
    begun = {schemas.root.number}
    stack = [(schemas.root, iter(_applied(schemas, schemas.root)))]
    while stack:
        at, below = stack[-1]
        onward = next((target for _, target in below if target.number not in begun), None)
        if onward is None:
            stack.pop()
            found[at.number] = at
        else:
            begun.add(onward.number)
            stack.append((onward, iter(_applied(schemas, onward))))
    return list(found.values())
