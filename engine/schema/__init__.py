"""JSON Schema front end: what a schema means, as a grammar and a verdict per keyword. No torch, no xgrammar."""

from engine.schema.embed import Embedded, Part, embed, parts
from engine.schema.lower import LOWERING_VERSION, Lowered, lower
from engine.schema.reading.validator import Checked, JsonInvalid, Validator, parse_json
from engine.schema.verdicts.verdict import Verdict

__all__ = [
    "LOWERING_VERSION",
    "Checked",
    "Embedded",
    "JsonInvalid",
    "Lowered",
    "Part",
    "Validator",
    "Verdict",
    "embed",
    "lower",
    "parse_json",
    "parts",
]
