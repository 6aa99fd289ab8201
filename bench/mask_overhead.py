r"""What a constraint costs per step: hidden under the forward, and exposed.

    python -m bench.mask_overhead [--model M] [--quantization Q] [--batches 1,8,32] [--sets trivial,typical,hard]
                                  [--tokenizer FOLDER] [--overlap on] [--forced off] [--repeats 3] [--peer] [--quick]
                                  [--out DIR]

Every run replays one document, token by token, through the same model: our loop with overlap off and on, forced runs
off and verified, and (`--peer`) Hugging Face's forward with XGrammar's LogitsProcessor. Constrained and unconstrained
runs are interleaved; the difference of their medians per step is the cross-check of what the records say. Ceiling: 0.
Sets `lift` (LIFT's six schemas) and `mix` (32 schemas of MaskBench's development set, in MASKLOOP_DATA) give every row
of a batch another schema and document. `exposed_share` is the mean exposed time of a step over the mean step;
`trace_share` is what a trace written to a file adds. On a GPU:
    python -m bench.mask_overhead --model random:CONFIG.json --quantization nf4 --sets lift,mix --overlap on \
                                  --forced off
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from bench.overhead_sets import PROMPT, SchemaSet, mixed_set, schema_set
from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner, decode_step_ms, median
from bench.tables import print_table
from bench.tiny import tiny_config
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.interfaces import StepRecord
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load
from engine.request import Constraint, Request, SamplingParams
from engine.trace import TraceWriter


@dataclass(slots=True)
class Samples:
    """One configuration: step times with the mask, without it, with it and no trace, and the records of the first."""

    constrained_ms: list[float] = field(default_factory=list)
    free_ms: list[float] = field(default_factory=list)
    untraced_ms: list[float] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the table and the JSON line."""
    options = _parse(arguments)
    if options.quick:
        with TemporaryDirectory() as folder:
            return _run(options, tiny_config(Path(folder), max_batch=1))
    config = EngineConfig(
        model=options.model, quantization=options.quantization, device=options.device, max_batch=max(options.batches),
        tokenizer=options.tokenizer, max_sequence=2048,
    )  # fmt: skip
    return _run(options, config)


def _run(options: argparse.Namespace, config: EngineConfig) -> int:
    print("ceiling: 0 µs exposed, 0 µs of a step added by the mask", flush=True)
    return run_loaded(options, load(config))


def run_loaded(options: argparse.Namespace, loaded: LoadedModel) -> int:
    """Everything over a model that is loaded."""
    runner = ReplayRunner(loaded.runner)
    loaded.runner = runner
    runs = list(_ours(loaded, runner, options))
    if options.peer:
        from bench.overhead_peer import peer_runs

        runs += peer_runs(loaded, options)
    _print(runs)
    if options.out is not None and not options.quick:
        from bench.plots import plot_mask_overhead

        plot_mask_overhead(runs, options.out)
    configuration = {
        "model": _model_name(loaded.name),
        "quantization": loaded.runner.quantization,
        "batches": options.batches,
        "sets": options.sets,
        "quick": options.quick,
    }
    line = record(
        "mask_overhead",
        {"runs": runs},
        configuration=configuration,
        repeats=options.repeats,
        model_revision=loaded.revision,
        device=None if loaded.runner.device == "cpu" else loaded.runner.device,
    )
    emit(line, options.out)
    return 0


def _model_name(name: str) -> str:
    """A model of random weights by its config's file name: where that lay says nothing."""
    return f"random:{Path(name.removeprefix('random:')).name}" if name.startswith("random:") else name


