"""The judges of EBNF, Lark and structural tags: a recogniser over the grammar, made from the caller's source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import SchemaInvalid, SchemaRefused
from engine.judge.judgement import Judge, Judgement
from engine.judge.notations.ebnf import ebnf_grammar
from engine.judge.notations.ebnf_tokens import WrongGrammar
from engine.judge.notations.lark import lark_grammar
from engine.judge.notations.structural_tag import tag_grammar
from engine.judge.recogniser.earley import recognises
from engine.judge.recogniser.productions import DerivesNothing, Productions
from engine.judge.recogniser.work import Work
from engine.patterns.tree import NotARegex, Undecidable
from engine.request import Constraint
from engine.schema.reading.parameter_text import Style, read_parameters
from engine.schema.reading.validator import Checked, Validator

CALLED = {"ebnf": "an EBNF grammar", "lark": "a Lark grammar", "structural_tag": "a structural tag"}


def make(constraint: Constraint) -> Judge:
    """Raises SchemaInvalid for what is none of its kind, SchemaRefused for a part that is not enforced, by name,
    and for what derives no text."""
    kind = constraint.kind
    try:
        grammar = _grammar(constraint)
    except (WrongGrammar, NotARegex) as error:
        raise SchemaInvalid(
            f"not {CALLED[kind]}: {error}", param=kind, pointer=getattr(error, "pointer", None)
        ) from None
    except DerivesNothing:
        raise SchemaRefused("no document satisfies this constraint", param=kind) from None
    except Undecidable as error:
        message = f"{kind}: this part is not enforced here: {error}"
        raise SchemaRefused(message, param=kind, pointer=getattr(error, "pointer", None)) from None

    def judge(data: bytes) -> Judgement:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return Judgement(False, f"not valid UTF-8: {error.reason}", "")
        work = Work()
        if recognises(grammar, text, work):
            return Judgement(True, arguments=tuple(work.arguments.items()))
        return Judgement(False, f"the {kind} grammar does not derive the text", "")

    return judge


def _grammar(constraint: Constraint) -> Productions:
    if constraint.kind == "ebnf":
        return ebnf_grammar(constraint.source)
    read = lark_grammar if constraint.kind == "lark" else tag_grammar
    return read(constraint.source, _json_check)


def _json_check(schema: Any, style: Style = "json") -> Callable[[str], Checked]:
    validator = Validator(schema)
    return validator.check if style == "json" else lambda text: read_parameters(text, validator)
