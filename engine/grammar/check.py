"""`check`: what a constraint's verdicts are and how small its shortest text is, without decoding anything."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.checks.languages import languages_of
from engine.errors import ConstraintError, SchemaInvalid
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.request import Constraint
from engine.schema.verdicts.verdict import Verdict

if TYPE_CHECKING:
    from engine.grammar.compiled_grammar import CompiledGrammar
    from engine.grammar.service import GrammarService


@dataclass(frozen=True, slots=True)
class Checking:
    """A check on its way. Cancelling `grammar` gives it up: what nobody else waits for is not compiled further."""

    constraint: Constraint
    grammar: Future[CompiledGrammar]
    checks: tuple[Verdict, ...] = ()
    """Verdicts of the caller's own checks."""

    def report(self) -> dict[str, Any]:
        """The contracts' check object, pointers starting at the constraint; blocks until it is known. A refused one has
        `supported` false and one `refused` verdict that says why. Raises SchemaInvalid for what is no constraint at
        all: wrong usage, no verdict.
        """
        found: dict[str, Any] = {"schema_hash": self.constraint.schema_hash, "supported": True, "verdicts": []}
        try:
            grammar = self.grammar.result()
            least = grammar.least_with(languages_of(self.constraint, grammar.limits))
        except SchemaInvalid:
            raise
        except ConstraintError as error:
            refusal = {"pointer": error.pointer or "", "keyword": error.param or "", "verdict": "refused"}
            found |= {"supported": False, "verdicts": [refusal | {"reason": error.message}]}
            return found | {"min_bytes": None, "min_tokens": None, "min_tokens_exact": False}
        whole = (
            [] if self.constraint.is_json else [Verdict("", self.constraint.kind, "enforced", "held by the grammar")]
        )
        return found | {
            "verdicts": [verdict.to_dict() for verdict in (*whole, *grammar.verdicts, *self.checks)],
            "min_bytes": least.nbytes,
            "min_tokens": len(least.tokens) or NEVER,
            "min_tokens_exact": grammar.min_tokens_exact and not self.checks,
        }


def check_constraint(service: GrammarService, constraint: Constraint) -> dict[str, Any]:
    """The contracts' check object: see `Checking.report`."""
    return Checking(constraint, service.submit(constraint)).report()
