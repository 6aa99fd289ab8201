"""A request and its result: frozen, keyword-only, checked when made. No torch, no xgrammar.

Knows field names, ranges and plain-JSON forms. Does not know how any of it is carried out.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from engine.errors import RequestError, SchemaInvalid, UnknownOption

Status = Literal["complete", "closed", "length", "invalid", "dead_end", "timeout", "cancelled", "error"]
FinishReason = Literal["stop", "length", "tool_calls", "error", "cancelled"]
ConstraintKind = Literal["json_schema", "regex", "ebnf", "lark", "choice", "structural_tag", "json_object"]
Whitespace = Literal["compact", "flexible"]
Conformance = Literal["tight", "spec"]

SUCCESSES: frozenset[str] = frozenset({"complete", "closed", "length"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """What the output must be. Build with the class methods; `source` is the canonical text that is hashed."""

    kind: ConstraintKind
    source: str
    whitespace: Whitespace = "compact"
    conformance: Conformance = "tight"
    require_enforced: bool = False

    def __post_init__(self) -> None:
        _one_of("whitespace", self.whitespace, get_args(Whitespace))
        _one_of("conformance", self.conformance, get_args(Conformance))

    @classmethod
    def json_schema(
        cls,
        schema: Mapping[str, Any] | bool | str,
        *,
        whitespace: Whitespace = "compact",
        conformance: Conformance = "tight",
        require_enforced: bool = False,
    ) -> Constraint:
        """A JSON Schema as a dict, a bool or JSON text. Key order is kept: it decides the order of the output."""
        return cls(
            kind="json_schema",
            source=_canonical_json(schema, "schema"),
            whitespace=whitespace,
            conformance=conformance,
            require_enforced=require_enforced,
        )

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """The whole text matches this ECMA-262 pattern (as if anchored on both sides)."""
        return cls(kind="regex", source=_text("regex", pattern))

    @classmethod
    def ebnf(cls, grammar: str) -> Constraint:
        """XGrammar's EBNF dialect; the rule `root` derives the text."""
        return cls(kind="ebnf", source=_text("ebnf", grammar))

    @classmethod
    def lark(cls, grammar: str) -> Constraint:
        """A Lark grammar; the rule `start` derives the text."""
        return cls(kind="lark", source=_text("lark", grammar))

    @classmethod
    def choice(cls, options: Sequence[str]) -> Constraint:
        """Exactly one of these texts."""
        if isinstance(options, str) or not options or not all(isinstance(o, str) and o for o in options):
            raise RequestError("choice needs a list of at least one non-empty string", param="choice")
        return cls(kind="choice", source=json.dumps(list(dict.fromkeys(options)), ensure_ascii=False))

    @classmethod
    def structural_tag(cls, tag: Mapping[str, Any] | str) -> Constraint:
        """An XGrammar structural tag (free text with constrained parts)."""
        return cls(kind="structural_tag", source=_canonical_json(tag, "structural_tag"))

    @classmethod
    def json_object(cls, *, whitespace: Whitespace = "compact") -> Constraint:
        """Any JSON object."""
        return cls(kind="json_object", source='{"type":"object"}', whitespace=whitespace, conformance="spec")

    @property
    def is_json(self) -> bool:
        """Whether the whole text is one JSON document."""
        return self.kind in ("json_schema", "json_object")

    @property
    def key(self) -> str:
        """sha256 over kind, source and options; equal keys compile to the same grammar."""
        parts = [self.kind, self.source, self.whitespace, self.conformance]
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def schema_hash(self) -> str:
        """sha256 of the source alone, for people: the schema as minified JSON with its key order kept."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How tokens are drawn. `max_tokens=None` is what the context leaves; `temperature=0` is greedy."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives per token to report beside the sampled one; None reports nothing."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        else:
            object.__setattr__(self, "stop", tuple(self.stop or ()))
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, None)
        _number("temperature", self.temperature, 0.0, 100.0)
        _number("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _integer("top_k", self.top_k, 0, None)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_low=True)
        if self.seed is not None:
            _integer("seed", self.seed, -(2**63), 2**64 - 1)
        _integer("n", self.n, 1, 128)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, 0, 20)
        if not all(isinstance(s, str) and s for s in self.stop):
            raise RequestError("stop needs non-empty strings", param="stop")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SamplingParams:
        """Build from plain names, refusing those nobody reads."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise UnknownOption(f"unknown sampling parameter {name!r}; known: {', '.join(sorted(known))}", param=name)
        return cls(**values)


