"""A request: frozen, keyword-only, checked when made. No torch, no xgrammar."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from engine.constraint import (
    CONSTRAINT_FIELDS,
    SCHEMA_OPTIONS,
    Conformance,
    Constraint,
    ConstraintKind,
    Whitespace,
)
from engine.errors import RequestError, UnknownOption
from engine.fields import Range, check_fields
from engine.plain_json import check_json, check_text
from engine.result import SUCCESSES, FinishReason, Result, Status, Timings, Usage

__all__ = [
    "SAMPLING_FIELDS",
    "SUCCESSES",
    "Conformance",
    "Constraint",
    "ConstraintKind",
    "FinishReason",
    "Request",
    "Result",
    "SamplingParams",
    "Status",
    "Timings",
    "Usage",
    "Whitespace",
]


Method = Literal["mask", "smc", "rejection"]
_NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop": ()}
LONGEST_ID, LONGEST_SALT = 200, 1_000
"""Characters."""
MOST_STOPS, LONGEST_STOP = 64, 1_000
"""Every step looks for each of them in the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How tokens are drawn. `max_tokens=None` is what the context leaves; `temperature=0` is greedy."""

    max_tokens: Annotated[int, Range(1)] | None = None
    temperature: Annotated[float, Range(0, 100)] = 1.0
    top_p: Annotated[float, Range(0, 1, open_low=True)] = 1.0
    top_k: Annotated[int, Range(0)] = 0
    min_p: Annotated[float, Range(0, 1)] = 0.0
    repetition_penalty: Annotated[float, Range(0, 100, open_low=True)] = 1.0
    seed: Annotated[int, Range(-(2**63), 2**64 - 1)] | None = None
    n: Annotated[int, Range(1, 128)] = 1
    stop: Sequence[str] = ()
    """One text may be given alone."""
    logprobs: Annotated[int, Range(0, 20)] | None = None
    """How many alternatives per token to report beside the sampled one; None reports nothing."""
    method: Method = "mask"
    """`mask` draws each token among the legal ones; `smc` and `rejection` draw the whole text from the model's own
    distribution, given that it is valid."""
    particles: Annotated[int, Range(1, 1024)] = 32
    """Of `smc`: texts that are written side by side."""
    ess: Annotated[float, Range(0, 1)] = 0.5
    """Of `smc`: they are resampled where the effective sample size falls below this part of `particles`."""

    def __post_init__(self) -> None:
        if self.stop is None or isinstance(self.stop, str):
            object.__setattr__(self, "stop", () if self.stop is None else (self.stop,))
        check_fields(self)
        if len(self.stop) > MOST_STOPS:
            raise RequestError(f"stop has {len(self.stop)} texts, over the limit of {MOST_STOPS}", param="stop")
        if not all(self.stop):
            raise RequestError("stop needs non-empty strings", param="stop")
        for one in self.stop:
            check_text("stop", one, longest=LONGEST_STOP)
        self._check_method()

    def _check_method(self) -> None:
        """What `smc` and `rejection` draw from must be the model's own distribution."""
        if self.method != "smc":
            for name, default in (("particles", 32), ("ess", 0.5)):
                if getattr(self, name) != default:
                    raise RequestError(f"{name} is for method 'smc', not {self.method!r}", param=name)
        elif self.n > self.particles:
            raise RequestError(f"n is {self.n}, and the samples are drawn from {self.particles} particles", param="n")
        if self.method == "mask":
            return
        for name, neutral in _NEUTRAL.items():
            if getattr(self, name) != neutral:
                raise RequestError(
                    f"{name} changes the distribution that method {self.method!r} draws from; leave it away", param=name
                )
        if self.temperature == 0:
            raise RequestError(f"method {self.method!r} needs a temperature above 0", param="temperature")
        if self.method == "rejection" and self.logprobs is not None:
            raise RequestError("logprobs are not reported with method 'rejection'", param="logprobs")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SamplingParams:
        """Build from plain names, refusing those nobody reads."""
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise UnknownOption(
                    f"unknown sampling parameter {name!r}; known: {', '.join(sorted(known))}", param=name
                )
        return cls(**values)


SAMPLING_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(SamplingParams))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt and what its answer must be. `prompt` is one user message; `messages` a whole conversation."""

    prompt: str | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    system: str | None = None
    template: Literal["chat", "raw"] = "chat"
    schema_in_prompt: bool = False
    constraint: Constraint | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    deadline_s: Annotated[float, Range(0, 86_400, open_low=True)] | None = None
    cache_salt: str | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    """Tool declarations shown to the model by its chat template; they constrain nothing by themselves."""
    id: str = field(default_factory=lambda: "req-" + secrets.token_hex(8))

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("give exactly one of prompt and messages", param="prompt")
        if self.prompt is not None:
            _check_prompt(self.prompt)
        if self.messages is not None:
            object.__setattr__(self, "messages", _check_messages(self.messages))
        if self.system is not None:
            check_text("system", self.system)
        if self.tools is not None:
            check_json("tools", self.tools)
        if self.cache_salt is not None:
            check_text("cache_salt", self.cache_salt, longest=LONGEST_SALT)
        if self.system is not None and self.messages is not None:
            raise RequestError("system stands beside messages; put it into messages as the first one", param="system")
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
        if self.sampling.method != "mask" and self.constraint is None:
            raise RequestError(f"method {self.sampling.method!r} needs a constraint", param="method")
        if not self.id:
            raise RequestError("id must be a non-empty string", param="id")
        check_text("id", self.id, longest=LONGEST_ID)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Request:
        """The request that plain values describe: its own fields, those of SamplingParams, and one constraint.

        A field that is None counts as absent. Raises RequestError that names the field at fault.
        """
        for name in values:
            if name not in _PLAIN_FIELDS:
                raise UnknownOption(f"unknown field {name!r}; known: {', '.join(sorted(_PLAIN_FIELDS))}", param=name)
        given = {name: value for name, value in values.items() if value is not None}
        own = {name: given[name] for name in _OWN_FIELDS if name in given}
        sampling = {name: given[name] for name in SAMPLING_FIELDS if name in given}
        return cls(**own, constraint=Constraint.from_mapping(given), sampling=SamplingParams(**sampling))


_OWN_FIELDS = tuple(f.name for f in fields(Request) if f.name not in ("constraint", "sampling"))
_PLAIN_FIELDS = frozenset((*_OWN_FIELDS, *SAMPLING_FIELDS, *CONSTRAINT_FIELDS, *SCHEMA_OPTIONS))


def _check_prompt(prompt: str) -> None:
    check_text("prompt", prompt)
    if not prompt:
        raise RequestError("prompt is empty", param="prompt")


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    if not messages:
        raise RequestError("messages needs a list of at least one message", param="messages")
    check_json("messages", messages)
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message.get("role"), str):
            raise RequestError(f"{place} needs a role and a content", param="messages", pointer=f"/{index}")
        calls = message.get("tool_calls")
        if not isinstance(calls, list | tuple | None) or not all(isinstance(call, Mapping) for call in calls or ()):
            raise RequestError(
                f"{place}.tool_calls must be a list of objects", param="messages", pointer=f"/{index}/tool_calls"
            )
        content = message.get("content")
        if content is None and not calls:
            raise RequestError(f"{place} has no content", param="messages", pointer=f"/{index}/content")
        if not isinstance(content, str | list | tuple | None):
            kind = type(content).__name__
            raise RequestError(
                f"{place}.content must be text or parts, got {kind}", param="messages", pointer=f"/{index}/content"
            )
    return tuple(
        {**message, "content": "" if message.get("content") is None else message["content"]} for message in messages
    )
