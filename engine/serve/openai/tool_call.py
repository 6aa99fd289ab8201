"""Qwen3-Coder's tool calls: the structural tag that constrains them, and what a judged text of it says.

    <tool_call>
    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>
    </tool_call>

A call's parameters are a schema in the style `qwen_xml` (`engine.schema`). Knows what stands around them. Does not know
HTTP.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.constraint import Draft, in_draft, with_contents
from engine.errors import ConstraintError, SchemaInvalid

Format = dict[str, Any]
Schema = Mapping[str, Any]
Arguments = Mapping[int, tuple[int, Mapping[str, Any]]]
OPEN, CLOSE = "<tool_call>\n<function=", "</function>\n</tool_call>"
BEGIN = re.compile(r"<tool_call>\n<function=([^>\n]+)>\n")
SCHEMA_PLACE = re.compile(r"/format(?:/elements/1)?/tags/(\d+)/content/json_schema")
DOCUMENT_PLACE = "/format/elements/0/json_schema"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MARK = "<tool_call>"

NOTHING: Schema = {"type": "object", "additionalProperties": False}
"""What a function without `parameters` takes."""


@dataclass(frozen=True)
class Tool:
    """One declared function; `parameters` is a JSON Schema of an object. `index`: its place in the request."""

    name: str
    parameters: Schema = field(default_factory=lambda: NOTHING)
    index: int = 0

    @property
    def format(self) -> Format:
        """Its parameters as the format of a structural tag."""
        return {"type": "json_schema", "json_schema": dict(self.parameters), "style": "qwen_xml"}


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


def structural_tag(
    tools: Sequence[Tool], *, required: bool, parallel: bool, document: Schema | bool | None = None
) -> Format:
    """Free text with calls in it; (`required`) calls and nothing else; (`document`, a schema) a document or calls."""
    tags, stop = [_call(tool) for tool in tools], {"stop_after_first": not parallel}
    calls: Format = {"type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True, **stop}
    if required:
        shape = calls
    elif document is not None:
        shape = {"type": "or", "elements": [{"type": "json_schema", "json_schema": document}, calls]}
    else:
        shape = {"type": "triggered_tags", "triggers": [OPEN], "tags": tags, "at_least_one": False, **stop}
    return {"type": "structural_tag", "format": shape}


@contextmanager
def naming_tools(tools: Sequence[Tool]) -> Iterator[None]:
    """A refused schema inside `structural_tag` is told as the tool's, or the response format's, that it belongs to."""
    try:
        yield
    except ConstraintError as error:
        if tools and (error.pointer or "").startswith(DOCUMENT_PLACE):
            pointer = (error.pointer or "").removeprefix(DOCUMENT_PLACE)
            raise type(error)(error.message, param="response_format", pointer=pointer) from None
        place = SCHEMA_PLACE.match(error.pointer or "")
        if place is None or int(place[1]) >= len(tools):
            raise
        index = tools[int(place[1])].index
        pointer = f"/{index}/function/parameters{(error.pointer or '').removeprefix(place[0])}"
        message = f"tools[{index}].parameters: {error.message}"
        raise type(error)(message, param="tools", pointer=pointer) from None


def read_calls(text: str, arguments: Arguments) -> tuple[str, list[ToolCall]]:
    """The text before the first call, and the calls. `arguments`: what the judge read in the text."""
    calls: list[ToolCall] = []
    before, end = text, 0
    while (match := BEGIN.search(text, end)) is not None:
        if match.end() not in arguments:
            end = match.end()
            continue
        if not calls:
            before = text[: match.start()].rstrip()
        end, meant = arguments[match.end()]
        calls.append(ToolCall(match[1], meant, "call_" + secrets.token_hex(12)))
    return before, calls


def _call(tool: Tool) -> Format:
    return {"type": "tag", "begin": f"{OPEN}{tool.name}>\n", "content": tool.format, "end": CLOSE}


def read_tools(
    declared: Sequence[Mapping[str, Any]], draft: Draft | None = None, *, contents: bool = True
) -> list[Tool]:
    """OpenAI's `tools` as Tools, their schemas in `draft` where they name none; `contents` as in `json_schema`.

    SchemaInvalid names the position and what is wrong; what is wrong inside a schema, `naming_tools` tells later.
    """
    tools = []
    for index, tool in enumerate(declared):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type") != "function":
            raise SchemaInvalid(
                f"tools[{index}] must be {{'type': 'function', 'function': {{'name': ...}}}}", param="tools"
            )
        name, parameters = function.get("name"), function.get("parameters") or NOTHING
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise SchemaInvalid(f"tools[{index}] has no usable name: {name!r}", param="tools")
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise SchemaInvalid(f"tools[{index}].parameters must be the schema of an object", param="tools")
        tools.append(Tool(name, with_contents(in_draft(parameters, draft), contents), index))
    if len({tool.name for tool in tools}) < len(tools):
        raise SchemaInvalid("two tools have the same name", param="tools")
    return tools
