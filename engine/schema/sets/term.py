"""Boolean combinations of subschemas, interned: what a value must satisfy, before anyone asks what that means.

A term is a small integer. Knows and, or, not, and how to simplify them; does not know what a subschema says.
The conjunctions that arise from one document are finitely many, which is what makes recursive schemas terminate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from engine.schema.reading.reference import Location, Scope
from engine.schema.sets.distinct import of_value

Term = int
Kind = Literal["true", "false", "node", "const", "all", "any", "not"]

TRUE: Term = 0
FALSE: Term = 1


class Terms:
    """The table of terms of one lowering. All operations are cheap; equal terms get equal numbers."""

    def __init__(self) -> None:
        self._keys: list[tuple[Kind, Any]] = [("true", None), ("false", None)]
        self._numbers: dict[tuple[Kind, Any], Term] = {}
        self.nodes: dict[Term, tuple[Location, Scope]] = {}
        self.constants: dict[Term, Any] = {}
        self._both: dict[tuple[Term, Term], Term] = {}
        self._implied: dict[tuple[Term, Term], bool] = {}

    def kind(self, term: Term) -> Kind:
        return self._keys[term][0]

    def parts(self, term: Term) -> tuple[Term, ...]:
        """Operands of an `all`, `any` or `not`, in ascending order."""
        kind, key = self._keys[term]
        return key if kind in ("all", "any", "not") else ()

    def node(self, location: Location, scope: Scope) -> Term:
        """A subschema as seen from a dynamic scope."""
        if location.schema is True or location.schema == {}:
            return TRUE
        if location.schema is False:
            return FALSE
        term = self._intern("node", (location.number, scope))
        self.nodes[term] = (location, scope)
        return term

    def const(self, value: Any) -> Term:
        """Exactly this JSON value; numbers compare as numbers."""
        term = self._intern("const", of_value(value))
        self.constants[term] = value
        return term

    def negate(self, term: Term) -> Term:
        kind = self.kind(term)
        if kind == "true":
            return FALSE
        if kind == "false":
            return TRUE
        if kind == "not":
            return self.parts(term)[0]
        if kind == "all":
            return self.any_of(self.negate(part) for part in self.parts(term))
        if kind == "any":
            return self.all_of(self.negate(part) for part in self.parts(term))
        return self._intern("not", (term,))

    def all_of(self, terms: Iterable[Term]) -> Term:
        return self._join(terms, "all", TRUE, FALSE)

    def both(self, first: Term, second: Term) -> Term:
        """`all_of` two, remembered."""
        if first == second or second == TRUE:
            return first
        if first == TRUE:
            return second
        found = self._both.get((first, second))
        if found is None:
            found = self._both[first, second] = self.all_of((first, second))
        return found

    def implies(self, narrow: Term, wide: Term) -> bool:
        """Whether every value of `narrow` is one of `wide`, by what they are made of. Remembered."""
        if narrow in (wide, FALSE) or wide == TRUE:
            return True
        found = self._implied.get((narrow, wide))
        if found is None:
            found = self._implied[narrow, wide] = self._is_within(narrow, wide)
        return found

    def _is_within(self, narrow: Term, wide: Term) -> bool:
        if self.kind(wide) == "all":
            return all(self.implies(narrow, part) for part in self.parts(wide))
        if self.kind(narrow) == "all" and wide in self.parts(narrow):
            return True
        return self.kind(wide) == "any" and narrow in self.parts(wide)

    def any_of(self, terms: Iterable[Term]) -> Term:
        return self._join(terms, "any", FALSE, TRUE)

    def _join(self, terms: Iterable[Term], kind: Kind, unit: Term, zero: Term) -> Term:
        found: set[Term] = set()
        for term in terms:
            found.update(self.parts(term) if self.kind(term) == kind else (term,))
        found.discard(unit)
        negated = {self.parts(term)[0] for term in found if self.kind(term) == "not"}
        if zero in found or found & negated:
            return zero
        if not found:
            return unit
        return found.pop() if len(found) == 1 else self._intern(kind, tuple(sorted(found)))

    def _intern(self, kind: Kind, key: Any) -> Term:
        term = self._numbers.setdefault((kind, key), len(self._keys))
        if term == len(self._keys):
            self._keys.append((kind, key))
        return term
