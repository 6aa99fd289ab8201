"""Function requests with a known answer: the schema they are asked in, and checks that a document has the signature.

Checks parse types as Python expressions and never run what a model wrote. Knows data; runs no model.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.datasets.cases import compact, json_lines

PROMPTS = Path(__file__).resolve().parents[1] / "data" / "prompts.jsonl"
FIELDS = ("name", "parameters", "types", "returns", "all")

_WORD = {"type": "string", "minLength": 1, "maxLength": 40}
_PARAMETER = {
    "type": "object", "properties": {"name": _WORD, "type": _WORD}, "required": ["name", "type"],
    "additionalProperties": False,
}  # fmt: skip
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": _WORD, "parameters": {"type": "array", "items": _PARAMETER, "maxItems": 6}, "returns": _WORD,
    },
    "required": ["name", "parameters", "returns"],
    "additionalProperties": False,
}  # fmt: skip
"""A signature. The lengths are above those of every expected answer and end a model that repeats itself."""

_SPELLINGS = {
    "integer": "int", "string": "str", "boolean": "bool", "number": "float", "double": "float", "array": "list",
    "null": "None", "NoneType": "None", "List": "list", "Dict": "dict", "Set": "set", "Tuple": "tuple",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One request and the document that answers it."""

    id: str
    prompt: str
    expect: dict[str, Any]

    @property
    def gold(self) -> str:
        """The expected document as compact JSON, keys in schema order."""
        return compact(self.expect)


def read_tasks(path: Path = PROMPTS) -> list[Task]:
    """The committed requests, in file order."""
    return [Task(**line) for line in json_lines(path)]


def check_signature(document: Any, expect: dict[str, Any]) -> dict[str, bool]:
    """Which of FIELDS a document gets right; everything False for what is no signature at all."""
    if not isinstance(document, dict) or not isinstance(document.get("parameters"), list):
        return dict.fromkeys(FIELDS, False)
    found, wanted = document["parameters"], expect["parameters"]
    names = [parameter.get("name") for parameter in found]
    types = [parsed_type(parameter.get("type")) for parameter in found]
    checks = {
        "name": document.get("name") == expect["name"],
        "parameters": names == [parameter["name"] for parameter in wanted],
        "types": types == [parsed_type(parameter["type"]) for parameter in wanted],
        "returns": parsed_type(document.get("returns")) == parsed_type(expect["returns"]),
    }
    return {**checks, "all": all(checks.values())}


def agreement(document: Any, reference: Any) -> dict[str, bool]:
    """Which fields of two documents are exactly equal; `all` is the whole document."""
    if not isinstance(document, dict) or not isinstance(reference, dict):
        return dict.fromkeys(("name", "parameters", "returns", "all"), document == reference)
    fields = {field: document.get(field) == reference.get(field) for field in ("name", "parameters", "returns")}
    return {**fields, "all": document == reference}


def parsed_type(text: Any) -> str | None:
    """A type's canonical spelling (`List[Integer]` is `list[int]`, `Optional[X]` is `X | None`); None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return ast.unparse(_Canonical().visit(tree))


class _Canonical(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        name = _SPELLINGS.get(node.id, node.id)
        return ast.Constant(None) if name == "None" else ast.Name(name, node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self.visit_Name(ast.Name(node.attr, node.ctx))  # typing.List is List

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        inner = self.generic_visit(node)
        assert isinstance(inner, ast.Subscript)
        if isinstance(inner.value, ast.Name) and inner.value.id == "Optional":
            return ast.BinOp(inner.slice, ast.BitOr(), ast.Constant(None))
        return inner
