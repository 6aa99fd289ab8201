"""Values with their containers: where rules of scalars, arrays and objects come together."""

from __future__ import annotations

from collections.abc import Iterator

from engine.schema.containers.arrays import ArrayWriter
from engine.schema.containers.object_union import write_objects
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.grammar import Sequence
from engine.schema.rules.layout import Follow
from engine.schema.sets.shape import Shape
from engine.schema.sets.term import Term


class JsonWriter(ValueWriter):
    """The rules of one grammar of JSON documents."""

    def containers(self, shape: Shape, follow: Follow, term: Term) -> Iterator[Sequence]:
        bracket, brace = self.layout.opened("["), self.layout.opened("{")
        yield from ((*bracket, ArrayWriter(self, array, follow, term).write()) for array in shape.arrays)
        yield from ((*brace, ref) for ref in write_objects(self, shape.objects, follow, term))
