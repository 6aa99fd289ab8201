"""The judges of regex and choice: the whole text matches, or is one of the options."""

from __future__ import annotations

import json

from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.judge.judgement import Judge, Judgement
from engine.patterns.engine import for_engine
from engine.patterns.tree import NotARegex, Undecidable
from engine.request import Constraint
from engine.schema.reading.validator import Validator


def make(constraint: Constraint) -> Judge:
    """Raises SchemaInvalid for what is no regular expression, SchemaRefused for one that is not judged."""
    if constraint.kind == "choice":
        options = json.loads(constraint.source)
        return _Words(f"one of the {len(options)} options", {"enum": options})
    try:
        for_engine(constraint.source)
    except NotARegex as error:
        raise SchemaInvalid(f"not an ECMA-262 regular expression: {error}", param="regex") from None
    except Undecidable as error:
        raise SchemaRefused(f"this regular expression cannot be judged: {error}", param="regex") from None
    try:
        return _Words("what the regular expression matches", {"pattern": f"^(?:{constraint.source})$"})
    except LimitExceeded as error:
        raise LimitExceeded(error.message, param="regex") from None


class _Words:
    def __init__(self, wanted: str, schema: dict[str, object]) -> None:
        self._wanted = wanted
        self._validator = Validator(schema)

    def __call__(self, data: bytes) -> Judgement:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return Judgement(False, f"not valid UTF-8: {error.reason}", "")
        if self._validator.check_value(text).ok:
            return Judgement(True)
        return Judgement(False, f"the text is not {self._wanted}", "")
