"""`check`: what a constraint's verdicts are and how small its shortest document is, without decoding anything."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.constraint import Draft
from engine.errors import ConstraintError, SchemaInvalid
from engine.request import Conformance, Constraint, Whitespace

if TYPE_CHECKING:
    from engine.grammar.compiled import CompiledGrammar
    from engine.grammar.service import GrammarService


@dataclass(frozen=True, slots=True)
class Checking:
    """A check on its way. Cancelling `grammar` gives it up: what nobody else waits for is not compiled further."""

    constraint: Constraint
    grammar: Future[CompiledGrammar]

    def report(self) -> dict[str, Any]:
        """The contracts' check object; blocks until it is known. A refused constraint has `supported` false and one
        `refused` verdict that says why. Raises SchemaInvalid for what is no constraint at all: wrong usage, no verdict.
        """
        found: dict[str, Any] = {"schema_hash": self.constraint.schema_hash, "supported": True, "verdicts": []}
        try:
            grammar = self.grammar.result()
        except SchemaInvalid:
            raise
        except ConstraintError as error:
            refusal = {"pointer": error.pointer or "", "keyword": error.param or "", "verdict": "refused"}
            found |= {"supported": False, "verdicts": [refusal | {"reason": error.message}]}
            return found | {"min_bytes": None, "min_tokens": None, "min_tokens_exact": False}
        return found | {
            "verdicts": [verdict.to_dict() for verdict in grammar.verdicts],
            "min_bytes": grammar.min_bytes,
            "min_tokens": grammar.min_tokens,
            "min_tokens_exact": grammar.min_tokens_exact,
        }


def check_schema(
    service: GrammarService,
    schema: Mapping[str, Any] | bool | str,
    *,
    conformance: Conformance = "tight",
    whitespace: Whitespace = "compact",
    require_enforced: bool = False,
    draft: Draft | None = None,
) -> dict[str, Any]:
    """The contracts' check object of a JSON Schema: see `Checking.report`."""
    constraint = Constraint.json_schema(
        schema, conformance=conformance, whitespace=whitespace, require_enforced=require_enforced, draft=draft
    )
    return Checking(constraint, service.submit(constraint)).report()