def _ours(loaded: LoadedModel, runner: ReplayRunner, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    sets: list[SchemaSet] = []
    for overlap, forced in product(options.overlap, options.forced):
        config = EngineConfig(overlap=overlap, forced_runs=forced, max_batch=max(options.batches), prefix_cache_bytes=0)
        engine = Engine(config, loaded=loaded)
        sets = sets or [mixed_set(engine) if name == "mix" else schema_set(name) for name in options.sets]
        for batch, chosen in product(options.batches, sets):
            if chosen.name == "mix" and batch != max(options.batches):
                continue
            samples = _measured(engine, runner, chosen, batch, options)
            about = {"loop": "ours", "batch": batch, "schema_set": chosen.name, "overlap": overlap, "forced": forced}
            figures = _figures(samples, drafted=forced != "off")
            yield about | figures
            print(f"{about} exposed {figures['exposed_share']:.4%}", file=sys.stderr, flush=True)
        engine.close()


def _measured(
    engine: Engine, runner: ReplayRunner, chosen: SchemaSet, batch: int, options: argparse.Namespace
) -> Samples:
    """Repeats of (constrained and traced, free and traced, constrained and untraced), interleaved; a warm-up first."""
    encode, stop = engine.tokenizer.encode, engine.tokenizer.stop_token_ids[0]
    cases = [chosen.case(row) for row in range(batch)]
    documents = {tuple(encode(prompt_of(row))): (*encode(text), stop) for row, (_, text) in enumerate(cases)}
    constraints = [Constraint.json_schema(schema) for schema, _ in cases]
    samples = Samples()
    for turn in range(options.repeats + 1):
        kinds = [("constrained_ms", True, True), ("free_ms", False, True), ("untraced_ms", True, False)]
        for name, masked, traced in kinds[turn % 3 :] + kinds[: turn % 3] if turn else kinds[:1]:
            runner.recording = Recording(by_prompt=documents)
            records = _replay(engine, constraints if masked else [None] * batch, traced)
            if turn == 0:
                continue
            getattr(samples, name).extend(decode_step_ms(runner.recording.marks, batch))
            if name == "constrained_ms":
                samples.records += [record for record in records if record.rows == batch]
    return samples


def prompt_of(row: int) -> str:
    """Every row's own, so that a slot can be told which document it replays."""
    return f"{row}: {PROMPT}"


def _replay(engine: Engine, masks: Sequence[Constraint | None], traced: bool) -> list[StepRecord]:
    """One document in every row at once; with a trace it is kept and written to a file."""
    records: list[StepRecord] = []
    sampling = SamplingParams(temperature=0.0)
    with TemporaryDirectory() as folder, TraceWriter(Path(folder) / "trace.jsonl") as writer:

        def trace(record: StepRecord) -> None:
            records.append(record)
            writer(record)

        requests = [
            Request(prompt=prompt_of(row), template="raw", constraint=mask, sampling=sampling)
            for row, mask in enumerate(masks)
        ]
        for future in [engine.submit(request, trace=trace if traced else None) for request in requests]:
            writer.result(future.result(timeout=3600).to_dict())
    return records


def _figures(samples: Samples, *, drafted: bool) -> dict[str, Any]:
    """The contract's fields, then the cross-check. Medians, but for the share; hidden and exposed are per row and step.

    With drafts a constrained step does more tokens than a free one, so there is no difference to tell.
    """
    records = samples.records
    hidden, exposed = median([r.hidden_us for r in records]), median([r.exposed_us for r in records])
    step, free, untraced = (median(v) for v in (samples.constrained_ms, samples.free_ms, samples.untraced_ms))
    steps = {(r.request_id, r.step) for r in records}
    return {
        "ms_per_step": round(step, 4),
        "mask_hidden_us": round(hidden, 2),
        "mask_exposed_us": round(exposed, 2),
        "exposed_share": round(mean([r.exposed_us for r in records]) / (mean(samples.constrained_ms) * 1e3), 6),
        "exposed_p99_us": round(sorted(r.exposed_us for r in records)[int(0.99 * len(records))], 2),
        "unconstrained_ms_per_step": round(free, 4),
        "added_us": None if drafted else round((step - free) * 1e3, 2),
        "fill_us": round(median([r.fill_us for r in records]), 2),
        "copy_us": round(median([r.copy_us for r in records]), 2),
        "apply_us": round(median([r.apply_us for r in records]), 2),
        "tokens_per_step": round(len(records) / len(steps), 4) if steps else 0.0,
        "trace_share": round((step - untraced) / untraced, 6) if untraced else 0.0,
        "steps": len(samples.constrained_ms),
    }


def _print(runs: Sequence[dict[str, Any]]) -> None:
    names = ["loop", "batch", "schema_set", "overlap", "forced", "ms_per_step", "unconstrained_ms_per_step"]
    names += ["mask_hidden_us", "mask_exposed_us", "exposed_share", "added_us", "steps"]
    heads = [name.replace("unconstrained_ms_per_step", "free ms").replace("_", " ") for name in names]
    print_table(heads, [[str(run[name]) for name in names] for run in runs])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.mask_overhead", description="What a constraint costs a step")
    parser.add_argument("--model", default=EngineConfig().model)
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--sets", type=lambda text: text.split(","), default=["trivial", "typical", "hard"])
    parser.add_argument("--tokenizer")
    parser.add_argument("--overlap", type=_switches, default=[False, True], help="off,on")
    parser.add_argument("--forced", type=lambda text: text.split(","), default=["off", "verify"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="also Hugging Face's forward with xgrammar's processor")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, batch 1, one repeat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.batches, options.repeats, options.sets = [1], 1, ["trivial"]
    return options


def _switches(text: str) -> list[bool]:
    return [{"off": False, "on": True}[part] for part in text.split(",")]


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
