"""Shapes become grammar rules. One rule per term and place; what a rule needs of its children is asked by name.

Knows JSON values and where they stand, and how scalars are written: they are automata. Containers are its heir's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from itertools import count
from weakref import proxy

from engine.errors import LimitExceeded
from engine.schema.automata.automaton import Automaton
from engine.schema.containers.listed import Lister
from engine.schema.numbers.intervals import ALL_NUMBERS
from engine.schema.reading.parameter_text import Style
from engine.schema.rules.grammar import EITHER, UNDECLARED, Ref, Rule, Sequence, Text, Way
from engine.schema.rules.guards import Length, Matching
from engine.schema.rules.layout import Follow, Layout
from engine.schema.rules.shortest import Fewest
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.occurrences import mark, mark_steps, mark_untyped
from engine.schema.sets.lengths import FOLDED_LENGTH, in_states, is_countable
from engine.schema.sets.shape import ANY_STRING, ArrayShape, ObjectShape, Shape, StringSet
from engine.schema.sets.term import Term
from engine.schema.strings.terminals import Kind, Spelled


@dataclass(slots=True)
class Options:
    """How to write: `tight` closes and orders objects, `bold` (see Evaluator) is off on the second attempt."""

    tight: bool
    flexible: bool
    rule_limit: int
    any_order: bool = False
    """Tight, but keys in any order."""
    style: Style = "json"
    depth: int = 0
    """Strings around the document."""


class ValueWriter(ABC):
    """The rules of one grammar in the making."""

    closes = False
    """Tight closes objects that declare no properties, too."""

    def __init__(self, evaluator: Evaluator, options: Options) -> None:
        self.evaluator = evaluator
        self.options = options
        self.rules: dict[str, Rule] = {}
        self.layout = Layout(self.rules, options.flexible)
        self.spelled = Spelled(options.rule_limit)
        self.counted = options.style == "json"
        """Whether what is written is followed and counted, so that rules can have guards."""
        self.lister = Lister(proxy(self))
        self.impossible: frozenset[Term] = frozenset()
        """Terms that are known to derive nothing."""
        self.whole: frozenset[Term] = frozenset()
        """Terms that derive nothing but values of types that no keyword speaks of."""
        self.narrowed: set[Term] = set()
        """Those of which such values are left out."""
        self.objects: dict[tuple[tuple[ObjectShape, ...], Follow], list[Ref]] = {}
        """What `object_union` has written."""
        self.fewest: dict[str, tuple[Fewest, ...]] = {}
        """What rules must write to obey their guards."""
        self._values: dict[tuple[Term, Follow], str] = {}
        self._pending: list[tuple[str, Term, Follow]] = []
        self.serial = count(1)

    def write(self, root: Term) -> str:
        """All rules of a document; returns the name of the rule that derives it. Iterative, so depth costs nothing."""
        name = self._name(root, "end")
        self.write_pending()
        return name

    def write_pending(self) -> None:
        """The rules of all values that have been asked for by now, and what they ask for."""
        while self._pending:
            self._write_value(*self._pending.pop())
        self.lister.known.clear()  # what it holds refers to itself, and is freed without a collection so

    def found_impossible(self, productive: Container[str]) -> frozenset[Term]:
        """Terms whose rules turned out to derive nothing."""
        return frozenset([term for (term, _), name in self._values.items() if name not in productive])

    @property
    def tight(self) -> bool:
        return self.options.tight

    def is_empty(self, term: Term) -> bool:
        """No value of the term can be written, as far as anybody knows."""
        return term in self.impossible or self.evaluator.is_empty(term)

    def value(self, term: Term, follow: Follow = "value") -> Sequence:
        """Symbols that derive the values of a term."""
        return (Ref(self._name(term, follow)),)

    def fresh(self, kind: str) -> str:
        """A new rule name; names by content are given at the end."""
        return f"{kind}{next(self.serial)}"

    def add(self, name: str, alternatives: list[Sequence], follow: Follow) -> None:
        """One rule; raises LimitExceeded over the rule limit."""
        self.add_ways(name, [(sequence, None) for sequence in alternatives], follow)

    def add_ways(self, name: str, ways: list[Way], follow: Follow) -> None:
        """The same, each alternative with its guard."""
        if len(self.rules) + self.spelled.size >= self.options.rule_limit:
            raise LimitExceeded(f"the grammar has more than {self.options.rule_limit} rules", param="schema")
        guards = tuple([guard for _, guard in ways])
        guarded = guards if any(guards) else ()
        sequences = tuple([sequence for sequence, _ in ways])
        self.rules[name] = Rule(name, sequences, self.layout.follow(follow), guards=guarded)

    def _name(self, term: Term, follow: Follow) -> str:
        key = (term, follow)
        if key not in self._values:
            self._values[key] = self.fresh("v")
            self._pending.append((self._values[key], term, follow))
        return self._values[key]

    def _write_value(self, name: str, term: Term, follow: Follow) -> None:
        self.add(name, self.alternatives(self.shape(term), follow, term), follow)

    def shape(self, term: Term) -> Shape:
        """What a term allows, as it is written."""
        shape = self.evaluator.shape(term)
        described = only_described(shape) if self.options.tight and term not in self.whole else shape
        if described is shape:
            return shape
        reason = "values of types that no keyword speaks of are not written"
        if not mark_untyped(self.evaluator, term, "narrowed", reason):
            return shape  # what is no constant, or has not a type: nobody left one out
        self.narrowed.add(term)
        return described

    def alternatives(self, shape: Shape, follow: Follow, term: Term) -> list[Sequence]:
        """Symbols for each kind of value in a shape, which is the term's or a part of it."""
        alternatives: list[Sequence] = [(Text("null"),)] if shape.null else []
        alternatives.extend((Text("true" if flag else "false"),) for flag in sorted(shape.booleans, reverse=True))
        alternatives.extend(self._scalars(shape, follow, term))
        alternatives.extend(self.containers(shape, follow, term))
        return alternatives

    @abstractmethod
    def containers(self, shape: Shape, follow: Follow, term: Term) -> Iterable[Sequence]:
        """Symbols for each kind of array and object in a shape."""

    def _scalars(self, shape: Shape, follow: Follow, term: Term) -> list[Sequence]:
        ahead = self.layout.follow(follow)
        found: list[Sequence] = []
        if any(interval.holes for interval in shape.numbers):
            mark_steps(self.evaluator, term, "narrowed", "what is no multiple is written in a bounded number of digits")
        every = not self.options.tight
        found.extend((ref,) for ref in self.spelled.numbers(shape.numbers, ahead, every_spelling=every))
        for part in shape.strings:
            if part.content is not None and self.holds_content(part, term):
                found.append(self.content(part.content, Length(part.low, part.high), follow, term))
                continue
            automaton, length = self._length(part, term) if part.is_bounded else (part.automaton, None)
            kind: Kind = "every" if automaton.alphabet.size == 1 else "string"
            found.append((self.spelled.text(kind, automaton, ahead, length),))
        return found

    def holds_content(self, part: StringSet, term: Term) -> bool:
        """Whether the document in the string is written as one, and not the string's own characters."""
        if not self.counted:
            reason = "in parameters of calls"
        elif not (part.automaton.is_universal and part.pattern is None):
            reason = "beside another keyword that says what is in the string"
        else:
            return True
        mark(self.evaluator, term, ("contentSchema",), "checked", reason)
        return False

    @abstractmethod
    def content(self, content: Term, length: Length, follow: Follow, term: Term) -> Sequence:
        """Symbols for strings of this length that hold documents of `content`; `term` is the string's own."""

    def _length(self, part: StringSet, term: Term) -> tuple[Automaton, Length | Matching | None]:
        """The strings with what is counted of them."""
        if not self.counted:
            return self.uncounted(part, term), None
        if part.pattern is not None and self.options.depth:  # each mask would follow every token through each level
            return self.uncounted(part, term), None
        if part.pattern is not None:
            return part.automaton, Matching(part.pattern, part.low, part.high)
        if is_countable(part):
            return part.automaton, Length(part.low, part.high)
        reason = "which lengths the pattern allows changes from word to word"
        mark(self.evaluator, term, ("minLength",), "checked", reason)
        return part.automaton, None if part.high is None else Length(0, part.high)

    def uncounted(self, part: StringSet, term: Term) -> Automaton:
        """The strings where nobody counts."""
        automaton, whole = in_states(part)
        if not whole:
            keywords = ("minLength", "maxLength") if part.pattern is None else ("pattern", "minLength", "maxLength")
            mark(self.evaluator, term, keywords, "checked", f"over {FOLDED_LENGTH}, or too large, where nobody counts")
        return automaton

    def key(self, keys: Automaton, names: frozenset[str] = frozenset()) -> Sequence:
        """Undeclared keys in `keys`, with their colon: all of them but `names`."""
        names = frozenset(filter(keys.accepts, names))
        if not self.counted:
            ref = self.spelled.text("string", keys - Automaton.of(names), self.layout.after_key)
            return (ref, *self.layout.colon())
        if self.options.depth:  # nobody reads marks within strings
            keys, names = keys - Automaton.of(names), frozenset()
            if keys.is_empty:
                return self.nothing()
        mark = Ref(UNDECLARED if names else EITHER)
        return (self.spelled.key(keys, self.layout.after_key, names), mark, *self.layout.colon())

    def nothing(self) -> Sequence:
        """A rule that derives nothing."""
        name = self.fresh("k")
        self.add(name, [], "end")
        return (Ref(name),)


def only_described(shape: Shape) -> Shape:
    """Tight: where no type is said, the types that the other keywords speak of, as a person would read the schema."""
    if not (shape.null and len(shape.booleans) == 2 and shape.numbers and shape.strings):
        return shape
    if not (shape.arrays and shape.objects):
        return shape
    described = replace(
        shape,
        null=False,
        booleans=frozenset(),
        numbers=() if shape.numbers == ALL_NUMBERS else shape.numbers,
        strings=() if shape.strings == ANY_STRING else shape.strings,
        arrays=() if shape.arrays == (ArrayShape(),) else shape.arrays,
        objects=() if shape.objects == (ObjectShape(),) else shape.objects,
    )
    return shape if described.is_empty else described
