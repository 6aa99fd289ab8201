"""What tracing costs a step, and whether Z and the entropies it writes are right.

    python -m bench.trace_overhead [--model M] [--quantization Q] [--device auto] [--set typical] [--repeats 5]
                                   [--no-float64] [--quick] [--out DIR]

One document is replayed, in turn with no trace, with a trace written to a file, and with feasible mass and entropies in
it as well; shares compare each round's median step with the untraced one of the same round. Then Hugging Face's forward
of the same weights in float64 says what Z and the entropies should have been at every token (CPU only: in 16 bits the
logits themselves differ). Ceiling: 0 of a step, 0 from float64.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.datasets.schema_sets import PROMPT, SINGLE, Pair, schema_set
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from bench.peers.hf_model import hf_model
from bench.replay.engine import ReplayedEngine, Tokens, with_stop
from bench.replay.runner import decode_step_ms
from bench.trace_overhead.float64 import distances
from engine.config import EngineConfig
from engine.interfaces import StepRecord
from engine.model.loader import load
from engine.request import Constraint
from engine.trace import TraceWriter

KINDS = ("untraced", "traced", "with_statistics")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the figures and the JSON line."""
    parser = Options("trace_overhead", __doc__, "a tiny random model, the trivial schema, one repeat")
    parser.add_model(model=EngineConfig().model)
    parser.add_argument("--set", default="typical", choices=SINGLE)
    parser.add_argument("--no-float64", dest="float64", action="store_false", help="leave the reference out")
    parser.add(repeats=5)
    options = parser.read(arguments, set="trivial", repeats=1)
    print("ceiling: 0 of a step for a trace, 0 between Z, entropies and their float64 values", flush=True)
    settings = {"max_batch": 1, "forced_runs": "off"}
    with chosen_config(options, settings, **settings) as config, TemporaryDirectory() as folder:
        loaded = load(config)
        runner, revision, pair = loaded.runner, loaded.revision, schema_set(options.set).pair(0)
        with ReplayedEngine(config, loaded) as engine:
            figures, records = overhead(engine, pair, Path(folder), options.repeats)
            if options.float64 and runner.device == "cpu":
                figures |= distances(engine, pair, records, hf_model(config.model, revision, "cpu"))
        runner.close()
    print_figures(figures)
    configuration = {"model": model_name(options), "set": options.set, "quantization": runner.quantization}
    configuration["threads"] = torch.get_num_threads()
    line = record(
        "trace_overhead", figures, configuration=configuration, repeats=options.repeats, model_revision=revision,
        device=runner.device,
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _run(
    engine: ReplayedEngine, constraint: Constraint, document: Tokens, kind: str, folder: Path
) -> tuple[list[float], list[StepRecord]]:
    """Milliseconds a step, and the records where there is a trace."""
    records: list[StepRecord] = []
    with TraceWriter(folder / "trace.jsonl") as writer:

        def trace(one: StepRecord) -> None:
            writer(one)
            records.append(one)

        wanted = None if kind == "untraced" else trace
        (result,), _ = engine.run(PROMPT, document, constraint, trace=wanted, stats=kind == "with_statistics")
        writer.result(result.to_dict())
    return decode_step_ms(engine.replaying.recording.marks, 1), records


def overhead(engine: ReplayedEngine, pair: Pair, folder: Path, repeats: int) -> tuple[dict[str, Any], list[StepRecord]]:
    """Median step of each kind, medians over rounds of its share, and the last records with statistics."""
    constraint, document = Constraint.json_schema(pair[0]), with_stop(engine.tokenizer, pair[1])
    steps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS[1:]}
    last: list[StepRecord] = []
    for turn in range(repeats + 1):
        found = {}
        for kind in KINDS if turn % 2 else KINDS[::-1]:
            found[kind], records = _run(engine, constraint, document, kind, folder)
            last = records if kind == "with_statistics" else last
        if turn == 0:  # a warm-up
            continue
        for kind, times in found.items():
            steps[kind] += times
            if kind in shares:
                shares[kind].append(median(times) / median(found["untraced"]) - 1)
    figures: dict[str, Any] = {f"{kind}_ms_per_step": round(median(ms), 4) for kind, ms in steps.items()}
    figures |= {f"{kind}_share": round(median(seen), 5) for kind, seen in shares.items()}
    figures |= {f"{kind}_share_spread": [round(min(s), 5), round(max(s), 5)] for kind, s in shares.items()}
    return {**figures, "steps": len(steps["untraced"])}, last


if __name__ == "__main__":
    sys.exit(main())
