"""LIFT's prompts through the engine: every document judged by LIFT's own schema, every status counted.

    python -m bench.lift PROMPTS.jsonl --schema ir_json_schema.json [--limit 20] [--model M] [--max-tokens N]

The ceiling is stated first: all documents valid. The schema given here judges; the schema decoded with is ours.
Prompts and documents are never printed or written, only ids, statuses and figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.datasets.cases import json_lines
from bench.datasets.lift_documents import IR, ir_schema
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from engine import Constraint, EngineConfig, Request, Result, SamplingParams
from engine.schema.reading.validator import Validator

QUICK = ("Write a function that adds two integers", "Reverse the words of a sentence")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every document is valid."""
    options = _options(arguments)
    prompts = [("quick", text) for text in QUICK] if options.quick else read_prompts(options.prompts, options.limit)
    judge = Validator(json.loads(options.schema.read_text()))
    print(f"ceiling: {len(prompts)} of {len(prompts)} documents valid against {options.schema.name}")
    figures = summarise(run(prompts, options), judge)
    print_figures(figures)
    configuration = {name: getattr(options, name) for name in ("max_tokens", "temperature")}
    line = record(
        "lift", figures, configuration={"model": model_name(options), **configuration}, seeds=[options.seed],
        data=[] if options.quick else [options.prompts],
    )  # fmt: skip
    emit(line, options.out)
    return 0 if figures["valid"] == figures["documents"] else 1


def read_prompts(path: Path, limit: int) -> list[tuple[str, str]]:
    """The first `limit` distinct prompts of IR requests, as (id, text)."""
    wanted: dict[str, str] = {}
    for row in json_lines(path):
        if row.get("schema") == "ir_json_schema" and row["prompt"]:
            wanted.setdefault(row["prompt"], row["id"])
    return [(name, text) for text, name in wanted.items()][:limit]


def run(prompts: Sequence[tuple[str, str]], options: argparse.Namespace) -> list[Result]:
    """Every prompt's result; a line each on stderr."""
    from engine import Engine  # seconds of imports that a wrong option does without

    constraint = Constraint.json_schema(ir_schema())
    sampling = SamplingParams(max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed)
    requests = [Request(id=name, prompt=text, constraint=constraint, sampling=sampling) for name, text in prompts]
    results = []
    with chosen_config(options, {}, max_sequence=4096) as config, Engine(config) as engine:
        for result in engine.generate_each(requests):
            results.append(result)
            print(f"{result.id:40.40} {result.status:9} {result.usage.completion_tokens:4} tokens", file=sys.stderr)
    return results


def summarise(results: Sequence[Result], judge: Validator) -> dict[str, Any]:
    tokens = sum(result.usage.completion_tokens for result in results)
    exposed, decode = (sum(getattr(r.timings_ms, name) for r in results) for name in ("mask_exposed", "decode"))
    return {
        "documents": len(results),
        "valid": sum(result.ok and judge.check(result.text).ok for result in results),
        "statuses": dict(Counter(result.status for result in results)),
        "completion_tokens": tokens,
        "forced_share": round(sum(result.usage.forced_tokens for result in results) / max(tokens, 1), 4),
        "mask_exposed_share": round(exposed / max(decode, 1e-9), 6),
        "p50_ms": round(median(result.timings_ms.total for result in results), 1),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("lift", __doc__, "two prompts of our own, a tiny random model")
    parser.add_argument("prompts", type=Path, nargs="?", help="JSON lines with id, prompt, schema")
    parser.add_argument("--schema", type=Path, default=IR, help="the schema that judges")
    parser.add_model("model", model=EngineConfig().model)
    parser.add(limit=20, max_tokens=160, temperature=0.3, seed=0)
    options = parser.read(arguments)
    if not options.quick and (options.prompts is None or not options.prompts.is_file()):
        parser.error(f"no prompts at {options.prompts}; name a file of JSON lines, or run --quick")
    return options


if __name__ == "__main__":
    sys.exit(main())
