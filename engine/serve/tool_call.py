"""Qwen3-Coder's tool calls: the structural tag that constrains them, and the parser that reads them back.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

A string parameter is written as it is, everything else as JSON (`tool_value`). Knows the format. Does not know HTTP.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ConstraintError, SchemaInvalid
from engine.schema import JsonInvalid, Validator, parse_json
from engine.serve.tool_value import Format, Schema, is_string, value_format

OPEN, CLOSE = "<tool_call>\n<function=", "</function>\n</tool_call>"
PARAMETER_END = "\n</parameter>\n"
CALL = re.compile(r"<tool_call>\n<function=([^>\n]+)>\n(.*?)</function>\n</tool_call>", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>\n", re.DOTALL)
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MARK = "<tool_call>"

SHARED = ("$defs", "definitions", "$schema")
"""What a parameter's schema may need of the schema around it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One declared function; `parameters` is a JSON Schema of an object."""

    name: str
    parameters: Schema = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Any]:
        declared = self.parameters.get("properties")
        return declared if isinstance(declared, Mapping) else {}

    def schema_of(self, key: str) -> Any:
        """The parameter's schema with the definitions it may refer to, able to stand alone."""
        schema = self.properties[key]
        if not isinstance(schema, Mapping):
            return schema
        shared = {name: self.parameters[name] for name in SHARED if name in self.parameters}
        return {**shared, **schema}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model made it; `arguments` is a JSON object."""

    name: str
    arguments: Mapping[str, Any]
    id: str

    def to_dict(self) -> dict[str, Any]:
        """OpenAI's form: arguments as JSON text."""
        text = json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": text}}


class BadCall(ValueError):
    """A call that does not satisfy its tool's schema. `pointer` stands in the arguments."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


def structural_tag(tools: Sequence[Tool], *, required: bool, parallel: bool) -> Format:
    """Free text with calls in it, or (`required`) calls and nothing else. ConstraintError names the tool at fault."""
    tags = [_call(tool) for tool in tools]
    if required:
        shape: Format = {"type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True}
    else:
        shape = {"type": "triggered_tags", "triggers": [OPEN], "tags": tags, "at_least_one": False}
    return {"type": "structural_tag", "format": {**shape, "stop_after_first": not parallel}}


def read_calls(text: str, tools: Sequence[Tool]) -> tuple[str, list[ToolCall]]:
    """The text before the first call, and the calls, each judged by its tool's schema. Raises BadCall."""
    start = text.find(MARK)
    if start < 0:
        return text, []
    by_name = {tool.name: tool for tool in tools}
    calls = [_read(match, by_name) for match in CALL.finditer(text, start)]
    return text[:start].rstrip(), calls


def _call(tool: Tool) -> Format:
    required = tool.parameters.get("required") or ()
    elements = []
    for key in tool.properties:
        content = value_format(f"tool {tool.name!r}, parameter {key!r}", tool.schema_of(key), tool.parameters)
        tag = {"type": "tag", "begin": f"<parameter={key}>\n", "content": content, "end": PARAMETER_END}
        elements.append(tag if key in required else {"type": "optional", "content": tag})
    inside: Format = {"type": "sequence", "elements": elements}
    if not elements:
        inside = {"type": "const_string", "value": ""}
    return {"type": "tag", "begin": f"{OPEN}{tool.name}>\n", "content": inside, "end": CLOSE}


def _read(match: re.Match[str], tools: Mapping[str, Tool]) -> ToolCall:
    tool = tools.get(match[1])
    if tool is None:
        raise BadCall(f"the model called {match[1]!r}, which is not among the tools")
    arguments = {key: _argument(tool, key, text) for key, text in PARAMETER.findall(match[2])}
    checked = Validator(dict(tool.parameters) or {"type": "object"}).check_value(arguments)
    if not checked.ok:
        raise BadCall(f"the call of {tool.name!r} fails its schema: {checked.message}", checked.pointer or "")
    return ToolCall(tool.name, arguments, "call_" + secrets.token_hex(12))


def _argument(tool: Tool, key: str, text: str) -> Any:
    """The value a parameter's text stands for: itself for strings, JSON where only JSON satisfies the schema."""
    if key not in tool.properties:
        return text
    schema = tool.schema_of(key)
    judge = Validator(schema)
    if is_string(schema) and judge.check_value(text).ok:
        return text
    try:
        value = parse_json(text)
    except JsonInvalid:
        return text
    return value if judge.check_value(value).ok else text


def read_tools(declared: Sequence[Mapping[str, Any]]) -> list[Tool]:
    """OpenAI's `tools` as Tools. SchemaInvalid names the position and what is wrong."""
    tools = []
    for index, tool in enumerate(declared):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type") != "function":
            raise SchemaInvalid(f"tools[{index}] must be of type 'function'", param="tools")
        name, parameters = function.get("name"), function.get("parameters") or {}
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise SchemaInvalid(f"tools[{index}] has no usable name: {name!r}", param="tools")
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise SchemaInvalid(f"tools[{index}].parameters must be the schema of an object", param="tools")
        _check(parameters, f"tools[{index}].parameters", f"/{index}/function/parameters")
        tools.append(Tool(name, parameters))
    if len({tool.name for tool in tools}) < len(tools):
        raise SchemaInvalid("two tools have the same name", param="tools")
    return tools


def _check(schema: Mapping[str, Any], place: str, pointer: str) -> None:
    """Refuse what is no JSON Schema, as a schema of its own is; the pointer leads into `tools`."""
    try:
        Validator(dict(schema))
    except ConstraintError as error:
        raise type(error)(f"{place}: {error.message}", param="tools", pointer=pointer + (error.pointer or "")) from None
