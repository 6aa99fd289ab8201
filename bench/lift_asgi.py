"""LIFT's call through the ASGI app: 1,079 prompt tokens, documents of 145 to 403 tokens replayed, one after another.

    python -m bench.lift_asgi [--model random:CONFIG.json] [--tokenizer FOLDER] [--quantization nf4] [--device cuda]
                              [--prompts lift_prompts_dev.jsonl] [--repeats 3] [--at-once 8] [--quick] [--out DIR]

Every request is a POST to /generate of the app as it is served (in this process, without a socket), new prompt each
time, so nothing is reused from the prefix cache; seconds are the client's, from before the POST to the parsed answer.
Then several at once, with prompts that share nothing and with prompts that share all but their end, and a second
prompt of the latter kind alone. Every document is also decoded without drafts, in turn: `forced_ratio` compares the
times of decoding. Documents are our own instances of LIFT's IR, and with `--prompts` the recorded ones of that file.
The model computes as ever and what it samples is replaced. Ceiling: prefill and one decode step a token. The A100's
mean is computed from the memory bandwidths of the data sheets (3.35 and 2.04 TB/s), which is what decoding waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Answer:
    """The client's seconds, and what the answer says."""

    seconds: float
    decode_ms: float
    tokens: int


@dataclass(slots=True)
class Measured:
    """By document, with drafts and without; then the kinds of several requests."""

    drafted: dict[str, list[Answer]] = field(default_factory=dict)
    plain: dict[str, list[Answer]] = field(default_factory=dict)
    proposed: int = 0
    accepted: int = 0
    together: list[list[Answer]] = field(default_factory=list)
    alike: list[list[Answer]] = field(default_factory=list)
    second: list[Answer] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Every document `repeats` times alone, then `at_once` together."""
    options = _options(arguments)
    with chosen_config(options, {}, max_sequence=2048) as config:
        model = load(config)
        engines = [
            ReplayedEngine(dataclasses.replace(config, forced_runs=forced), model) for forced in ("verify", "off")
        ]
        for engine in engines:
            engine.grammars.compile(CONSTRAINT)
        documents = _documents(engines[0], options)
        measured = asyncio.run(_measure([Asking(engine, options) for engine in engines], documents, options))
        for engine in engines:
            engine.close()
    figures = _figures(measured, documents)
    print_figures(figures)
    runner = model.runner
    configuration = {name: getattr(options, name) for name in ("prompt_tokens", "quick", "at_once")}
    configuration["quantization"] = runner.quantization
    line = record("lift_asgi", figures, configuration=configuration, repeats=options.repeats, device=runner.device)
    emit(line, options.out)
    return 0


def _figures(measured: Measured, documents: dict[str, Tokens]) -> dict[str, Any]:
    alone = [answer.seconds for answers in measured.drafted.values() for answer in answers]
    decode, plain = (
        {text: median(answer.decode_ms for answer in answers) for text, answers in kind.items()}
        for kind in (measured.drafted, measured.plain)
    )
    tokens = sum(answer.tokens for answers in measured.drafted.values() for answer in answers)
    return {
        "documents": len(documents), "document_tokens": sorted(len(tokens) for tokens in documents.values()),
        "requests": len(alone), "mean_s": round(mean(alone), 4), "p50_s": round(median(alone), 4),
        "p99_s": round(quantile(sorted(alone), 0.99) or 0.0, 4), "max_s": round(max(alone), 4),
        "together_s": [round(max(answer.seconds for answer in answers), 4) for answers in measured.together],
        "together_alike_s": [round(max(answer.seconds for answer in answers), 4) for answers in measured.alike],
        "second_alike_s": round(median(answer.seconds for answer in measured.second), 4),
        "forced_ratio": round(sum(decode.values()) / sum(plain.values()), 4),
        "forced_ratio_worst": round(max(decode[text] / plain[text] for text in decode), 4),
        "drafted_share": round(measured.proposed / tokens, 4), "accepted_share": round(measured.accepted / tokens, 4),
        "a100_mean_s_computed": round(mean(alone) * A100_OVER_H100, 4),
    }  # fmt: skip


class Asking:
    """Requests of one engine's app."""

    def __init__(self, engine: ReplayedEngine, options: argparse.Namespace) -> None:
        self.engine, self._tokens, self._numbers = engine, options.prompt_tokens, count()
        transport = httpx.ASGITransport(app=create_app(engine))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=600)

    @property
    def proposed(self) -> int:
        """Tokens drafted for the last answers."""
        return sum(mark.drafted for mark in self.engine.replaying.recording.marks)

    async def ask(self, told: Sequence[str], documents: dict[str, Tokens], salt: str | None = None) -> list[Answer]:
        """Documents at once. With a `salt` their prompts are alike, and the documents must be: a row that begins with
        a stored prompt does not say which it is."""
        tokenizer, alike = self.engine.tokenizer, salt is not None
        prompts = [prompt_of_length(tokenizer, self._tokens, next(self._numbers), alike=alike) for _ in told]
        pairs = list(zip(prompts, told, strict=True))
        self.engine.replay({prompt: documents[text] for prompt, text in (pairs[:1] if alike else pairs)})
        return list(await asyncio.gather(*(self._post(prompt, text, salt) for prompt, text in pairs)))

    async def _post(self, prompt: str, text: str, salt: str | None) -> Answer:
        """SystemExit where the answer is not the document."""
        body = {"prompt": prompt, "schema": SCHEMA, "template": "raw", "temperature": 0.0, "max_tokens": 600}
        body |= {} if salt is None else {"cache_salt": salt}
        started = time.perf_counter()
        answer = (await self._client.post("/generate", json=body)).json()
        seconds = time.perf_counter() - started
        if answer.get("raw_text") != text:
            raise SystemExit(f"a replay left its document: {answer.get('status')}, {answer.get('error')}")
        return Answer(seconds, answer["timings_ms"]["decode"], answer["tokens_used"])


async def _measure(asking: Sequence[Asking], documents: dict[str, Tokens], options: argparse.Namespace) -> Measured:
    measured, texts = Measured(), list(documents)
    for one in asking:
        await one.ask(texts[:1], documents)
    one, plain = asking
    for _ in range(options.repeats):
        for text in texts:
            before = one.engine.accepted
            measured.drafted.setdefault(text, []).extend(await one.ask([text], documents))
            measured.proposed += one.proposed
            measured.accepted += one.engine.accepted - before
            measured.plain.setdefault(text, []).extend(await plain.ask([text], documents))
        measured.together.append(await one.ask([texts[i % len(texts)] for i in range(options.at_once)], documents))
    for turn, text in enumerate(texts[:1] * options.repeats):
        measured.alike.append(await one.ask([text] * options.at_once, documents, salt=f"at once {turn}"))
        await one.ask([text], documents, salt=f"second {turn}")
        measured.second += await one.ask([text], documents, salt=f"second {turn}")
    return measured


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