SAMPLING_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(SamplingParams))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt and what its answer must be. `prompt` is one user message; `messages` a whole conversation."""

    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    system: str | None = None
    template: Literal["chat", "raw"] = "chat"
    schema_in_prompt: bool = False
    constraint: Constraint | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    deadline_s: float | None = None
    cache_salt: str | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    """Tool declarations shown to the model by its chat template; they constrain nothing by themselves."""
    id: str = field(default_factory=lambda: "req-" + secrets.token_hex(8))

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("give exactly one of prompt and messages", param="prompt")
        if self.prompt is not None:
            _check_prompt(self.prompt)
        if self.messages is not None:
            object.__setattr__(self, "messages", _check_messages(self.messages))
        if self.system is not None and self.messages is not None:
            raise RequestError("system stands beside messages; put it into messages as the first one", param="system")
        _one_of("template", self.template, ("chat", "raw"))
        if self.template == "raw" and (self.messages is not None or self.system is not None or self.schema_in_prompt):
            raise RequestError(
                "template 'raw' sends the prompt untouched: messages, system and schema_in_prompt need 'chat'",
                param="template",
            )
        if self.schema_in_prompt and (self.constraint is None or self.constraint.kind != "json_schema"):
            raise RequestError("schema_in_prompt needs a JSON Schema constraint", param="schema_in_prompt")
        if self.sampling.stop and self.constraint is not None and self.constraint.kind != "structural_tag":
            raise RequestError(
                f"stop acts in free text; with a {self.constraint.kind} constraint the grammar ends the text",
                param="stop",
            )
        if self.deadline_s is not None:
            _number("deadline_s", self.deadline_s, 0.0, 86_400.0, open_low=True)
        if not isinstance(self.id, str) or not self.id:
            raise RequestError("id must be a non-empty string", param="id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Token counts; `forced_tokens` are part of `completion_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    forced_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Wall milliseconds of one request by phase; `mask_exposed` is the part of the mask that lengthened steps."""

    queue: float = 0.0
    compile: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    mask_fill: float = 0.0
    mask_exposed: float = 0.0
    detokenize: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a request. Valid whenever `status` is `complete` or `closed`."""

    id: str
    status: Status
    finish_reason: FinishReason
    valid: bool = False
    text: str = ""
    value: Any = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[dict[str, Any], ...] | None = None
    """Per token: `{token_id, token, raw, constrained, top: [{token_id, token, raw, constrained}]}`."""
    mean_logprob: float | None = None
    """Mean constrained log-probability of the completion's tokens."""
    usage: Usage = field(default_factory=Usage)
    timings_ms: Timings = field(default_factory=Timings)
    schema_hash: str | None = None
    grammar_source: Literal["memory", "disk", "compiled"] | None = None
    verdicts: Mapping[str, int] | None = None
    seed: int | None = None
    samples: tuple[Result, ...] = ()
    prompt_sha256: str | None = None
    model: str = ""
    quantization: str = ""
    engine_version: str = ""
    gpu_seconds: float = 0.0
    device: str = ""
    created: float = 0.0
    error: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return self.status in SUCCESSES

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types. `error` is absent on success, `samples` when n was 1; non-finite logprobs become null."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["usage"] = asdict(self.usage)
        plain["timings_ms"] = {name: round(ms, 3) for name, ms in asdict(self.timings_ms).items()}
        plain["token_ids"] = list(self.token_ids)
        plain["logprobs"] = None if self.logprobs is None else [_finite(entry) for entry in self.logprobs]
        plain["verdicts"] = None if self.verdicts is None else dict(self.verdicts)
        plain["mean_logprob"] = _finite(self.mean_logprob)
        plain["samples"] = [sample.to_dict() for sample in self.samples]
        if not self.samples:
            del plain["samples"]
        if self.error is None:
            del plain["error"]
        else:
            plain["error"] = dict(self.error)
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def _canonical_json(value: Any, param: str) -> str:
    """Minified JSON with key order kept; text is parsed first (the last of duplicate keys wins, NaN is refused)."""
    try:
        if isinstance(value, str | bytes):
            value = json.loads(value, parse_constant=_refuse_constant)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise SchemaInvalid(f"{param} is nested too deeply to read", param=param) from None
    except (ValueError, TypeError) as error:
        raise SchemaInvalid(f"{param} is not JSON: {error}", param=param) from None
    if not isinstance(value, Mapping | bool):
        raise SchemaInvalid(f"{param} must be a JSON object or a boolean, got {type(value).__name__}", param=param)
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _text(param: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise SchemaInvalid(f"{param} must be a non-empty string", param=param)
    return value


def _check_prompt(prompt: str) -> None:
    if not isinstance(prompt, str):
        raise RequestError(f"prompt must be a string, got {type(prompt).__name__}", param="prompt")
    if not prompt:
        raise RequestError("prompt is empty", param="prompt")
    _encodable(prompt, "prompt")


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    if isinstance(messages, str | Mapping) or not messages:
        raise RequestError("messages needs a list of at least one message", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise RequestError(f"messages[{index}] needs a role and a content", param="messages")
        content = message.get("content")
        if isinstance(content, str):
            _encodable(content, f"messages[{index}].content")
        elif content is None and "tool_calls" not in message:
            raise RequestError(f"messages[{index}] has no content", param="messages")
    return tuple(dict(message) for message in messages)


def _encodable(text: str, param: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(f"{param} holds a lone surrogate at character {error.start}", param=param) from None


def _one_of(param: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise RequestError(f"{param} must be one of {', '.join(allowed)}, got {value!r}", param=param)


def _integer(param: str, value: Any, low: int | None, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{param} must be an integer, got {value!r}", param=param)
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise RequestError(f"{param} must be {bounds}, got {value}", param=param)


def _number(param: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{param} must be a finite number, got {value!r}", param=param)
    if value < low or value > high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise RequestError(f"{param} must be in {bracket}{low:g}, {high:g}], got {value:g}", param=param)
