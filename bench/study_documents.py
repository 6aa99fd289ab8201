"""Documents a model writes under the schema, and what can be said of them: valid, equal to others', right signature.

Runs the engine as users do. Knows nothing of weights or logits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from bench.bootstrap import ratio
from bench.signature import FIELDS, SCHEMA, Task, agreement, check_signature
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.decode.prompt import encode_prompt
from engine.grammar import Matcher
from engine.request import Constraint, Request, Result, SamplingParams

MAX_TOKENS = 96
SINGLE = 2
"""Prompts that run alone as well, for the speed of one stream."""
CONSTRAINT = Constraint.json_schema(SCHEMA)


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
    prompts: list[list[int]] = field(default_factory=list)
    """Token ids of the prompts; kept for the reference only, with what follows."""
    golds: list[list[int]] = field(default_factory=list)
    masks: list[list[Any]] = field(default_factory=list)
    """Per task two int32 arrays [T, W]: what is legal at every token of its document and of the expected one."""


def write_documents(config: EngineConfig, tasks: Sequence[Task], name: str, *, keep: bool = False) -> Written:
    """Greedy documents for every task, in batches, then a few alone. `keep` also keeps what scoring replays."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    with Engine(config) as engine:
        load_s = time.perf_counter() - started
        engine.grammars.submit(CONSTRAINT).result()
        results = engine.generate_batch([_request(engine, task) for task in tasks])
        written = Written(name, _device(engine), results, list(tasks), load_s, _speed(engine, tasks), _peak(engine))
        if keep:
            _keep(engine, written)
    return written


def describe(written: Written, reference: Written, bytes_per_token: int | None = None) -> dict[str, Any]:
    """Shares with intervals over prompts, then speed and memory, as plain JSON types."""
    rows = []
    for result, base, task in zip(written.results, reference.results, written.tasks, strict=True):
        row = {"valid": result.valid, "closed": result.status == "closed"}
        row |= {f"agree_{key}": equal for key, equal in agreement(result.value, base.value).items()}
        row |= {f"task_{key}": right for key, right in check_signature(result.value, task.expect).items()}
        rows.append(row)
    shares = {
        name: ratio([float(row[name]) for row in rows], [1.0] * len(rows), seed=0).to_list()
        for name in ("valid", "closed", *_agreements(), *(f"task_{name}" for name in FIELDS))
    }
    ceiling = _copy_bandwidth() if written.device != "cpu" else None
    used = None if bytes_per_token is None else bytes_per_token * written.tokens_per_s
    return {
        "format": written.format,
        "device": written.device,
        **shares,
        "tokens_per_s": round(written.tokens_per_s, 3),
        "bytes_per_token": bytes_per_token,
        "ceiling_share": None if ceiling is None or used is None else used / ceiling,
        "peak_gib": written.peak_gib,
        "load_s": round(written.load_s, 3),
    }


def _agreements() -> list[str]:
    return [f"agree_{name}" for name in agreement({}, {})]


def _request(engine: Engine, task: Task) -> Request:
    """Through the model's chat template where it has one."""
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    template: Literal["chat", "raw"] = "chat" if engine.tokenizer.has_chat_template else "raw"
    return Request(prompt=task.prompt, constraint=CONSTRAINT, sampling=sampling, id=task.id, template=template)


def _speed(engine: Engine, tasks: Sequence[Task]) -> float:
    """Tokens per second of one stream while it decodes: the median over a few prompts."""
    rates = []
    for task in tasks[:SINGLE]:
        result = engine.generate(_request(engine, task))
        rates.append(result.usage.completion_tokens / max(result.timings_ms.decode, 1e-3) * 1e3)
    return sorted(rates)[len(rates) // 2]


def _keep(engine: Engine, written: Written) -> None:
    grammar = engine.grammars.submit(CONSTRAINT).result()
    stop = engine.tokenizer.stop_token_ids[0]
    for task, result in zip(written.tasks, written.results, strict=True):
        if not result.ok:
            raise RuntimeError(f"{task.id}: the reference wrote no document: {result.status} {result.error}")
        gold = [*engine.tokenizer.encode(task.gold), stop]
        written.prompts.append(_prompt_ids(engine, task))
        written.golds.append(gold)
        written.masks.append([_masks(Matcher(grammar), ids) for ids in (document_ids(result, stop), gold)])


def document_ids(result: Result, stop: int) -> list[int]:
    """The document's tokens with the stop token last, whether or not the result lists it."""
    ids = list(result.token_ids)
    return ids if ids and ids[-1] == stop else [*ids, stop]


def _prompt_ids(engine: Engine, task: Task) -> list[int]:
    config = engine.config
    return encode_prompt(
        _request(engine, task),
        engine.tokenizer,
        max_sequence=config.max_sequence,
        max_bytes=config.limits.prompt_bytes,
    )


def _masks(matcher: Matcher, ids: Sequence[int]) -> torch.Tensor:
    """int32 [T, W]; every token must be legal where it stands."""
    words = (matcher.grammar.vocabulary.size + 31) // 32
    masks = torch.empty(len(ids), words, dtype=torch.int32)
    for place, token in enumerate(ids):
        matcher.fill(masks, place)
        if not matcher.accept(token):
            raise RuntimeError(f"token {place} of a document that replays is not legal")
    return masks


def _device(engine: Engine) -> str:
    return "cpu" if not torch.cuda.is_available() or engine.config.device == "cpu" else engine.loaded.runner.device


def _peak(engine: Engine) -> float | None:
    """GiB on the GPU; None on a CPU, where a process has one peak for all formats."""
    return None if _device(engine) == "cpu" else torch.cuda.max_memory_allocated() / 2**30


def _copy_bandwidth() -> float:
    """Bytes per second that a large copy on the GPU moves, read and written."""
    block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(block)
    target.copy_(block)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(50):
        target.copy_(block)
    torch.cuda.synchronize()
    return 50 * 2 * block.numel() / (time.perf_counter() - started)
