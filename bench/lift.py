"""LIFT's prompts through the engine: every document judged by LIFT's own schema, every status counted.

    python -m bench.lift PROMPTS.jsonl --schema ir_json_schema.json [--limit 20] [--model M] [--max-tokens N]

The ceiling is stated first: all documents valid. The schema given here judges; the schema decoded with is ours.
Prompts and documents are never printed or written, only ids, statuses and figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.record import emit, record, sha256
from bench.tiny import tiny_config
from engine import Constraint, EngineConfig, Request, Result, SamplingParams
from engine.schema.validator import Validator

OURS = Path(__file__).resolve().parent.parent / "schemas" / "lift_ir.json"
QUICK = ("Write a function that adds two integers", "Reverse the words of a sentence")


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if not options.quick and (options.prompts is None or not options.prompts.is_file()):
        parser.error(f"no prompts at {options.prompts}; name a file of JSON lines, or run --quick")
    prompts = [("quick", text) for text in QUICK] if options.quick else read_prompts(options.prompts, options.limit)
    judge = Validator(json.loads(options.schema.read_text()))
    print(f"ceiling: {len(prompts)} of {len(prompts)} documents valid against {options.schema.name}")
    results = run(prompts, options)
    figures = summarise(results, judge)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    model = "tiny random llama" if options.quick else options.model
    configuration = {"model": model, "max_tokens": options.max_tokens, "temperature": options.temperature}
    data = None if options.quick else sha256([options.prompts])
    emit(record("lift", figures, configuration=configuration, seeds=[options.seed], data_sha256=data), options.out)
    return 0 if figures["valid"] == figures["documents"] else 1


def read_prompts(path: Path, limit: int) -> list[tuple[str, str]]:
    """The first `limit` distinct prompts of IR requests, as (id, text)."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    wanted = {
        row["prompt"]: row["id"] for row in reversed(rows) if row.get("schema") == "ir_json_schema" and row["prompt"]
    }
    return [(name, text) for text, name in reversed(wanted.items())][:limit]


def run(prompts: Sequence[tuple[str, str]], options: argparse.Namespace) -> list[Result]:
    from engine import Engine

    constraint = Constraint.json_schema(json.loads(OURS.read_text()))
    sampling = SamplingParams(max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed)
    config = EngineConfig(model=options.model, max_sequence=4096)
    with TemporaryDirectory() as folder, Engine(tiny_config(Path(folder)) if options.quick else config) as engine:
        requests = [Request(id=name, prompt=text, constraint=constraint, sampling=sampling) for name, text in prompts]
        results = []
        for result in engine.generate_each(requests):
            results.append(result)
            print(f"{result.id:40.40} {result.status:9} {result.usage.completion_tokens:4} tokens", file=sys.stderr)
        return results


def summarise(results: Sequence[Result], judge: Validator) -> dict[str, Any]:
    tokens = sum(result.usage.completion_tokens for result in results)
    return {
        "documents": len(results),
        "valid": sum(result.ok and judge.check(result.text).ok for result in results),
        "statuses": dict(Counter(result.status for result in results)),
        "completion_tokens": tokens,
        "forced_share": round(sum(result.usage.forced_tokens for result in results) / max(tokens, 1), 4),
        "mask_exposed_share": round(
            sum(r.timings_ms.mask_exposed for r in results) / max(sum(r.timings_ms.decode for r in results), 1e-9), 6
        ),
        "p50_ms": round(statistics.median(result.timings_ms.total for result in results), 1),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.lift", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("prompts", type=Path, nargs="?", help="JSON lines with id, prompt, schema")
    parser.add_argument("--schema", type=Path, default=OURS, help="the schema that judges")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two prompts of our own, a tiny random model")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
