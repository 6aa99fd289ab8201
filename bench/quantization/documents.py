"""Documents a model writes under the schema, and what can be said of them: valid, equal to others', right signature.

Runs the engine as users do. Knows nothing of weights or logits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_high
from typing import Any, Literal

import torch

from bench.datasets.signatures import FIELDS, SCHEMA, Task, agreement, check_signature
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.statistics import mean
from bench.replay.engine import legal_masks, with_stop
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.decode.requests.prompt import encode_prompt
from engine.request import Constraint, Request, Result, SamplingParams

MAX_TOKENS = 96
"""Above the longest expected document by half, and enough to see that a model repeats itself."""
SINGLE = 2
"""Prompts that run alone as well, for the speed of one stream."""
CONSTRAINT = Constraint.json_schema(SCHEMA)
AGREEMENTS = tuple(f"agree_{name}" for name in agreement({}, {}))


@dataclass(slots=True)
class Replayed:
    """What every variant is scored on for one prompt: token ids, and int32 masks [T, W] of what is legal."""

    prompt: list[int]
    document: list[int]
    gold: list[int]
    """The expected document."""
    document_masks: torch.Tensor
    gold_masks: torch.Tensor


@dataclass(slots=True)
class Written:
    """One format's documents, in the order of the tasks, and how it ran."""

    format: str
    device: str
    results: list[Result]
    tasks: list[Task]
    load_s: float
    tokens_per_s: float
    peak_gib: float | None
    replayed: list[Replayed] = field(default_factory=list)
    """Kept for the reference only."""


def write_documents(config: EngineConfig, tasks: Sequence[Task], name: str, *, keep: bool = False) -> Written:
    """Greedy documents for every task, in batches, then a few alone. `keep` also keeps what scoring replays."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    with Engine(config) as engine:
        load_s = time.perf_counter() - started
        engine.grammars.submit(CONSTRAINT).result()
        results = engine.generate_batch([_request(engine, task) for task in tasks])
        speed, device = _speed(engine, tasks), engine.loaded.runner.device
        # a process has one peak of memory for all formats that run on a CPU
        peak = None if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
        written = Written(name, device, results, list(tasks), load_s, speed, peak)
        if keep:
            written.replayed = [_replayed(engine, *pair) for pair in zip(tasks, results, strict=True)]
    return written


def describe(written: Written, reference: Written, bytes_per_token: int | None = None) -> dict[str, Any]:
    """Shares with intervals over prompts, then speed and memory, as plain JSON types."""
    rows = []
    for result, base, task in zip(written.results, reference.results, written.tasks, strict=True):
        row = {"valid": result.valid, "closed": result.status == "closed"}
        row |= {f"agree_{key}": equal for key, equal in agreement(result.value, base.value).items()}
        row |= {f"task_{key}": right for key, right in check_signature(result.value, task.expect).items()}
        rows.append(row)
    names = ("valid", "closed", *AGREEMENTS, *(f"task_{name}" for name in FIELDS))
    known = bytes_per_token is not None and written.device != "cpu"
    return {
        "format": written.format,
        "device": written.device,
        **{name: mean([float(row[name]) for row in rows], seed=0) for name in names},
        "tokens_per_s": round(written.tokens_per_s, 3),
        "bytes_per_token": bytes_per_token,
        "ceiling_share": bytes_per_token * written.tokens_per_s / copy_bytes_per_s("cuda") if known else None,
        "peak_gib": written.peak_gib,
        "load_s": round(written.load_s, 3),
    }


def _request(engine: Engine, task: Task) -> Request:
    """Through the model's chat template where it has one."""
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    template: Literal["chat", "raw"] = "chat" if engine.tokenizer.has_chat_template else "raw"
    return Request(prompt=task.prompt, constraint=CONSTRAINT, sampling=sampling, id=task.id, template=template)


def _speed(engine: Engine, tasks: Sequence[Task]) -> float:
    """Tokens per second of one stream while it decodes: the median over a few prompts."""
    results = [engine.generate(_request(engine, task)) for task in tasks[:SINGLE]]
    return median_high(one.usage.completion_tokens / max(one.timings_ms.decode, 1e-3) * 1e3 for one in results)


def _replayed(engine: Engine, task: Task, result: Result) -> Replayed:
    if not result.ok:
        raise RuntimeError(f"{task.id}: the reference wrote no document: {result.status} {result.error}")
    config = engine.config
    prompt = encode_prompt(
        _request(engine, task), engine.tokenizer, max_sequence=config.max_sequence, max_bytes=config.limits.prompt_bytes
    )
    gold, document = list(with_stop(engine.tokenizer, task.gold)), list(result.token_ids)
    if document[-1:] != gold[-1:]:  # whether or not the result lists the stop token
        document.append(gold[-1])
    return Replayed(prompt, document, gold, *(legal_masks(engine, CONSTRAINT, ids) for ids in (document, gold)))
