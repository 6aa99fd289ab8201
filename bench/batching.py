"""Many at once against one after another, and a shared instruction against a new one.

    python -m bench.batching [--model M] [--repeats 3] [--quick] [--out DIR]

Batching: eight mixed greedy requests (free text and schemas, short and long) alone, then together; outputs must be
equal. Ceiling of the ratio: 1/8 of the time when a step of eight rows costs what a step of one does. Prefixes: two
requests share an instruction of 1,079 tokens; the second one's time to first token against the first one's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.record import emit, record
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineConfig, Request, Result, SamplingParams

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
INSTRUCTION_TOKENS = 1079
SENTENCE = "State what the function does, name its parameters with their types, and list every effect it has. "


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    repeats = 1 if options.quick else options.repeats
    config = EngineConfig(model=options.model, max_batch=8, max_sequence=2048)
    with TemporaryDirectory() as folder, Engine(tiny_config(Path(folder)) if options.quick else config) as engine:
        print("ceiling: eight at once in 1/8 of the time; a shared instruction at the cost of its last token")
        requests = mixed(12 if options.quick else 60)
        _together(engine, requests)  # warm-up: grammars, buffers
        figures = batching(engine, requests, repeats) | prefixes(engine, 200 if options.quick else INSTRUCTION_TOKENS)
    for name, value in figures.items():
        print(f"{name:18} {value}")
    model = "tiny random llama" if options.quick else options.model
    configuration = {"model": model, "requests": len(requests), "max_batch": 8}
    emit(record("batching", figures, configuration=configuration, repeats=repeats), options.out)
    return 0 if figures["equal"] else 1


def mixed(tokens: int) -> list[Request]:
    """Eight greedy requests of different kinds and lengths; budgets of `tokens` and a half of it."""
    schemas = [None, *sorted(SCHEMAS.glob("*.json")), None]
    return [
        Request(
            prompt=f"Request {index}: " + SENTENCE * (1 + index % 3),
            constraint=Constraint.json_schema(path.read_text()) if path else None,
            sampling=SamplingParams(temperature=0, max_tokens=max(tokens // (1 + index % 2), 48 if path else 6)),
        )
        for index, path in enumerate(schemas)
    ]


def batching(engine: Engine, requests: list[Request], repeats: int) -> dict[str, Any]:
    """Both sides in turn, medians."""
    alone, together, equal = [], [], True
    for _ in range(repeats):
        solo, solo_s = _one_by_one(engine, requests)
        batch, batch_s = _together(engine, requests)
        alone.append(solo_s)
        together.append(batch_s)
        equal = equal and [r.token_ids for r in solo] == [r.token_ids for r in batch]
    return {
        "one_by_one_s": round(statistics.median(alone), 4),
        "together_s": round(statistics.median(together), 4),
        "ratio": round(statistics.median(b / a for a, b in zip(alone, together, strict=True)), 4),
        "equal": equal,
    }


def _one_by_one(engine: Engine, requests: list[Request]) -> tuple[list[Result], float]:
    started = time.perf_counter()
    return [engine.generate(request) for request in requests], time.perf_counter() - started


def _together(engine: Engine, requests: list[Request]) -> tuple[list[Result], float]:
    started = time.perf_counter()
    futures = [engine.submit(request) for request in requests]
    return [future.result() for future in futures], time.perf_counter() - started


def prefixes(engine: Engine, tokens: int) -> dict[str, Any]:
    """Time to first token of two requests that share an instruction and differ in the task."""
    instruction = SENTENCE
    while len(engine.tokenizer.encode(instruction)) < tokens:
        instruction += SENTENCE
    first, second = (
        engine.generate(Request(system=instruction, prompt=task, sampling=SamplingParams(temperature=0, max_tokens=2)))
        for task in ("Add two integers.", "Count the vowels of a word.")
    )
    return {
        "prefix_tokens": first.usage.prompt_tokens,
        "first_ttft_ms": round(first.timings_ms.prefill, 3),
        "second_ttft_ms": round(second.timings_ms.prefill, 3),
        "ttft_ratio": round(second.timings_ms.prefill / first.timings_ms.prefill, 4),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.batching", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny random model, short documents, one repeat")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
