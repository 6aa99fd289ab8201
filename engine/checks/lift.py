"""Checks for LIFT's six schemas: what their descriptions say and their keywords cannot.

`CHECKS` has, by bundled schema, what `Constraint.json_schema(..., checks=...)` takes. Each check is a function of its
own, which a server registers as `NAME=engine.checks.lift:FUNCTION`. A check that cannot tell says nothing. `SYNTAX` has
what the texts in them are written in, `both` the two together.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.syntax import Syntax

_BEFORE_A_TYPE = frozenset((
    "asserts", "async", "chan", "const", "dyn", "extends", "fn", "for", "func", "impl", "in", "infer", "interface",
    "is", "keyof", "long", "map", "mut", "new", "out", "readonly", "ref", "short", "signed", "static", "struct",
    "super", "type", "typeof", "unique", "unsafe", "unsigned", "volatile", "where",
))  # fmt: skip
"""Words of the five languages behind which another word of the same type may stand."""
_PAIRS = {")": "(", "]": "[", "}": "{", ">": "<"}
_TOKEN = re.compile(
    r"""\s+|[^\W\d]\w*|\d+|"[^"]*"|'[^']*'|'[^\W\d]\w*|<-|->|=>|\.\.\.|::|[-.,:;|&*?!=+~@#()\[\]{}<>]"""
)
_CODE = re.compile(r"`([^`]*)`")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_WELL_KNOWN = frozenset((*dir(builtins), "self", "cls", "result", "stdin", "stdout", "stderr"))


def type_expression(value: Any, document: Any) -> str | None:  # noqa: ARG001 - what a check is given
    """A type in the notation of a programming language, not a sentence about one. null is none."""
    if value is None:
        return None
    text = value.strip()
    tokens = [found[0] for found in _TOKEN.finditer(text)]
    if not text or "".join(tokens) != text:
        return f"{_shown(value)} is no type expression"
    opened: list[str] = []
    for token in tokens:
        if token in _PAIRS.values():
            opened.append(token)
        elif token in _PAIRS and (not opened or opened.pop() != _PAIRS[token]):
            return f"{_shown(value)} is no type expression: {token!r} closes nothing"
    if opened:
        return f"{_shown(value)} is no type expression: {opened[-1]!r} is not closed"
    if tokens[-1] in (".", ",", ":", "|", "&", "->", "=>", "::"):
        return f"{_shown(value)} is no type expression: nothing follows {tokens[-1]!r}"
    for first, space, second in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if space.isspace() and _is_word(first) and _is_word(second) and not _BEFORE_A_TYPE & {first, second}:
            return f"{_shown(value)} is no type expression: {second!r} stands behind {first!r}"
    return None


def new_parameter(value: Any, document: Any) -> str | None:
    """No two inputs of a function have one name."""
    names = [parameter.get("name") for parameter in document["signature"]["parameters"]]
    return f"there is a parameter {value!r} already" if names.count(value) > 1 else None


def effect_of_parameters(value: Any, document: Any) -> str | None:
    """What an effect names as code (`so`), in the way that parameters are named, is declared in the signature."""
    signature = document.get("signature")
    if signature is None:
        return None  # its turn comes later
    declared = {signature.get("name"), *(parameter.get("name") for parameter in signature.get("parameters", ()))}
    declared |= {hole.get("identifier") for hole in signature.get("holes", ())}
    for code in _CODE.findall(value):
        if _NAME.fullmatch(code) and code not in declared and code not in _WELL_KNOWN:
            return f"{code!r} is no parameter of the signature"
    return None


def distances(value: Any, document: Any) -> str | None:  # noqa: ARG001 - what a check is given
    """A rule about positions: its largest distance is no less than its smallest."""
    least, most = value.get("min_distance"), value.get("max_distance")
    if least is None or most is None or least <= most:
        return None
    return f"max_distance {most} is less than min_distance {least}"


def declares_its_name(value: Any, document: Any) -> str | None:
    """A helper's declaration line declares the helper's name."""
    helpers = document.get("helper_functions") or document.get("helper_methods") or [{}]
    name = helpers[-1].get("name")
    if name is None or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", value):
        return None
    return f"the declaration does not name {name!r}"


def python_names(value: Any, document: Any) -> str | None:
    """What a Python helper computes with is declared: a parameter, a local name, an import, a helper, a builtin.

    Names that are only called or handed on may be a later helper, or the main function, which no document names.
    """
    helper = document["helper_functions"][-1]
    try:
        parsed = ast.parse(f"{helper['signature'].strip()}\n{_indented(value)}")
    except (SyntaxError, ValueError, KeyError, RecursionError):
        return None  # whether it is Python is another question
    declared = {*dir(builtins), *_bound(parsed), *_imported(document), "__name__", "__file__"}
    declared |= {other.get("name") for other in document["helper_functions"]}
    if "*" in declared:
        return None
    for node in _operands(parsed):
        if isinstance(node, ast.Name) and node.id not in declared:
            return f"the name {node.id!r} is not declared"
    return None


def channel_buffer(value: Any, document: Any) -> str | None:  # noqa: ARG001 - what a check is given
    """A channel of Go without a buffer has no places in it."""
    if value.get("buffered") is False and value.get("buffer_size"):
        return f"a channel that is not buffered has no buffer of {value['buffer_size']}"
    return None


