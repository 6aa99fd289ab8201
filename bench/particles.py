"""What particles cost beside ordinary rows of the same prompt, resampled by force with half of them replaced.

    python -m bench.particles [--model random:CONFIG.json] [--tokenizer FOLDER] [--quantization nf4]
                              [--device cuda] [--particles 64] [--prompt-tokens 1079] [--tokens 150]
                              [--every 8] [--repeats 3] [--quick] [--out DIR]

Every row writes as many digits, drawn from the model, so that all run to the end. In turns: ordinary rows, as many
samples of one request, and one request with as many particles. At every `every`-th token every other particle loses
its weight, and at no other token any does; so half of them become copies of the other half. Seconds are those of
decoding, the prompt being in the cache. One more run times each resampling with the device at rest. Ceiling: particles
in the time of ordinary rows, 1.00.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from bench.datasets.lift_documents import PROMPT_TOKENS, prompt_of_length
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from engine import Constraint, Engine, Request, Result, SamplingParams
from engine.decode.particles.population import Population
from engine.decode.particles.weights import DEAD


def main(arguments: Sequence[str] | None = None) -> int:
    """0; the figures are for people to judge."""
    options = _options(arguments)
    with chosen_config(
        options, {"max_batch": options.particles}, max_batch=options.particles, max_sequence=2048
    ) as config:
        engine = Engine(config)
        try:
            figures, ran = _measured(engine, options)
        finally:
            engine.close()
    print_figures(figures)
    configuration = {name: getattr(options, name) for name in ("particles", "prompt_tokens", "tokens", "every")}
    configuration |= {"model": model_name(options), "quantization": ran.quantization}
    line = record("particles", figures, configuration=configuration, repeats=options.repeats, device=ran.device)
    emit(line, options.out)
    return 0


def _measured(engine: Engine, options: argparse.Namespace) -> tuple[dict[str, Any], Result]:
    """The figures, and one result, which tells what ran."""
    prompt = prompt_of_length(engine.tokenizer, options.prompt_tokens, 0)
    constraint = Constraint.regex(f"[0-9]{{{options.tokens - 1}}}")
    common = {"temperature": 1.0, "max_tokens": options.tokens + 8, "seed": 1}
    rows = SamplingParams(n=options.particles, **common)
    particles = SamplingParams(method="smc", particles=options.particles, ess=0.75, **common)
    ordinary, smc, resamplings = [], [], Resamplings(options.every)

    def decoded(sampling: SamplingParams) -> Result:
        return _decoded(engine, Request(prompt=prompt, constraint=constraint, sampling=sampling, template="raw"))

    for turn in range(options.repeats + 1):  # the first compiles and fills caches
        free = decoded(rows)
        with resamplings.forced():
            last = decoded(particles)
        if turn:
            ordinary.append(_seconds(free))
            smc.append(_seconds(last))
    with resamplings.forced(alone=True):
        decoded(particles)
    resampled = [1e3 * seconds for seconds in resamplings.seconds]
    figures: dict[str, float] = {
        "rows_ms_a_step": round(1e3 * median(ordinary) / options.tokens, 3),
        "particles_ms_a_step": round(1e3 * median(smc) / options.tokens, 3),
        "ratio": round(median(smc) / median(ordinary), 4), "resamplings": len(resampled),
        "resampling_p50_ms": round(median(resampled), 3), "resampling_max_ms": round(max(resampled), 3),
        "blocks_held": max(resamplings.held), "blocks_if_each_had_its_own": max(resamplings.apart),
    }  # fmt: skip
    return figures, last


class Resamplings:
    """Makes a population resample at every `every`-th token and nowhere else. `alone`: each is timed, with the device
    at rest before and after, which a step in flight would otherwise hide."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._waits = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        self.seconds: list[float] = []
        self.held: list[int] = []
        self.apart: list[int] = []

    @contextmanager
    def forced(self, *, alone: bool = False) -> Iterator[None]:
        go_on, resample, every = Population._go_on, Population._resample, self._every

        def weighed(population: Population) -> None:
            written = len(population._job.samples[0].output)
            halved = written % every == 0
            population._logs = [DEAD if halved and place % 2 else 0.0 for place in range(population._size)]
            go_on(population)

        def timed(population: Population) -> None:
            self._waits()
            started = time.perf_counter()
            resample(population)
            self._waits()
            self.seconds.append(time.perf_counter() - started)
            tables = [population._runner.blocks.table(slot) for slot in range(population._size)]
            self.held.append(len({block for table in tables for block in table}))
            self.apart.append(sum(len(table) for table in tables))

        resampled = timed if alone else resample
        with patch.object(Population, "_go_on", weighed), patch.object(Population, "_resample", resampled):
            yield


def _decoded(engine: Engine, request: Request) -> Result:
    """SystemExit where a row did not come to its end."""
    result = engine.submit(request).result()
    if any(one.status != "complete" for one in (result, *result.samples)):
        raise SystemExit(f"a row ended {result.status}: {result.error}")
    return result


def _seconds(result: Result) -> float:
    return result.timings_ms.decode / 1e3


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("particles", __doc__, "a tiny random model, 8 particles, 24 tokens")
    parser.add_model()
    parser.add(particles=64, prompt_tokens=PROMPT_TOKENS, tokens=150, every=8, repeats=3)
    return parser.read(arguments, particles=8, prompt_tokens=64, tokens=24, repeats=1)


if __name__ == "__main__":
    sys.exit(main())
