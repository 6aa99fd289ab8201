"""The shape of one subschema: its own keywords, then everything applied in place.

Knows the order in which keywords act. Each family of keywords has its own module.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.schema.reading.keywords import speaks
from engine.schema.reading.reference import Location, Scope
from engine.schema.semantics.applicators import any_of, conditional, dependencies, negation, one_of
from engine.schema.semantics.array_keywords import array_shape
from engine.schema.semantics.contents import content_term
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.object_keywords import object_shape
from engine.schema.semantics.scalar_keywords import number_set, string_sets
from engine.schema.semantics.unevaluated import unevaluated
from engine.schema.sets.constant import const_shape, enum_shape
from engine.schema.sets.shape import BOTH, EVERYTHING, NOTHING, Shape

UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
TYPES = frozenset({"null", "boolean", "number", "integer", "string", "array", "object"})


def node_shape(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool, within: Shape = EVERYTHING) -> Shape:
    """Everything that the subschema at `at` says, of the values in `within`."""
    schema = at.schema
    if not isinstance(schema, dict):
        return within if schema else NOTHING
    wants = annotated or any(key in schema for key in UNEVALUATED)
    if at.draft.ref_hides_siblings and "$ref" in schema:
        return evaluator.intersect(within, _reference(evaluator, at, scope, wants))
    shape = evaluator.intersect(within, _own(evaluator, at, scope))
    if any(key in schema for key in ("$ref", "$dynamicRef", "$recursiveRef")):
        shape = evaluator.intersect(shape, _reference(evaluator, at, scope, wants))
    shape = _all_of(evaluator, at, scope, wants, shape)
    for applicator in (negation, dependencies, conditional, any_of):
        for applied in applicator(evaluator, at, scope, wants):
            shape = evaluator.intersect(shape, applied)
    shape = one_of(evaluator, at, scope, wants, shape)
    return unevaluated(evaluator, at, scope, shape) if wants else shape


def _all_of(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool, shape: Shape) -> Shape:
    """`shape` within every branch. Branches of a `oneOf` overlap less inside it, so such a one is opened there."""
    branches = at.schema.get("allOf")
    for index, branch in enumerate(branches if isinstance(branches, list) else ()):
        term = evaluator.child(at, scope, "allOf", str(index))
        if isinstance(branch, dict) and "oneOf" in branch and not annotated and not UNEVALUATED & branch.keys():
            shape = node_shape(evaluator, *evaluator.terms.nodes[term], False, shape)
        else:
            shape = evaluator.intersect(shape, evaluator.shape(term, annotated))
    return shape


def _own(evaluator: Evaluator, at: Location, scope: Scope) -> Shape:
    """The keywords that speak of the value itself."""
    schema = at.schema
    names = _types(schema.get("type"))
    judged = evaluator.schemas.root.draft
    strings, string_exact = string_sets(evaluator.report, at, judged) if "string" in names else ((), True)
    content = content_term(evaluator, at)
    if content is not None:
        strings = tuple([replace(part, content=content) for part in strings])
    array, array_exact = array_shape(evaluator, at, scope) if "array" in names else (None, True)
    item, object_exact = object_shape(evaluator, at, scope) if "object" in names else (None, True)
    shape = Shape(
        "null" in names,
        BOTH if "boolean" in names else frozenset(),
        number_set(evaluator.report, at) if names & {"number", "integer"} else (),
        strings,
        () if array is None else (array,),
        () if item is None else (item,),
        string_exact and array_exact and object_exact,
    )
    return evaluator.intersect(shape, _values(evaluator, at))


def _types(named: Any) -> frozenset[str]:
    if named is None:
        return TYPES
    return frozenset([named] if isinstance(named, str) else [name for name in named if isinstance(name, str)])


def _values(evaluator: Evaluator, at: Location) -> Shape:
    schema, shape = at.schema, EVERYTHING
    if isinstance(schema.get("enum"), list):
        shape = enum_shape(evaluator.terms, schema["enum"])
    if "const" in schema and speaks(at.draft, "const"):
        shape = evaluator.intersect(shape, const_shape(evaluator.terms, schema["const"]))
    return shape


def _reference(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool) -> Shape:
    """What the reference keywords of `at` point to."""
    schemas, shape = evaluator.schemas, EVERYTHING
    for _, target in schemas.targets(at, scope):
        term = evaluator.terms.node(target, schemas.enter(scope, target))
        shape = evaluator.intersect(shape, evaluator.shape(term, annotated))
    return shape