def _is_word(token: str) -> bool:
    return token[0].isalpha() or token[0] == "_"


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


def _indented(body: str) -> str:
    """As it stands where it is indented; else one level in."""
    lines = body.split("\n")
    first = next((line for line in lines if line.strip()), "")
    return body if first[:1].isspace() else "\n".join(f"    {line}" for line in lines)


def _bound(parsed: ast.AST) -> Iterator[str]:
    """Every name that something in it binds, wherever."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names


def _imported(document: Any) -> Iterator[str]:
    for entry in document.get("imports", ()):
        yield entry.get("module", "").split(".")[0]
        for name in entry.get("names", ()):
            yield name.split(" as ")[-1].strip()


def _operands(parsed: ast.AST) -> Iterator[ast.expr]:
    """Expressions of which something is computed, so that they are no mere function."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.BinOp):
            yield from (node.left, node.right)
        elif isinstance(node, ast.Subscript):
            yield from (node.value, node.slice)
        elif isinstance(node, ast.UnaryOp):
            yield node.operand
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            yield node.iter
        elif isinstance(node, ast.AugAssign | ast.Attribute):
            yield node.value


Check = Callable[[Any, Any], str | None]
_VARIABLES: dict[str, Check] = {"/implementation/variables/*/type_hint": type_expression}
_HELPERS: dict[str, Check] = {"/helper_functions/*/signature": declares_its_name}
CHECKS: Mapping[str, Mapping[str, Check]] = {
    "lift_ir": {
        "/signature/parameters/*/name": new_parameter,
        "/signature/parameters/*/type_hint": type_expression,
        "/signature/returns": type_expression,
        "/effects/*/description": effect_of_parameters,
        "/constraints/*": distances,
    },
    "python_generation": {**_VARIABLES, **_HELPERS, "/helper_functions/*/body": python_names},
    "typescript_generation": {**_VARIABLES, **_HELPERS},
    "rust_generation": {**_VARIABLES, **_HELPERS, "/error_handling/error_type": type_expression},
    "go_generation": {
        **_VARIABLES,
        "/implementation/channels/*": channel_buffer,
        "/implementation/channels/*/element_type": type_expression,
    },
    "java_generation": {
        **_VARIABLES,
        "/helper_methods/*/signature": declares_its_name,
        "/generics/*/bounds": type_expression,
        "/exception_handling/checked_exceptions/*": type_expression,
    },
}
"""By bundled schema and JSON pointer."""


def _texts(language: str, **units: tuple[str, ...]) -> Mapping[str, Syntax]:
    """By pointer. Statements may be headers alone, as LIFT's own examples have them."""
    return {
        pointer: Syntax(language, unit, partial=unit == "statements")
        for unit, pointers in units.items()
        for pointer in pointers
    }


_CODE_OF_STATEMENTS = "/implementation/body_statements/*/code"
_HINTS = "/implementation/variables/*/type_hint"
_TRIED = "/exception_handling/try_catch_blocks/*"
SYNTAX: Mapping[str, Mapping[str, Syntax]] = {
    "lift_ir": {},
    "python_generation": _texts(
        "python",
        statements=(_CODE_OF_STATEMENTS,),
        type=(_HINTS,),
        signature=("/helper_functions/*/signature",),
        body=("/helper_functions/*/body",),
    ),
    "typescript_generation": _texts(
        "typescript",
        statements=(_CODE_OF_STATEMENTS,),
        type=(_HINTS,),
        signature=("/helper_functions/*/signature",),
        body=("/helper_functions/*/body",),
        module=("/type_definitions/*/definition",),
    ),
    "rust_generation": _texts(
        "rust",
        statements=(_CODE_OF_STATEMENTS,),
        type=(_HINTS, "/error_handling/error_type"),
        signature=("/helper_functions/*/signature",),
        body=("/helper_functions/*/body",),
        module=("/type_definitions/*/definition",),
    ),
    "go_generation": _texts(
        "go",
        statements=(_CODE_OF_STATEMENTS, "/implementation/defer_statements/*/code"),
        type=(_HINTS, "/implementation/channels/*/element_type"),
        expression=("/implementation/goroutines/*/function_call",),
    ),
    "java_generation": _texts(
        "java",
        statements=(
            _CODE_OF_STATEMENTS,
            f"{_TRIED}/try_body",
            f"{_TRIED}/catch_clauses/*/body",
            f"{_TRIED}/finally_body",
        ),
        type=(_HINTS, "/generics/*/bounds", "/exception_handling/checked_exceptions/*"),
        signature=("/helper_methods/*/signature",),
        body=("/helper_methods/*/body",),
    ),
}
"""By bundled schema and JSON pointer: which language the texts there are in. An IR names its language in itself."""


def both(name: str) -> dict[str, list[Check | Syntax]]:
    """Syntax and checks of a bundled schema."""
    places = dict.fromkeys((*SYNTAX[name], *CHECKS[name]))
    return {at: [table[at] for table in (SYNTAX[name], CHECKS[name]) if at in table] for at in places}
