"""LIFT's call through the ASGI app: 1,079 prompt tokens, documents of 145 to 403 tokens replayed, one after another.

    python -m bench.lift_asgi [--model random:CONFIG.json] [--tokenizer FOLDER] [--quantization nf4] [--device cuda]
                              [--prompts lift_prompts_dev.jsonl] [--repeats 3] [--at-once 8] [--quick] [--out DIR]

Every request is a POST to /generate of the app as it is served (in this process, without a socket), new prompt each
time, so nothing is reused from the prefix cache; seconds are the client's, from before the POST to the parsed answer.
Documents are our own instances of LIFT's IR, and with `--prompts` the recorded ones of that file. The model computes as
ever and what it samples is replaced. Ceiling: prefill and one decode step a token. The A100's mean is computed from the
memory bandwidths of the data sheets (3.35 and 2.04 TB/s), which is what decoding waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import mean, median
from typing import Any

import httpx

from bench.datasets.lift_documents import (
    PROMPT_TOKENS,
    ir_schema,
    own_documents,
    prompt_of_length,
    recorded_documents,
)
from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.statistics import quantile
from bench.harness.tables import print_figures
from bench.replay.engine import ReplayedEngine, Tokens, accepts, with_stop
from engine import Constraint
from engine.model.loader import load
from engine.serve.app import create_app

SHORTEST, LONGEST = 145, 403
"""Tokens of the documents that LIFT's plan recorded."""
A100_OVER_H100 = 3.35 / 2.04
SCHEMA = ir_schema()
CONSTRAINT = Constraint.json_schema(SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Every document `repeats` times alone, then `at_once` together."""
    options = _options(arguments)
    with chosen_config(options, {}, max_sequence=2048) as config:
        model = load(config)
        engine = ReplayedEngine(config, model)
        engine.grammars.compile(CONSTRAINT)
        documents = _documents(engine, options)
        alone, together = asyncio.run(_measure(engine, documents, options))
        engine.close()
    ordered = sorted(alone)
    figures: dict[str, Any] = {
        "documents": len(documents), "document_tokens": sorted(len(tokens) for tokens in documents.values()),
        "requests": len(alone), "mean_s": round(mean(alone), 4), "p50_s": round(median(alone), 4),
        "p99_s": round(quantile(ordered, 0.99) or 0.0, 4), "max_s": round(ordered[-1], 4),
        "together_s": round(max(together), 4), "a100_mean_s_computed": round(mean(alone) * A100_OVER_H100, 4),
    }  # fmt: skip
    print_figures(figures)
    runner = model.runner
    configuration = {name: getattr(options, name) for name in ("prompt_tokens", "quick", "at_once")}
    configuration["quantization"] = runner.quantization
    line = record("lift_asgi", figures, configuration=configuration, repeats=options.repeats, device=runner.device)
    emit(line, options.out)
    return 0


async def _measure(
    engine: ReplayedEngine, documents: dict[str, Tokens], options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    numbers, texts = count(), list(documents)
    transport = httpx.ASGITransport(app=create_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=600) as client:

        async def ask(told: Sequence[str]) -> list[float]:
            """Documents at once; seconds of each."""
            prompts = [prompt_of_length(engine.tokenizer, options.prompt_tokens, next(numbers)) for _ in told]
            engine.replay({prompt: documents[text] for prompt, text in zip(prompts, told, strict=True)})
            return list(await asyncio.gather(*(_post(client, *pair) for pair in zip(prompts, told, strict=True))))

        await ask(texts[:1])
        alone = [seconds for _ in range(options.repeats) for text in texts for seconds in await ask([text])]
        return alone, await ask([texts[i % len(texts)] for i in range(options.at_once)])


async def _post(client: httpx.AsyncClient, prompt: str, text: str) -> float:
    """The client's seconds. SystemExit where the answer is not the document."""
    body = {"prompt": prompt, "schema": SCHEMA, "template": "raw", "temperature": 0.0, "max_tokens": 600}
    started = time.perf_counter()
    answer = (await client.post("/generate", json=body)).json()
    seconds = time.perf_counter() - started
    if answer.get("raw_text") != text:
        raise SystemExit(f"a replay left its document: {answer.get('status')}, {answer.get('error')}")
    return seconds


def _documents(engine: ReplayedEngine, options: argparse.Namespace) -> dict[str, Tokens]:
    """Instances of the IR of the length that is asked for (without the stop token) which the grammar takes."""
    texts = own_documents() + (recorded_documents(options.prompts, valid=False) if options.prompts else [])
    tokens = {text: with_stop(engine.tokenizer, text) for text in texts}
    fitting = {text: ids for text, ids in tokens.items() if options.shortest <= len(ids) - 1 <= options.longest}
    return {text: ids for text, ids in fitting.items() if accepts(engine, CONSTRAINT, ids)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("lift_asgi", __doc__, "a tiny random model, short prompts, one short document")
    parser.add_model()
    parser.add_argument("--prompts", type=Path, help="JSON lines with recorded IRs")
    parser.add(prompt_tokens=PROMPT_TOKENS, shortest=SHORTEST, longest=LONGEST, repeats=3, at_once=8)
    return parser.read(arguments, prompt_tokens=64, shortest=40, longest=60, repeats=1, at_once=2)


if __name__ == "__main__":
    sys.exit(main())
