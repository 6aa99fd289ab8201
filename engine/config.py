"""What an engine is made of, frozen. The only place where environment variables become settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from engine.errors import RequestError, UnknownOption
from engine.fields import Range, check_fields

Quantization = Literal["bf16", "int8", "nf4", "nf4-dq", "fp4", "int4", "nl4"]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)

EMBEDDED_MODEL = "smollm2-135m"
PRODUCT_MODEL = "Qwen/Qwen3-Coder-30B-A3B-Instruct"
PRODUCT_REVISION = "b2cff646eb4bb1d68355c01b18ae02e7cf42d120"
"""Commit of the model repository; raising it is described in docs/maintaining.md."""
NEXT_MODEL = "Qwen/Qwen3-Coder-Next"
PINNED = {PRODUCT_MODEL: PRODUCT_REVISION, NEXT_MODEL: "a7fbcb5c0e12d62a448eaa0e260346bf5dcc0feb"}
"""The revision a hub model has when none is named; any other has what the hub gives."""

Count = Annotated[int, Range(1)]
Size = Annotated[int, Range(0)]
Seconds = Annotated[float, Range(0, open_low=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may cost. Over a limit: a typed error that names it. Bad values are a RequestError."""

    schema_bytes: Count = 1 << 20
    schema_depth: Count = 128
    schema_nodes: Count = 50_000
    grammar_rules: Count = 30_000
    compile_s: Seconds = 10.0
    """CPU time of one constraint's lowering and compiling; who else computes meanwhile does not count."""
    judge_s: Seconds = 2.0
    """CPU time in which a document must be judged, all looks at its parts together."""
    check_s: Seconds = 1.0
    """Time in which one check of the caller's own must answer."""
    compile_memory_bytes: Count = 2 << 30
    prompt_bytes: Count = 4 << 20
    queue: Size = 64
    retries: Size = 3
    """Times a row may roll back over a failed `checked` keyword before it is `invalid`."""
    proposed_tokens: Count = 20_000
    """Tokens that method "rejection" may draw for one text, those of rejected proposals included."""
    string_chars: Count = 65_536
    """Run-away guards: a JSON document whose string (an escape is one character), number or array outgrows its guard is
    `closed` there."""
    number_chars: Count = 96
    """No less than what the schema front end lets a number have: 64 digits, 24 decimals, an exponent."""
    array_items: Count = 10_000

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Settings of one engine; unknown names are a TypeError, bad values a RequestError that names the field."""

    model: str = EMBEDDED_MODEL
    revision: str | None = None
    """None: the project's pinned one, where it pins the model; empty: what the hub gives."""
    quantization: Quantization | None = None
    """None: bf16 on a GPU, fp32 on a CPU; an engine checkpoint keeps its own."""
    device: str = "auto"
    tokenizer: str | None = None
    """Folder or tokenizer.json; None: the model's own."""
    max_batch: Count = 8
    max_sequence: Count = 8192
    prefill_chunk: Count = 512
    kv_cache: Literal["fp16", "fp8"] = "fp16"
    """What keys and values are kept in; fp8 takes half the bytes (e4m3, a scale a head). On a CPU fp16 stands for the
    numbers that the forward computes with."""
    prefix_cache_bytes: Size = 512 << 20
    """Memory for shared prompt prefixes; 0 switches their reuse off."""
    cache_dir: str | Path = field(default_factory=lambda: default_cache_dir())
    limits: Limits = field(default_factory=Limits)
    overlap: bool = True
    """Fill masks while the forward runs. Off only to measure what it hides."""
    launch_ahead: bool | None = None
    """Start a forward before the host has seen the token it starts from; None: on a GPU only."""
    forced_runs: Literal["off", "verify"] = "verify"
    threads: Annotated[int, Range(1, 1024)] | None = None
    """CPU threads of the forward; None: what torch chooses. Some tens of thousands end the process in OpenMP."""
    cpu_dtype: Literal["float32", "bfloat16"] = "float32"
    checks: Mapping[str, str] = field(default_factory=lambda: checks_by_name(os.environ.get("MASKLOOP_CHECKS", "")))
    """By name, the checks (`module:function`) that requests may ask for; without it those of `MASKLOOP_CHECKS`."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name, target in self.checks.items():
            if not isinstance(name, str) or not name or not isinstance(target, str) or not _TARGET.fullmatch(target):
                raise RequestError(
                    f"checks: {name!r} names {target!r}; a check is registered as NAME=MODULE:FUNCTION", param="checks"
                )

    @property
    def cache_folder(self) -> Path:
        """`cache_dir` as a path."""
        return Path(self.cache_dir)

    @classmethod
    def from_mapping(cls, settings: dict[str, Any]) -> EngineConfig:
        """Build from plain names, refusing those nobody reads."""
        known = {f.name for f in fields(cls)}
        for name in settings:
            if name not in known:
                raise UnknownOption(f"unknown engine setting {name!r}; known: {', '.join(sorted(known))}", param=name)
        return cls(**settings)


_TARGET = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def checks_by_name(text: str, param: str = "MASKLOOP_CHECKS") -> dict[str, str]:
    """`NAME=MODULE:FUNCTION`, several with commas between them. RequestError where one is something else."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, target = map(str.strip, part.partition("="))
        if not name or not _TARGET.fullmatch(target):
            raise RequestError(f"{param}: a check is registered as NAME=MODULE:FUNCTION, got {part!r}", param=param)
        if found.setdefault(name, target) != target:
            raise RequestError(f"{param}: the check {name!r} is registered twice", param=param)
    return found


def default_cache_dir() -> Path:
    """`MASKLOOP_CACHE`, else `$XDG_CACHE_HOME/maskloop`, else `~/.cache/maskloop`."""
    named = os.environ.get("MASKLOOP_CACHE")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskloop"
    except RuntimeError:
        raise RequestError("the cache folder: this user has no home; set MASKLOOP_CACHE", param="cache_dir") from None
