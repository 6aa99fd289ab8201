"""Does the document say what was asked? Function signatures, raw prompt or chat template, schema in the prompt or not.

    python -m bench.task_quality [--model M] [--prompts FILE] [--recorded FILE] [--limit N] [--batch 16] [--seed 0]
                                 [--quick] [--out DIR]

Every prompt of `bench/data/prompts.jsonl` is answered greedily in four arms under the grammar of a signature; what
comes back is checked by executable rules (`bench/datasets/signatures.py`): name, parameter names, types, returns, all
at once. Shares carry 95 % bootstrap intervals over prompts, and so do the paired differences from the raw arm without a
schema. `--recorded` adds recorded prompts of the same format, told apart in the line; no text is printed. Ceiling: 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

from bench.datasets.signatures import FIELDS, PROMPTS, SCHEMA, Task, check_signature, read_tasks
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.statistics import mean
from bench.harness.tables import interval, print_table
from engine import Constraint, Engine, EngineConfig, Request, SamplingParams
from engine.decode.requests.prompt import SCHEMA_SENTENCE

MAX_TOKENS = 128
"""Above the longest expected document by a factor of two."""
TEMPLATES: tuple[Literal["raw", "chat"], ...] = ("raw", "chat")
STATES = ("valid", "closed")
CONSTRAINT = Constraint.json_schema(SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the four arms, print the tables and the JSON line."""
    parser = Options("task_quality", __doc__, "a tiny random model, two prompts")
    parser.add_model("model", "device", model=EngineConfig().model)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--recorded", type=Path, help="more prompts of the same format, a local extra")
    parser.add_argument("--limit", type=int, help="only the first N prompts")
    parser.add(batch=16, seed=0)
    options = parser.read(arguments, limit=2)
    tasks = read_tasks(options.prompts)[: options.limit]
    recorded = read_tasks(options.recorded) if options.recorded else []
    print(f"ceiling: 1 in every column; {len(tasks)} prompts, {len(recorded)} recorded ones", flush=True)
    with chosen_config(options, {}, max_batch=options.batch, max_sequence=2048) as config, Engine(config) as engine:
        device, revision = engine.loaded.runner.device, engine.loaded.revision
        figures = {"arms": study(engine, tasks, options.seed)}
        if recorded:
            figures["recorded_arms"] = study(engine, recorded, options.seed)
    for arms in figures.values():
        print("\nshares of prompts, [95 % interval over prompts]")
        _print(arms, {name: name for name in (*FIELDS, *STATES)})
        print("\ngain over the first arm, prompt by prompt")
        _print(arms, {name: f"{name}_gain" for name in FIELDS})
    configuration = {"model": model_name(options), "prompts": len(tasks), "max_tokens": MAX_TOKENS, "temperature": 0}
    line = record(
        "task_quality", figures, configuration=configuration, seeds=[options.seed], model_revision=revision,
        data=[path for path in (options.prompts, options.recorded) if path], device=device,
    )  # fmt: skip
    emit(line, options.out)
    return 0


def study(engine: Engine, tasks: Sequence[Task], seed: int) -> list[dict[str, Any]]:
    """One row an arm: shares, and differences from the first arm, prompt by prompt."""
    rows: list[dict[str, Any]] = []
    base: list[dict[str, float]] = []
    for template, told in product(TEMPLATES, (False, True)):
        scores = _arm(engine, [_request(engine, task, template, told=told) for task in tasks], tasks)
        base = base or scores
        row: dict[str, Any] = {"template": template, "schema_in_prompt": told}
        for name in (*FIELDS, *STATES):
            row[name] = mean([one[name] for one in scores], seed=seed)
        for name in FIELDS:
            gains = [one[name] - first[name] for one, first in zip(scores, base, strict=True)]
            row[f"{name}_gain"] = mean(gains, seed=seed)
        rows.append({**row, "tokens_mean": round(sum(one["tokens"] for one in scores) / len(scores), 2)})
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


def _print(arms: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    rows = [
        [arm["template"], str(arm["schema_in_prompt"]), *(interval(arm[k]) for k in columns.values())] for arm in arms
    ]
    print_table(["prompt", "schema in it", *columns], rows)


if __name__ == "__main__":
    sys.exit(main())
