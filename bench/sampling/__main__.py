"""How far texts are from the model's own distribution, given that they are valid, through the engine's loop.

    python -m bench.sampling [--runs 4000] [--languages 12] [--particles 8,32,128] [--quick] [--out DIR]

Twelve languages of 8 to 64 token sequences, whose exact laws are enumerated: the total variation from the truth of
masked texts, of `smc` with each number of particles, and of `rejection`, beside what as many exact draws show (mean and
99 % quantile), which is taken off before the share of masked sampling's is told. Then the evidence against dynamic
programming over 5,460 sequences, and whether mass behind a rare beginning is warned of. Ceiling: a share of 0.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.sampling.languages import HIDDEN, Language, Walks, distance, exact_distances, law_of, twelve
from bench.sampling.small_model import SmallEngine
from engine.request import Constraint, SamplingParams

_TOKENS = 16
_REPEATS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """0; the figures are for people to judge."""
    parser = Options("sampling", __doc__, "60 runs of one language with 8 particles")
    parser.add(runs=4000, languages=12, evidence_runs=200, particles=(8, 32, 128))
    options = parser.read(arguments, runs=60, languages=1, evidence_runs=30, particles=[8])
    print("ceiling: texts from the truth itself, share 0", flush=True)
    languages = twelve()[: options.languages]
    walks, started = Walks(), time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        SmallEngine([*languages, walks.language, HIDDEN], Path(folder)) as engine,
    ):
        rows = [_distances(engine, index, one, options) for index, one in enumerate(languages)]
        evidence = _evidence(engine, len(languages), walks, options.evidence_runs)
        warned = _warned(engine, len(languages) + 1, options.evidence_runs)
    print_table(list(rows[0]), [[f"{value:.4g}" for value in row.values()] for row in rows])
    print(evidence, f"hidden mass: warned in {warned:.3f} of the runs", sep="\n", flush=True)
    figures = {"languages": rows, "evidence": evidence, "warned": warned, "cpu_s": time.process_time() - started}
    configuration = {name: getattr(options, name) for name in ("runs", "evidence_runs", "particles")}
    emit(record("sampling", figures, configuration=configuration, seeds=[0]), options.out)
    return 0


def _distances(engine: SmallEngine, index: int, language: Language, options: Any) -> dict[str, float]:
    """By name, the figures of one language."""
    constraint, exact = (
        Constraint.choice(list(language.texts)),
        exact_distances(language.truth, options.runs, _REPEATS, 1),
    )
    masked, noise = distance(language.masked, language.truth), statistics.mean(exact)
    figures = {"sequences": len(language.sequences), "evidence": language.evidence, "masked": masked, "exact": noise}
    figures["exact_99"] = sorted(exact)[int(0.99 * len(exact))]
    for name, given in _methods(options.particles).items():
        params = SamplingParams.from_mapping({"temperature": language.temperature, "max_tokens": _TOKENS, **given})
        results = engine.draw(index, constraint, range(options.runs), params)
        found = distance(law_of([result.token_ids for result in results]), language.truth)
        figures |= {name: found, f"{name}_share": max(0.0, found - noise) / masked}
    print({name: round(value, 4) for name, value in figures.items()}, flush=True)
    return figures


def _methods(particles: Sequence[int]) -> dict[str, dict[str, Any]]:
    return {f"smc_{count}": {"method": "smc", "particles": count} for count in particles} | {
        "rejection": {"method": "rejection"}
    }


def _evidence(engine: SmallEngine, index: int, walks: Walks, runs: int) -> dict[str, float]:
    """The mean of exp(log_evidence) beside the truth, in standard errors."""
    params = SamplingParams(method="smc", max_tokens=_TOKENS)
    results = engine.draw(index, Constraint.regex(walks.pattern), range(runs), params)
    found = [math.exp(result.log_evidence if result.log_evidence is not None else -math.inf) for result in results]
    error = statistics.stdev(found) / math.sqrt(runs)
    mean = statistics.mean(found)
    truth = walks.evidence()
    return {"truth": truth, "mean": mean, "standard_error": error, "errors_off": (mean - truth) / error}


def _warned(engine: SmallEngine, index: int, runs: int) -> float:
    """The part of the runs that warn."""
    params = SamplingParams(method="smc", max_tokens=_TOKENS)
    results = engine.draw(index, Constraint.choice(list(HIDDEN.texts)), range(runs), params)
    return sum(bool(result.warnings) for result in results) / runs


if __name__ == "__main__":
    sys.exit(main())
