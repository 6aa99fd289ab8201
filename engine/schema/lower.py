"""JSON Schema in; a grammar that says what the schema says, and a verdict per keyword occurrence, out.

The table of contents of the front end: judge the schema, index it, open it into shapes, write rules, tidy up.
Knows limits. Every other module does one of these steps.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from engine.config import Limits
from engine.errors import LimitExceeded, SchemaRefused
from engine.schema.automata.automaton import AutomatonTooLarge
from engine.schema.containers.documents import write_document
from engine.schema.containers.json_writer import JsonWriter
from engine.schema.containers.parameter_writer import ParameterWriter
from engine.schema.containers.value_writer import Options
from engine.schema.reading.dialect import is_known
from engine.schema.reading.parameter_text import Style
from engine.schema.reading.ref_expansion import refuse_circles
from engine.schema.reading.reference import Schemas
from engine.schema.reading.validator import Validator
from engine.schema.rules.grammar import UNDECLARED, Grammar, Ref, Rule, key_marks
from engine.schema.semantics.contents import mark_syntax, refuse_unfollowed
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.node import node_shape
from engine.schema.verdicts.report import Report
from engine.schema.verdicts.verdict import Verdict

LOWERING_VERSION = 64
"""Part of every grammar cache key; raised whenever the grammar of any schema changes."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A schema as a grammar. `shortest` is a shortest document, `min_bytes` its length in UTF-8."""

    grammar: Grammar
    verdicts: tuple[Verdict, ...]
    min_bytes: int
    shortest: str


def lower(
    schema: Any,
    *,
    whitespace: Literal["compact", "flexible"] = "compact",
    conformance: Literal["tight", "spec"] = "tight",
    limits: Limits | None = None,
    any_order: bool = False,
    style: Style = "json",
) -> Lowered:
    """Lower a parsed schema (dict or bool). `any_order` lets tight objects have their keys in any order; `style` says
    how the outermost object is written.

    Raises SchemaInvalid (no schema), SchemaRefused (unsatisfiable, remote reference), LimitExceeded. Pure.
    """
    limits = limits or Limits()
    options = Options(conformance == "tight", whitespace == "flexible", limits.grammar_rules, any_order, style)
    with _uncollected():
        schemas = Schemas(schema, depth=limits.schema_depth, nodes=limits.schema_nodes)
        refuse_unfollowed(schemas)
        Validator(schema)
        refuse_circles(schemas)
        return _attempt_twice(schemas, options)


def _attempt_twice(schemas: Schemas, options: Options) -> Lowered:
    with suppress(LimitExceeded, AutomatonTooLarge):
        return _attempt(schemas, options, bold=True)
    try:
        return _attempt(schemas, options, bold=False)
    except AutomatonTooLarge as error:
        raise LimitExceeded(f"a string, number or key needs too large a grammar: {error}", param="schema") from None


def _attempt(schemas: Schemas, options: Options, *, bold: bool) -> Lowered:
    report = Report()
    if not is_known(schemas.root.schema):
        report.mark(schemas.root, "$schema", "narrowed", "an unknown dialect is read as draft 2020-12")
    mark_syntax(schemas, report)
    evaluator = Evaluator(schemas, report, node_shape, bold=bold)
    root = schemas.root
    kind = ParameterWriter if options.style == "qwen_xml" else JsonWriter
    term = evaluator.terms.node(root, schemas.enter((), root))
    document = write_document(lambda: kind(evaluator, options), term)
    if not evaluator.assumptions_hold():
        raise LimitExceeded("what refers to itself is not held exactly", param="schema")
    if document is None:
        raise SchemaRefused("the schema is unsatisfiable: no document is valid", param="schema", pointer="")
    report.lift(schemas)
    rules, text = dict(document.rules), document.shortest
    marked = any(UNDECLARED in rule.printed_references for rule in rules.values())
    rules.update((rule.name, rule) for rule in key_marks(marked=marked))
    rules["root"] = Rule("root", ((Ref(document.name),),))
    return Lowered(Grammar(rules), report.verdicts(schemas), len(text.encode()), text)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collections, which find three objects a schema and cost a tenth of lowering it."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
