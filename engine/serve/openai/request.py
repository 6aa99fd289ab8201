"""OpenAI's request as engine requests: constraint, sampling, tools; what cannot be honoured is refused by name.

Knows what the fields of `openai_body` come to. Lowering tool schemas costs time, so callers run this off the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import RequestError, SchemaInvalid, UnknownOption
from engine.request import Constraint, Request, SamplingParams
from engine.serve.openai.body import UNSUPPORTED_CHAT, ChatBody, CompletionBody, Shared
from engine.serve.openai.messages import plain_messages
from engine.serve.openai.tool_call import Tool, read_tools, structural_tag
from engine.serve.wire.failure import ModelNotFound

MOST_PROMPTS = 512
EXTRAS = ("top_k", "min_p", "repetition_penalty", "method", "particles", "ess")


@dataclass(frozen=True, slots=True)
class Asked:
    """One engine request and the tools its text may call (none: the text is content)."""

    request: Request
    tools: tuple[Tool, ...] = ()


def chat_request(body: ChatBody, model: str) -> Asked:
    """RequestError, ConstraintError or ModelNotFound, each with the field at fault."""
    check_model(body.model, model)
    _refuse_penalties(body)
    for name in UNSUPPORTED_CHAT:
        if getattr(body, name) is not None:
            raise RequestError(f"{name} is not supported", param=name)
    if body.modalities not in (None, ["text"]):
        raise RequestError("modalities other than text are not supported", param="modalities")
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise RequestError("max_tokens and max_completion_tokens differ; give one", param="max_completion_tokens")
    document = _response_format(body)
    tools, tool_constraint = _tools(body, document)
    if tool_constraint is not None and document is not None and document.is_json:
        document = None  # a part of the tag
    constraint = _one_of(document, _structured(body), tool_constraint)
    _options_apply(body, constraint, bool(tools))
    sampling = _sampling(
        body,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    request = Request(
        messages=plain_messages(body.messages),
        schema_in_prompt=body.schema_in_prompt,
        constraint=constraint,
        sampling=sampling,
        deadline_s=body.deadline_s,
        cache_salt=body.cache_salt,
        tools=tuple(body.tools or ()) if tools else None,
    )
    return Asked(request, tools)


def prompts_of(body: CompletionBody, model: str) -> list[str]:
    """The prompts of a list, or the one; nothing here takes time. Errors as of `completion_requests`."""
    check_model(body.model, model)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise RequestError("prompt must be text or a list of texts; token ids are not supported", param="prompt")
    if len(prompts) > MOST_PROMPTS:
        raise RequestError(f"prompt has {len(prompts)} texts, over the limit of {MOST_PROMPTS}", param="prompt")
    return [str(prompt) for prompt in prompts]


def completion_requests(body: CompletionBody, prompts: list[str]) -> list[Asked]:
    """One request a prompt, always raw. RequestError or ConstraintError, each with the field at fault."""
    _refuse_penalties(body)
    for name, harmless in (("echo", (None, False)), ("suffix", (None, "")), ("best_of", (None, 1, body.n or 1))):
        if getattr(body, name) not in harmless:
            raise RequestError(f"{name} is not supported", param=name)
    constraint = _structured(body)
    _options_apply(body, constraint)
    sampling = _sampling(body, max_tokens=body.max_tokens, logprobs=body.logprobs)
    return [
        Asked(
            Request(
                prompt=prompt,
                template="raw",
                constraint=constraint,
                sampling=sampling,
                deadline_s=body.deadline_s,
                cache_salt=body.cache_salt,
            )
        )
        for prompt in prompts
    ]


def check_model(asked: str, served: str) -> None:
    """ModelNotFound unless the name is the one that /v1/models lists."""
    if asked != served:
        raise ModelNotFound(f"no model {asked[:200]!r} here; /v1/models lists {served!r}", param="model")


def _sampling(body: Shared, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    given = {name: getattr(body, name) for name in ("temperature", "top_p", "n", "seed", "stop", *EXTRAS)}
    named = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**named, max_tokens=max_tokens, logprobs=logprobs)


def _refuse_penalties(body: Shared) -> None:
    for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(body, name):
            raise RequestError(f"{name} is not supported; use repetition_penalty", param=name)


def _json_schema(body: Shared, schema: Any) -> Constraint:
    contents = body.contents is not False
    return Constraint.json_schema(schema, **_options(body), draft=body.draft, contents=contents, checks=body.checks)


def _options_apply(body: Shared, constraint: Constraint | None, has_tools: bool = False) -> None:
    if body.checks and (constraint is None or not constraint.checks):
        raise RequestError("checks need a JSON Schema (response_format, json) and no tools", param="checks")
    if has_tools or (constraint is not None and constraint.kind == "json_schema"):
        return
    for name in ("draft", "contents"):
        if getattr(body, name) is not None:
            raise RequestError(f"{name} needs a JSON Schema (response_format, json, tools)", param=name)


def _options(body: Shared) -> dict[str, Any]:
    """How schemas are written, wherever they stand."""
    return {name: getattr(body, name) for name in ("whitespace", "conformance", "require_enforced")}


_BESIDE: dict[str, type] = {"name": str, "strict": bool}
"""What stands beside a named schema and changes nothing."""


def _response_format(body: ChatBody) -> Constraint | None:
    """`strict` changes nothing: output always conforms."""
    given = body.response_format or {"type": "text"}
    kind = given.get("type")
    if kind == "structural_tag":
        return Constraint.structural_tag(given, **_options(body))
    known = {"text": {"type"}, "json_object": {"type", "schema"}, "json_schema": {"type", "schema", "json_schema"}}
    if not isinstance(kind, str) or kind not in known:
        raise RequestError(
            f"response_format.type must be text, json_object, json_schema or structural_tag, got {kind!r}",
            param="response_format",
        )
    for name in given:
        if name not in known[kind] and given[name] is not None:
            raise UnknownOption(f"unknown field response_format.{name} beside type {kind!r}", param="response_format")
    named = given.get("json_schema")
    if named is not None and not isinstance(named, Mapping):
        raise RequestError("response_format.json_schema must be an object with a schema", param="response_format")
    for name, kinds in _BESIDE.items():
        if named is not None and not isinstance(named.get(name), kinds | None):
            raise RequestError(
                f"response_format.json_schema.{name} must be a {kinds.__name__}, got {named[name]!r}",
                param="response_format",
            )
    schema = given.get("schema") if named is None else named.get("schema")
    if kind == "json_schema" and schema is None:
        raise RequestError("response_format.json_schema needs a schema", param="response_format")
    if schema is not None:
        if not isinstance(schema, Mapping | bool):
            raise RequestError("response_format's schema must be an object or a boolean", param="response_format")
        return _json_schema(body, schema)
    return Constraint.json_object(whitespace=body.whitespace) if kind == "json_object" else None


ELSEWHERE = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "ebnf",
    "guided_json_object": "json_object",
    "json_schema": "json_schema",
    "regex": "regex",
    "ebnf": "ebnf",
    "lark": "lark",
}
"""Fields beside `structured_outputs`: vLLM's older ones, SGLang's, and ours."""


def _structured(body: Shared) -> Constraint | None:
    """vLLM's `structured_outputs` and `guided_*`, SGLang's `regex`, `ebnf` and `json_schema`, our `lark`."""
    given = {f"structured_outputs.{name.rstrip('_')}": value for name, value in body.structured_outputs or ()}
    given |= {name: getattr(body, name) for name in ELSEWHERE}
    given = {name: value for name, value in given.items() if value is not None and (value or "json_object" not in name)}
    if len(given) > 1:
        raise RequestError(f"{' and '.join(given)} exclude each other; give one", param=min(given).split(".")[0])
    for name, value in given.items():
        inner = name.removeprefix("structured_outputs.")
        kind = {"json": "json_schema", "grammar": "ebnf"}.get(inner, ELSEWHERE.get(name, inner))
        if kind == "json_schema":
            return _json_schema(body, value)
        if kind == "json_object":
            return Constraint.json_object(whitespace=body.whitespace)
        options = _options(body) if kind in ("lark", "structural_tag") else {}
        made: Constraint = getattr(Constraint, kind)(value, **options)
        return made
    return None


def _one_of(*constraints: Constraint | None) -> Constraint | None:
    given = [constraint for constraint in constraints if constraint is not None]
    if len(given) > 1:
        raise RequestError(
            "response_format, structured_outputs (or another field for a constraint) and tools exclude each other; "
            "give one",
            param="response_format",
        )
    return given[0] if given else None


def _tools(body: ChatBody, document: Constraint | None) -> tuple[tuple[Tool, ...], Constraint | None]:
    """The tools the model may call, after `tool_choice`, and the constraint that makes every call well-formed.

    Where a JSON `document` is asked for too, the model writes that or calls.
    """
    declared = read_tools(body.tools or (), body.draft, contents=body.contents is not False)
    mode, names = _choice(body.tool_choice, bool(declared))
    if mode == "none" or (mode == "auto" and not declared):
        return (), None
    if not declared:
        raise RequestError(f"tool_choice {mode!r} needs tools", param="tool_choice")
    chosen = [tool for tool in declared if names is None or tool.name in names]
    missing = set(names or ()) - {tool.name for tool in chosen}
    if missing:
        raise RequestError(f"tool_choice names {', '.join(sorted(missing))}: no tool here", param="tool_choice")
    parallel = body.parallel_tool_calls is not False and mode != "named"
    schema = json.loads(document.source) if document is not None and document.is_json else None
    tag = structural_tag(chosen, required=mode != "auto", parallel=parallel, document=schema)
    return tuple(chosen), Constraint.structural_tag(tag, **_options(body))


def _choice(choice: str | dict[str, Any] | None, has_tools: bool) -> tuple[str, list[str] | None]:
    """`auto`, `required`, `none` or `named`, and the names it is limited to (None: every tool)."""
    if choice is None:
        return ("auto" if has_tools else "none"), None
    if isinstance(choice, str):
        if choice not in ("auto", "required", "none"):
            raise RequestError(f"tool_choice is {choice!r}, not auto, required or none", param="tool_choice")
        return choice, None
    function = choice.get("function")
    if choice.get("type") == "function" and isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return "named", [function["name"]]
    allowed = choice.get("allowed_tools")
    if choice.get("type") == "allowed_tools" and isinstance(allowed, Mapping):
        try:
            names = [str(tool["function"]["name"]) for tool in allowed["tools"]]
        except (KeyError, TypeError):
            raise SchemaInvalid("tool_choice.allowed_tools needs tools with names", param="tool_choice") from None
        return ("required" if allowed.get("mode") == "required" else "auto"), names
    raise RequestError("tool_choice is none of auto, required, none, function, allowed_tools", param="tool_choice")
