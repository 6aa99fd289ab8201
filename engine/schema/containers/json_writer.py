"""Values with their containers: where rules of scalars, arrays and objects come together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.errors import SchemaRefused
from engine.schema.containers.arrays import ArrayWriter
from engine.schema.containers.documents import Document, write_document
from engine.schema.containers.object_union import write_objects
from engine.schema.containers.value_writer import Options, ValueWriter
from engine.schema.rules.grammar import Ref, Sequence
from engine.schema.rules.guards import Length
from engine.schema.rules.layout import Follow
from engine.schema.semantics.contents import content_term
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.occurrences import locations
from engine.schema.sets.shape import Shape
from engine.schema.sets.term import Term

MOST_DEPTH = 4
"""Strings in one another that hold documents."""


class JsonWriter(ValueWriter):
    """The rules of one grammar of JSON documents."""

    def __init__(self, evaluator: Evaluator, options: Options) -> None:
        super().__init__(evaluator, options)
        self.contents: dict[Term, Document | None] = {}
        """What strings hold."""

    def content(self, content: Term, length: Length, follow: Follow, term: Term) -> Sequence:
        if content not in self.contents:
            self.contents[content] = self._content(content, term)
        document = self.contents[content]
        if document is None or (length.high is not None and length.high < len(document.shortest)):
            return self.nothing()
        return (self._string_of(document, length, follow),)

    def _string_of(self, document: Document, length: Length, follow: Follow) -> Ref:
        ahead = self.layout.follow(follow)
        return self.spelled.content(document.name, document.rules, document.shortest, length, ahead)

    def _content(self, content: Term, term: Term) -> Document | None:
        options = replace(self.options, depth=self.options.depth + 1)
        if options.depth > MOST_DEPTH:
            places = (at for at in locations(self.evaluator, term) if content_term(self.evaluator, at) is not None)
            at = next(places, self.evaluator.schemas.root)
            message = f"a document in a string more than {MOST_DEPTH} levels deep: its backslashes double with each"
            raise SchemaRefused(message, param="schema", pointer=f"{at.pointer}/contentSchema")
        return write_document(lambda: JsonWriter(self.evaluator, options), content)

    def containers(self, shape: Shape, follow: Follow, term: Term) -> Iterator[Sequence]:
        bracket, brace = self.layout.opened("["), self.layout.opened("{")
        yield from ((*bracket, ArrayWriter(self, array, follow, term).write()) for array in shape.arrays)
        yield from ((*brace, ref) for ref in write_objects(self, shape.objects, follow, term))
