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
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.lift_request import SCHEMA, _prompt
from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner
from bench.tally import quantile
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineConfig
from engine.errors import EngineError
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load

DOCUMENT_TOKENS = (145, 403)
A100_OVER_H100 = 3.35 / 2.04
Document = tuple[str, tuple[int, ...]]
"""Text and tokens with the stop token."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, measure, print the table and the JSON line."""
    options = parse(arguments)
    with TemporaryDirectory() as folder:
        if options.quick or not options.model:
            config = tiny_config(Path(folder))
        else:
            config = EngineConfig(
                model=options.model, tokenizer=options.tokenizer, quantization=options.quantization,
                device=options.device, max_sequence=2048,
            )  # fmt: skip
        loaded = load(config)
        figures = run_loaded(options, config, loaded)
        emit(line_of(options, loaded, figures), options.out)
    return 0


def line_of(options: argparse.Namespace, loaded: LoadedModel, figures: dict[str, Any]) -> dict[str, Any]:
    """The bench's record."""
    configuration = {
        "quantization": loaded.runner.quantization, "prompt_tokens": options.prompt_tokens, "quick": options.quick,
        "at_once": options.at_once,
    }  # fmt: skip
    device = None if loaded.runner.device == "cpu" else loaded.runner.device
    return record("lift_asgi", figures, configuration=configuration, repeats=options.repeats, device=device)


def run_loaded(options: argparse.Namespace, config: EngineConfig, loaded: LoadedModel) -> dict[str, Any]:
    """Every document `repeats` times alone, then `at_once` together; prints what the line will hold."""
    runner = ReplayRunner(loaded.runner)
    loaded.runner = runner
    engine = Engine(config, loaded=loaded)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    engine.grammars.compile(Constraint.json_schema(schema))
    documents = _documents(engine, schema, options)
    alone, together = asyncio.run(_measure(engine, runner, loaded, schema, documents, options))
    engine.close()
    ordered = sorted(alone)
    figures: dict[str, Any] = {
        "documents": len(documents), "document_tokens": sorted(len(tokens) for _, tokens in documents),
        "requests": len(alone), "mean_s": round(statistics.mean(alone), 4), "p50_s": round(statistics.median(alone), 4),
        "p99_s": round(quantile(ordered, 0.99) or 0.0, 4), "max_s": round(ordered[-1], 4),
        "together_s": round(max(together), 4),
        "a100_mean_s_computed": round(statistics.mean(alone) * A100_OVER_H100, 4),
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:22} {value}", flush=True)
    return figures


async def _measure(
    engine: Engine, runner: ReplayRunner, loaded: LoadedModel, schema: Any, documents: list[Document],
    options: argparse.Namespace,
) -> tuple[list[float], list[float]]:  # fmt: skip
    from engine.serve.app import create_app

    number = iter(range(1_000_000))
    transport = httpx.ASGITransport(app=create_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=600) as client:

        async def ask(told: Sequence[Document]) -> list[float]:
            """Documents at once; seconds of each. SystemExit where an answer is not the document."""
            prompts = [_prompt(loaded, options.prompt_tokens, next(number)) for _ in told]
            tokens = [tuple(engine.tokenizer.encode(prompt)) for prompt in prompts]
            replayed = {prompt: document for prompt, (_, document) in zip(tokens, told, strict=True)}
            runner.recording = Recording(by_prompt=replayed)
            pairs = zip(prompts, told, strict=True)
            return list(await asyncio.gather(*(_post(client, schema, prompt, text) for prompt, (text, _) in pairs)))

        await ask(documents[:1])
        alone = [seconds for _ in range(options.repeats) for one in documents for seconds in await ask([one])]
        return alone, await ask([documents[i % len(documents)] for i in range(options.at_once)])


async def _post(client: httpx.AsyncClient, schema: Any, prompt: str, text: str) -> float:
    body = {"prompt": prompt, "schema": schema, "template": "raw", "temperature": 0.0, "max_tokens": 600}
    started = time.perf_counter()
    answer = (await client.post("/generate", json=body)).json()
    seconds = time.perf_counter() - started
    if answer.get("raw_text") != text:
        raise SystemExit(f"a replay left its document: {answer.get('status')}, {answer.get('error')}")
    return seconds


def _documents(engine: Engine, schema: Any, options: argparse.Namespace) -> list[Document]:
    """Instances of the IR of the length that is asked for (without the stop token) which the grammar takes."""
    lines = SCHEMA.with_suffix(".valid.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines if line.strip()]
    if options.prompts is not None:
        told = [json.loads(line) for line in options.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        values += [
            one["expected_or_recorded_ir"] for one in told if isinstance(one.get("expected_or_recorded_ir"), dict)
        ]
    found: dict[str, Document] = {}
    for value in values:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        tokens = (*engine.tokenizer.encode(text), engine.tokenizer.stop_token_ids[0])
        if options.shortest <= len(tokens) - 1 <= options.longest and _takes(engine, schema, tokens):
            found[text] = (text, tokens)
    return list(found.values())


def _takes(engine: Engine, schema: Any, tokens: Sequence[int]) -> bool:
    try:
        matcher = engine.grammars.submit(Constraint.json_schema(schema)).result().matcher()
    except EngineError:
        return False
    return all(matcher.accept(token) for token in tokens)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.lift_asgi", description="LIFT's call through the ASGI app")
    parser.add_argument("--model", help="random:CONFIG.json or any model name; default: a tiny random model")
    parser.add_argument("--tokenizer")
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=Path, help="JSON lines with recorded IRs")
    parser.add_argument("--prompt-tokens", type=int, default=1079)
    parser.add_argument("--shortest", type=int, default=DOCUMENT_TOKENS[0])
    parser.add_argument("--longest", type=int, default=DOCUMENT_TOKENS[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="a tiny random model, short prompts, one short document")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompt_tokens, options.shortest, options.longest, options.repeats, options.at_once = 64, 40, 60, 1, 2
    return options


if __name__ == "__main__":
    sys.exit(main())
