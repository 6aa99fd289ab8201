"""`check`: what a schema's verdicts are and how small its shortest document is, without decoding anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.constraint import Draft
from engine.errors import ConstraintError, SchemaInvalid
from engine.request import Conformance, Constraint, Whitespace

if TYPE_CHECKING:
    from engine.grammar.service import GrammarService


def check_schema(
    service: GrammarService,
    schema: Mapping[str, Any] | bool | str,
    *,
    conformance: Conformance = "tight",
    whitespace: Whitespace = "compact",
    require_enforced: bool = False,
    draft: Draft | None = None,
) -> dict[str, Any]:
    """The contracts' check object. A refused schema has `supported` false and one `refused` verdict that says why.

    Raises SchemaInvalid for what is not a schema at all (wrong usage rather than a verdict).
    """
    constraint = Constraint.json_schema(
        schema, conformance=conformance, whitespace=whitespace, require_enforced=require_enforced, draft=draft
    )
    found: dict[str, Any] = {"schema_hash": constraint.schema_hash, "supported": True, "verdicts": []}
    try:
        grammar = service.compile(constraint)
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
