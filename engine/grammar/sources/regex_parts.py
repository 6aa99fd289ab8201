"""The regular expressions inside EBNF, Lark and structural tags, written as XGrammar must be given them.

Knows where each dialect holds them, and what a dot stands for there. The rest of the grammar stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

from engine.errors import SchemaInvalid, SchemaRefused
from engine.grammar.sources.plain_regex import Dot, plain_ebnf, plain_regex

_EBNF = re.compile(
    r"""\[(?:\\.|[^\]\\\r\n])*\]                                # a class, or the options of a rule
    | (?<![\w.-])Regex\s*\(\s*(?P<pattern>"(?:\\.|[^"\\])*")\s*(?P<rest>[^)]*)\)
    | "(?:\\.|[^"\\\r\n])*" """,
    re.VERBOSE,
)
_COMMENT = re.compile(r"""\[(?:\\.|[^\]\\\r\n])*\]|"(?:\\.|[^"\\\r\n])*"|(?P<comment>\#[^\n]*)""")
_LARK = re.compile(
    r"""[#][^\r\n]* | //[^\r\n]*                            # a comment
    | "(?:\^|\\u005[eE])"\s*\.\.\s*(?P<up_to>"(?:\\.|[^"\\\r\n])*")
    | "(?:\\.|[^"\\\r\n])*"                                 # a string
    | <[^\s<>]*>                                            # a special token
    | %import\s+common[ \t]*\.[ \t]*ESCAPED_STRING\b(?:[ \t]*->[ \t]*(?P<alias>\w+))?
    | %import\s+common[ \t]*\((?P<names>[^)]*)\)
    | (?P<to>->)
    | /(?P<regex>(?:\\.|[^/\\])+)/(?P<flags>[A-Za-z]*)""",
    re.VERBOSE | re.DOTALL,
)
_ONE_CARET = r"(?:\^|\\\^|\\x0*5[eE](?![0-9a-fA-F])|\\u005[eE]|\\U0000005[eE])"
_CARET = re.compile(rf"{_ONE_CARET}(?:-{_ONE_CARET}|(?P<range>-(?=.)))?")
_OPTION = re.compile(r',\s*(flags|json_string)\s*=\s*("[a-z]*"|true|false)\s*')
_LAZY = re.compile(r"\[[^\]\n]*\blazy\b[^\]\n]*\]\s*::=")
_ANY_TEXT = (r"(.|\n)*", r"(\n|.)*", r"(?:.|\n)*", r"(?:\n|.)*", r"[\s\S]*", "(?s:.*)")
"""XGrammar knows free text by these spellings, alone or with a fixed text behind them."""
_FIXED = re.compile(r"(?:[^\\.^$*+?()\[\]{}|]|\\[nrtfv^$.*+?()\[\]{}|\\/-])*")
_ESCAPED_STRING = r'"(?:[^"\\\n]|\\[^\n])*"'
"""Lark's own: XGrammar's lets line feeds through."""


def plain_in_ebnf(source: str) -> str:
    """Every `Regex(...)` as a plain expression; as a plain `Regex` where a lazy rule may stand around it."""
    source = _COMMENT.sub(lambda found: "" if found["comment"] else found[0], source)
    lazy = _LAZY.search(source) is not None

    def written(found: re.Match[str]) -> str:
        if found["pattern"] is None:
            return _caret_last(found[0]) if found[0].startswith("[") else found[0]
        if _OPTION.sub("", found["rest"]).strip(", "):
            raise SchemaInvalid(f"{found[0]} is not read: flags are letters, json_string true or false", param="ebnf")
        options = {name: json.loads(value) for name, value in _OPTION.findall(found["rest"])}
        flags, in_json = options.get("flags"), options.get("json_string", False)
        pattern = _string(found["pattern"])
        dot: Dot = "any" if flags is None else "line"
        if not lazy:
            return plain_ebnf(pattern, flags or "", dot, "ebnf", in_json=in_json)
        plain = json.dumps(plain_regex(pattern, flags or "", dot, "ebnf"), ensure_ascii=False)
        return f"Regex({plain}{', json_string=true' if in_json else ''})"

    return _EBNF.sub(written, source)


def plain_in_lark(source: str) -> str:
    """Every `/.../` plainly, and Lark's ESCAPED_STRING in place of XGrammar's."""

    def written(found: re.Match[str]) -> str:
        if found["regex"] is not None:
            return _lark_regex(found["regex"], found["flags"])
        if found["to"] is not None:
            return " ->"  # a dash would be read as part of the name before it
        if found["up_to"] is not None:
            return '"^"' if json.loads(found["up_to"]) == "^" else f'("^" | "_"..{found["up_to"]})'
        if found[0].startswith("%import") and found["names"] is None:
            return f"{found['alias'] or 'ESCAPED_STRING'}: {_lark_regex(_ESCAPED_STRING, '')}"
        if found["names"] is not None:
            names = [name.strip() for name in found["names"].split(",")]
            if "ESCAPED_STRING" in names:
                names.remove("ESCAPED_STRING")
                others = f"\n%import common ({', '.join(names)})" if names else ""
                return f"ESCAPED_STRING: {_lark_regex(_ESCAPED_STRING, '')}{others}"
        return found[0]

    return _LARK.sub(written, source)


def _caret_last(token: str) -> str:
    """A class that begins with an escaped caret, with the caret at its end: XGrammar prints it first, as a negation."""
    inside, last = token[1:-1], ""
    while (found := _CARET.match(inside, 0)) and (last or inside[0] != "^"):
        inside, last = ("_-" if found["range"] else "") + inside[found.end() :], "^"
    if not inside + last:
        raise SchemaRefused("a class that no character is in leaves nothing to write", param="ebnf")
    return f"[{inside}{last}]" if inside else '"^"'


def _lark_regex(pattern: str, flags: str) -> str:
    free = (".*",) if "s" in flags else _ANY_TEXT
    if "i" not in flags and any(pattern.startswith(form) and _FIXED.fullmatch(pattern[len(form) :]) for form in free):
        return f"/{pattern}/{flags}"
    return f"/{plain_regex(pattern, flags, 'line', 'lark')}/"


def plain_in_tag(part: Any) -> Any:
    """A copy of a tag with the patterns of its regex formats, and the grammars in it, written plainly."""
    if isinstance(part, list):
        return [plain_in_tag(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "regex" and isinstance(part.get("pattern"), str):
        return {**part, "pattern": plain_regex(part["pattern"], "", "ecma", "structural_tag")}
    if part.get("type") == "grammar" and isinstance(part.get("grammar"), str):
        return {**part, "grammar": plain_in_ebnf(part["grammar"])}
    return {key: plain_in_tag(value) for key, value in part.items()}


def _string(literal: str) -> str:
    """What an EBNF string stands for: its escapes are JSON's and a few more."""
    more = {"'": "'", "?": "?", "a": "\a", "v": "\v", "0": "\0", "e": "\x1b", "/": "/"}
    simple = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "\\": "\\", **more}

    def meant(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1][1:], 16))
        if found[2] not in simple:
            raise SchemaInvalid(f"{found[0]} is no escape of an EBNF string", param="ebnf")
        return simple[found[2]]

    return re.sub(r"\\(?:(x[0-9a-fA-F]+|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|(.))", meant, literal[1:-1])
