"""The keyword arguments of the short forms, for type checkers: `Engine(model=..., ...)`, `generate("...", schema=...)`.

The names are those of EngineConfig, and of Request, SamplingParams and Constraint; tests compare them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from engine.config import Limits, Quantization
from engine.constraint import Check, Conformance, Draft, Whitespace
from engine.request import Method
from engine.schema_source import SchemaSource


class EngineOptions(TypedDict, total=False):
    """What `Engine(...)` takes besides the model's name: the fields of EngineConfig."""

    revision: str | None
    quantization: Quantization | None
    device: str
    tokenizer: str | None
    max_batch: int
    max_sequence: int
    prefill_chunk: int
    prefix_cache_bytes: int
    cache_dir: str | Path
    limits: Limits
    overlap: bool
    launch_ahead: bool | None
    forced_runs: Literal["off", "verify"]
    threads: int | None
    cpu_dtype: Literal["float32", "bfloat16"]
    kv_cache: Literal["fp16", "fp8"]
    checks: Mapping[str, str]


class RequestOptions(TypedDict, total=False):
    """What `generate("...", ...)` takes: the fields of Request and SamplingParams, and at most one constraint."""

    schema: SchemaSource | None
    regex: str
    ebnf: str
    lark: str
    choice: Sequence[str]
    structural_tag: Mapping[str, Any] | str
    json_object: bool
    whitespace: Whitespace
    conformance: Conformance
    require_enforced: bool
    draft: Draft | None
    contents: bool
    checks: Mapping[str, Check] | None
    messages: Sequence[Mapping[str, Any]] | None
    system: str | None
    template: Literal["chat", "raw"]
    schema_in_prompt: bool
    deadline_s: float | None
    cache_salt: str | None
    tools: Sequence[Mapping[str, Any]] | None
    id: str
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int | None
    n: int
    stop: Sequence[str]
    logprobs: int | None
    method: Method
    particles: int
    ess: float
