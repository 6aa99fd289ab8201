"""The shape of one subschema: its own keywords, then everything applied in place.

Knows the order in which keywords act. Each family of keywords has its own module.
"""

from __future__ import annotations

from typing import Any

from engine.schema.alternatives import any_of, conditional, dependencies, negation, one_of
from engine.schema.constant import const_shape, enum_shape
from engine.schema.expand import Expander
from engine.schema.items import array_shape
from engine.schema.members import object_shape
from engine.schema.reference import Location, Scope
from engine.schema.scalars import number_set, string_sets
from engine.schema.shape import BOTH, EVERYTHING, NOTHING, UNKNOWN, Shape
from engine.schema.unevaluated import unevaluated

UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
TYPES = frozenset({"null", "boolean", "number", "integer", "string", "array", "object"})


def node_shape(expander: Expander, at: Location, scope: Scope, annotated: bool, within: Shape = EVERYTHING) -> Shape:
    """Everything that the subschema at `at` says, of the values in `within`."""
    schema = at.schema
    if not isinstance(schema, dict):
        return within if schema else NOTHING
    wants = annotated or any(key in schema for key in UNEVALUATED)
    if at.draft.ref_hides_siblings and "$ref" in schema:
        return expander.intersect(within, _reference(expander, at, scope, wants))
    shape = expander.intersect(within, _own(expander, at, scope))
    if any(key in schema for key in ("$ref", "$dynamicRef", "$recursiveRef")):
        shape = expander.intersect(shape, _reference(expander, at, scope, wants))
    shape = _all_of(expander, at, scope, wants, shape)
    for applicator in (negation, dependencies, conditional, any_of):
        for applied in applicator(expander, at, scope, wants):
            shape = expander.intersect(shape, applied)
    shape = one_of(expander, at, scope, wants, shape)
    return unevaluated(expander, at, scope, shape) if wants else shape


def _all_of(expander: Expander, at: Location, scope: Scope, annotated: bool, shape: Shape) -> Shape:
    """`shape` within every branch. Branches of a `oneOf` overlap less inside it, so such a one is opened there."""
    branches = at.schema.get("allOf")
    for index, branch in enumerate(branches if isinstance(branches, list) else ()):
        term = expander.child(at, scope, "allOf", str(index))
        if isinstance(branch, dict) and "oneOf" in branch and not annotated and not UNEVALUATED & branch.keys():
            shape = node_shape(expander, *expander.terms.nodes[term], False, shape)
        else:
            shape = expander.intersect(shape, expander.shape(term, annotated))
    return shape


def _own(expander: Expander, at: Location, scope: Scope) -> Shape:
    """The keywords that speak of the value itself."""
    schema = at.schema
    names = _types(schema.get("type"))
    strings, string_exact = string_sets(expander.report, at) if "string" in names else ((), True)
    array, array_exact = array_shape(expander, at, scope) if "array" in names else (None, True)
    item, object_exact = object_shape(expander, at, scope) if "object" in names else (None, True)
    shape = Shape(
        "null" in names,
        BOTH if "boolean" in names else frozenset(),
        number_set(expander.report, at) if names & {"number", "integer"} else (),
        strings,
        () if array is None else (array,),
        () if item is None else (item,),
        string_exact and array_exact and object_exact,
    )
    return expander.intersect(shape, _values(expander, schema))


def _types(named: Any) -> frozenset[str]:
    if named is None:
        return TYPES
    return frozenset([named] if isinstance(named, str) else [name for name in named if isinstance(name, str)])


def _values(expander: Expander, schema: dict[str, Any]) -> Shape:
    shape = EVERYTHING
    if isinstance(schema.get("enum"), list):
        shape = enum_shape(expander.terms, schema["enum"])
    if "const" in schema:
        shape = expander.intersect(shape, const_shape(expander.terms, schema["const"]))
    return shape


def _reference(expander: Expander, at: Location, scope: Scope, annotated: bool) -> Shape:
    """What the reference keywords of `at` point to."""
    schemas, reference = expander.schemas, at.schema.get("$ref")
    if isinstance(reference, str) and schemas.is_metaschema(at, reference):
        expander.report.mark(at, "$ref", "checked", "a metaschema is not written out as a grammar")
        return UNKNOWN
    shape = EVERYTHING
    for _, target in schemas.targets(at, scope):
        term = expander.terms.node(target, schemas.enter(scope, target))
        shape = expander.intersect(shape, expander.shape(term, annotated))
    return shape
