"""`GET /docs`: the routes and their fields on one page, made from the OpenAPI document. No script, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid #8886; padding: .2rem .8rem .2rem 0; vertical-align: top }
code { font: 14px ui-monospace, monospace; overflow-wrap: anywhere } h2 { margin: 2rem 0 .3rem }
"""  # noqa: E501 - one rule a line


def docs_page(api: Mapping[str, Any]) -> str:
    """The whole page; a millisecond."""
    info = api["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['summary'])} A body is JSON, sent with <code>content-type: application/json</code>."
        ' The same for programs: <a href="openapi.json">openapi.json</a>.</p>' + "".join(_routes(api))
    )


def _routes(api: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in api["paths"].items():
        for method, told in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            body = told.get("requestBody")
            if body:
                name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
                yield f"<table>{''.join(_fields(api['components']['schemas'][name]))}</table>"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = f", default {json.dumps(field['default'])}" if field.get("default") is not None else ""
        needed = ", required" if name in required else ""
        cells = (f"<code>{escape(name)}</code>", escape(_type(field) + default + needed), escape(_description(field)))
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _description(field: Mapping[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).replace("`", "").split())


def _type(field: Mapping[str, Any]) -> str:
    """In words: `string or list of string`; that null may be sent for an absent field goes without saying."""
    kinds = field.get("anyOf", [field])
    names = [_kind(kind) for kind in kinds if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(names)) or "any"


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field or "const" in field:
        return " or ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return "object"
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "any"))
