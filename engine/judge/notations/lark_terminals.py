"""What Lark's strings, ranges and regular expressions stand for, and its library of terminals."""

from __future__ import annotations

from typing import Any

from engine.judge.notations.ebnf import literal
from engine.judge.notations.ebnf_tokens import WrongGrammar
from engine.judge.notations.lark_syntax import Leaf, text_of
from engine.judge.recogniser.terminals import Chunks
from engine.patterns.dialect import read_regex
from engine.patterns.tree import Class, Node, Sequence, Undecidable

ANY_TEXT = (r"(.|\n)*", r"(\n|.)*", r"(?:.|\n)*", r"(?:\n|.)*", r"[\s\S]*", "(?s:.*)")
"""How any text is written; rules of it may end at a marker."""
_DECIMAL = r"(?:[0-9]+\.[0-9]*|\.[0-9]+)"
_EXPONENT = "[eE][+-]?[0-9]+"
_FLOAT = f"(?:{_DECIMAL}(?:{_EXPONENT})?|[0-9]+{_EXPONENT})"
COMMON = {
    "DIGIT": "[0-9]", "HEXDIGIT": "[0-9A-Fa-f]", "INT": "[0-9]+", "SIGNED_INT": "[+-]?[0-9]+", "DECIMAL": _DECIMAL,
    "_EXP": _EXPONENT, "FLOAT": _FLOAT, "SIGNED_FLOAT": f"[+-]?{_FLOAT}", "NUMBER": f"(?:{_FLOAT}|[0-9]+)",
    "SIGNED_NUMBER": f"[+-]?(?:{_FLOAT}|[0-9]+)", "ESCAPED_STRING": r'"(?:[^"\\\n]|\\[^\n])*"', "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]", "LETTER": "[A-Za-z]", "WORD": "[A-Za-z]+", "CNAME": "[_A-Za-z][_A-Za-z0-9]*",
    "WS_INLINE": r"[ \t]+", "WS": r"[ \t\f\r\n]+", "CR": r"\r", "LF": r"\n", "NEWLINE": r"(?:\r?\n)+",
    "SH_COMMENT": r"#[^\n]*", "CPP_COMMENT": r"//[^\n]*", "C_COMMENT": r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/",
    "SQL_COMMENT": r"--[^\n]*",
}  # fmt: skip
"""Lark's library of terminals."""


def parts_of(node: Leaf) -> tuple[str, str]:
    """The pattern of a regular expression and its flags."""
    pattern, _, flags = node.token.text[1:].rpartition("/")
    return pattern, flags


def regex_of(node: Leaf) -> Node:
    pattern, flags = parts_of(node)
    return read_regex(r"[\s\S]*" if pattern == "(?s:.*)" else pattern, flags, dot="line")


def string_of(node: Leaf) -> Node:
    value, fold = text_of(node.token)
    if node.last is not None:
        last, last_fold = text_of(node.last)
        if fold or last_fold or len(value) != 1 or len(last) != 1 or value > last:
            raise WrongGrammar(f"{node.token.text}..{node.last.text} in line {node.token.line} is no range")
        return Class(((ord(value), ord(last)),))
    if not fold:
        return literal(value)
    letters = [Class(tuple((ord(case), ord(case)) for case in sorted({char.lower(), char.upper()}))) for char in value]
    return Sequence(tuple(letters))


def chunks_of(value: Any, line: int) -> Node:
    given = {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else {}
    if len(given) == 1:
        name, part = next(iter(given.items()))
        if name == "substring_chars" and isinstance(part, str):
            return Chunks(tuple(part))
        if name == "substring_chunks" and isinstance(part, list) and all(isinstance(chunk, str) for chunk in part):
            return Chunks(part)
    raise Undecidable(f"%regex in line {line} (substring_chars and substring_chunks are known)")
