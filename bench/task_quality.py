"""Does the document say what was asked? Function signatures, raw prompt or chat template, schema in the prompt or not.

    python -m bench.task_quality [--model M] [--prompts FILE] [--recorded FILE] [--limit N] [--batch 16] [--seed 0]
                                 [--quick] [--out DIR]

Every prompt of `bench/data/prompts.jsonl` is answered greedily in four arms under the grammar of a signature; what
comes back is checked by executable rules (`bench/signature.py`): name, parameter names, types, returns, all at once.
Shares carry 95 % bootstrap intervals over prompts, and so do the paired differences from the raw arm without a schema.
`--recorded` adds recorded prompts of the same format, told apart in the line; no text is printed. Ceiling: 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from bench.bootstrap import ratio
from bench.record import emit, record, sha256
from bench.signature import FIELDS, PROMPTS, SCHEMA, Task, check_signature, read_tasks
from bench.tables import print_table
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineConfig, Request, SamplingParams
from engine.decode.prompt import SCHEMA_SENTENCE

MAX_TOKENS = 128
TEMPLATES: tuple[Literal["raw", "chat"], ...] = ("raw", "chat")
CONSTRAINT = Constraint.json_schema(SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the four arms, print the table and the JSON line."""
    options = _parse(arguments)
    tasks = read_tasks(options.prompts)[: options.limit]
    recorded = read_tasks(options.recorded) if options.recorded else []
    print(f"ceiling: 1 in every column; {len(tasks)} prompts, {len(recorded)} recorded ones", flush=True)
    with TemporaryDirectory() as folder:
        config = EngineConfig(model=options.model, max_batch=options.batch, max_sequence=2048, device=options.device)
        with Engine(tiny_config(Path(folder)) if options.quick else config) as engine:
            device, revision = engine.loaded.runner.device, engine.loaded.revision
            figures = {"arms": study(engine, tasks, options.seed)}
            if recorded:
                figures["recorded_arms"] = study(engine, recorded, options.seed)
    for arms in figures.values():
        _print(arms)
    model = "tiny random llama" if options.quick else options.model
    data = [options.prompts, *([options.recorded] if options.recorded else [])]
    line = record(
        "task_quality",
        figures,
        configuration={"model": model, "prompts": len(tasks), "max_tokens": MAX_TOKENS, "temperature": 0},
        seeds=[options.seed],
        data_sha256=sha256(data),
        model_revision=revision,
        device=None if device == "cpu" else device,
    )
    emit(line, options.out)
    return 0


def study(engine: Engine, tasks: Sequence[Task], seed: int) -> list[dict[str, Any]]:
    """One row an arm: shares, and differences from the first arm, prompt by prompt."""
    rows: list[dict[str, Any]] = []
    base: list[dict[str, float]] = []
    for template, told in product(TEMPLATES, (False, True)):
        scores = _arm(engine, [_request(engine, task, template, told=told) for task in tasks], tasks)
        base = base or scores
        rows.append(_figures(template, told, scores, base, seed))
        print(f"{template}, schema {'in' if told else 'not in'} the prompt", file=sys.stderr, flush=True)
    return rows


def _request(engine: Engine, task: Task, template: Literal["raw", "chat"], *, told: bool) -> Request:
    """A raw prompt is sent as it is, so there the bench itself writes the sentence before it. A model without a chat
    template gets the raw form twice."""
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    if template == "chat" and engine.tokenizer.has_chat_template:
        return Request(prompt=task.prompt, constraint=CONSTRAINT, sampling=sampling, schema_in_prompt=told)
    sentence = SCHEMA_SENTENCE.format(schema=CONSTRAINT.source) + "\n\n" if told else ""
    return Request(prompt=sentence + task.prompt + "\n", template="raw", constraint=CONSTRAINT, sampling=sampling)


def _arm(engine: Engine, requests: Sequence[Request], tasks: Sequence[Task]) -> list[dict[str, float]]:
    """Per prompt 0 or 1 of every field, `valid` and `closed`, and the tokens of its document."""
    rows = []
    for result, task in zip(engine.generate_batch(requests), tasks, strict=True):
        row = {name: float(right) for name, right in check_signature(result.value, task.expect).items()}
        row |= {"valid": float(bool(result.valid)), "closed": float(result.status == "closed")}
        rows.append({**row, "tokens": float(result.usage.completion_tokens)})
    return rows


def _figures(
    template: str, told: bool, scores: list[dict[str, float]], base: list[dict[str, float]], seed: int
) -> dict[str, Any]:
    ones = [1.0] * len(scores)
    shares = {name: ratio([row[name] for row in scores], ones, seed=seed).to_list() for name in (*FIELDS, *STATES)}
    paired = {
        f"{name}_gain": ratio([a[name] - b[name] for a, b in zip(scores, base, strict=True)], ones, seed=seed).to_list()
        for name in FIELDS
    }
    tokens = sum(row["tokens"] for row in scores) / len(scores)
    return {"template": template, "schema_in_prompt": told, **shares, **paired, "tokens_mean": round(tokens, 2)}


STATES = ("valid", "closed")


def _print(arms: Sequence[dict[str, Any]]) -> None:
    print("\nshares of prompts, [95 % interval over prompts]")
    _table(arms, {name: name for name in (*FIELDS, *STATES)})
    print("\ngain over the first arm, prompt by prompt")
    _table(arms, {name: f"{name}_gain" for name in FIELDS})


def _table(arms: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    rows = [[arm["template"], str(arm["schema_in_prompt"]), *(_cell(arm[k]) for k in columns.values())] for arm in arms]
    print_table(["prompt", "schema in it", *columns], rows)


def _cell(values: Sequence[float]) -> str:
    value, low, high = (f"{v:.3f}" for v in values)
    return f"{value} [{low} {high}]"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.task_quality", description="Is it what was asked for?")
    parser.add_argument("--model", default=EngineConfig().model)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--recorded", type=Path, help="more prompts of the same format, a local extra")
    parser.add_argument("--limit", type=int, default=None, help="only the first N prompts")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, two prompts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.limit = 2
    return options


if __name__ == "__main__":
    sys.exit(main())
