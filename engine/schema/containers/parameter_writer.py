"""An object as the parameters of a call (`parameter_text`): the lowering gives the set of values, this says how members
and strings are written. What stands inside a value is JSON.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from engine.errors import SchemaRefused
from engine.schema.automata.automaton import Automaton
from engine.schema.containers.json_writer import JsonWriter
from engine.schema.containers.object_union import write_objects
from engine.schema.containers.value_writer import Options
from engine.schema.reading.parameter_text import CLOSE, END, KEY, OPEN
from engine.schema.regex.pattern import full_match
from engine.schema.rules.grammar import Chars, Sequence, Text, chars
from engine.schema.rules.layout import Follow, Layout
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.sets.shape import Shape
from engine.schema.sets.term import Term


class ParameterWriter(JsonWriter):
    """The rules of one object as parameters; what stands inside a value is JSON."""

    closes = True

    def __init__(self, evaluator: Evaluator, options: Options) -> None:
        super().__init__(evaluator, options)
        self.inner = JsonWriter(evaluator, options)
        self.inner.serial = self.serial
        self.inner.rules, self.inner.spelled, self.inner.layout.rules = self.rules, self.spelled, self.rules
        self.layout = _ParameterLayout(self.rules, options.flexible)

    def write(self, root: Term) -> str:
        """All rules of the parameters; returns the name of the rule that derives them."""
        name = self.fresh("v")
        objects = write_objects(self, self.evaluator.shape(root).objects, "end", root)
        self.add(name, [(ref,) for ref in objects], "end")
        self.write_pending()
        self.inner.write_pending()
        return name

    def value(self, term: Term, follow: Follow = "line") -> Sequence:  # noqa: ARG002 - a line break follows them all
        return (*super().value(term, "line"), Text(END))

    def alternatives(self, shape: Shape, follow: Follow, term: Term) -> list[Sequence]:
        """Strings as they are; where they may be anything, they hold every JSON text too."""
        for part in shape.strings:
            if part.content is not None:
                self.holds_content(part, term)
        if any(part.automaton.is_universal and not part.is_bounded for part in shape.strings):
            return [(self.spelled.text("text", _writable(), chars("\n")),)]
        found = self.inner.alternatives(replace(shape, strings=()), follow, term)
        for part in shape.strings:
            if not (texts := self.uncounted(part, term) & _writable()).is_empty:
                found.append((self.spelled.text("text", texts, chars("\n")),))
        return found

    def key(self, keys: Automaton, names: frozenset[str] = frozenset()) -> Sequence:
        keys = (keys & _keys()) - Automaton.of(names)
        if keys.is_empty:
            return self.nothing()
        return (Text(OPEN), self.spelled.text("text", keys, chars(">")), Text(">\n"))


class _ParameterLayout(Layout):
    """Parameters stand one after another; what may follow them is not known."""

    def follow(self, place: Follow) -> Chars | None:
        return chars("\n") if place == "line" else None

    def opened(self, bracket: str) -> Sequence:  # noqa: ARG002 - an object has no bracket here
        return ()

    def closed(self, bracket: str) -> Sequence:  # noqa: ARG002 - the signature of its kind
        return ()

    def comma(self) -> Sequence:
        return ()

    def key(self, name: str) -> Sequence:
        if not KEY.fullmatch(name):
            raise SchemaRefused(f"the name {name[:60]!r} cannot stand in {OPEN}...>", param="schema")
        return (Text(f"{OPEN}{name}>\n"),)


@cache
def _writable() -> Automaton:
    """Texts that do not end their parameter."""
    anything = Automaton.anything()
    return ~(anything + Automaton.literal(CLOSE) + anything)


@cache
def _keys() -> Automaton:
    return full_match(KEY.pattern)
