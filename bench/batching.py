"""Many at once against one after another, and a shared instruction against a new one.

    python -m bench.batching [--model M] [--repeats 3] [--quick] [--out DIR]

Batching: eight mixed greedy requests (free text and schemas, short and long) alone, then together; outputs must be
equal. Ceiling of the ratio: 1/8 of the time when a step of eight rows costs what a step of one does. Prefixes: two
requests share an instruction of 1,079 tokens; the second one's time to first token against the first one's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.datasets.lift_documents import PROMPT_TOKENS, all_schemas
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from engine import Constraint, Engine, EngineConfig, Request, Result, SamplingParams

SENTENCE = "State what the function does, name its parameters with their types, and list every effect it has. "


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when both sides wrote the same."""
    parser = Options("batching", __doc__, "a tiny random model, short documents, one repeat")
    parser.add_model("model", model=EngineConfig().model)
    parser.add(repeats=3)
    options = parser.read(arguments, repeats=1)
    with chosen_config(options, {}, max_batch=8, max_sequence=2048) as config, Engine(config) as engine:
        print("ceiling: eight at once in 1/8 of the time; a shared instruction at the cost of its last token")
        requests = mixed(12 if options.quick else 60)
        _together(engine, requests)  # warm-up: grammars, buffers
        figures = batching(engine, requests, options.repeats)
        figures |= prefixes(engine, 200 if options.quick else PROMPT_TOKENS)
    print_figures(figures)
    configuration = {"model": model_name(options), "requests": len(requests), "max_batch": 8}
    emit(record("batching", figures, configuration=configuration, repeats=options.repeats), options.out)
    return 0 if figures["equal"] else 1


def mixed(tokens: int) -> list[Request]:
    """Eight greedy requests of different kinds and lengths; budgets of `tokens` and a half of it."""
    return [
        Request(
            prompt=f"Request {index}: " + SENTENCE * (1 + index % 3),
            constraint=Constraint.json_schema(schema) if schema else None,
            sampling=SamplingParams(temperature=0, max_tokens=max(tokens // (1 + index % 2), 48 if schema else 6)),
        )
        for index, schema in enumerate([None, *all_schemas(), None])
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
        "one_by_one_s": round(median(alone), 4),
        "together_s": round(median(together), 4),
        "ratio": round(median(b / a for a, b in zip(alone, together, strict=True)), 4),
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


if __name__ == "__main__":
    sys.exit(main())
