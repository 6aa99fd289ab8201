r"""What a constraint costs per step: hidden under the forward, and exposed.

    python -m bench.mask_overhead [--model M] [--quantization Q] [--batches 1,8,32] [--sets trivial,typical,hard]
                                  [--tokenizer FOLDER] [--overlap on] [--forced off] [--repeats 3] [--first 100]
                                  [--peer] [--quick] [--out DIR]

Every run replays one document, token by token, through the same model: our loop with overlap off and on, forced runs
off and verified, and (`--peer`) Hugging Face's forward with XGrammar's LogitsProcessor. Constrained and unconstrained
runs are interleaved; the difference of their medians per step is the cross-check of what the records say. Ceiling: 0.
Sets `lift` (LIFT's six schemas) and `mix` (32 schemas of MaskBench's development set, in MASKLOOP_DATA) give every row
of a batch another schema and document. `exposed_share` is the mean exposed time of a step over the mean step;
`trace_share` is what a trace written to a file adds. `--first N` adds a run of each set in an engine that has seen none
of its schemas: no cache, no warm-up, once, and the first N tokens of every row alone: what the device waited in any of
those steps, whatever for, and how many steps rows missed. On a GPU:
    python -m bench.mask_overhead --model random:CONFIG.json --quantization nf4 --sets lift,mix --overlap on \
                                  --forced off
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, product
from operator import attrgetter
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from bench.datasets.schema_sets import PROMPT, SchemaSet, mixed_pairs, schema_set
from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.statistics import median, percentiles, quantile
from bench.harness.tables import print_table
from bench.mask_overhead.peer import peer_runs
from bench.replay.engine import ReplayedEngine, Tokens, accepts, with_stop
from bench.replay.runner import Waited, decode_step_ms
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.interfaces import StepRecord
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load
from engine.request import Constraint, Request, SamplingParams
from engine.trace import TraceWriter

MIX_SCHEMAS = 32
"""One a row of the largest batch."""
MIX_TOKENS = range(100, 221)
"""Documents about as long as LIFT's, so that rows end at about the same time."""
KINDS = (("constrained_ms", True, True), ("free_ms", False, True), ("untraced_ms", True, False))
"""Which step times a run adds to, and whether it has a mask and a trace."""


@dataclass(slots=True)
class Samples:
    """One configuration: step times with the mask, without it, with it and no trace, and the records of the first."""

    constrained_ms: list[float] = field(default_factory=list)
    free_ms: list[float] = field(default_factory=list)
    untraced_ms: list[float] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the table and the JSON line."""
    options = _options(arguments)
    print("ceiling: 0 µs exposed, 0 µs of a step added by the mask", flush=True)
    with chosen_config(options, {"max_batch": 1}, max_batch=max(options.batches), max_sequence=2048) as config:
        loaded = load(config)
        runs = list(_ours(loaded, options))
        if options.peer:
            runs += peer_runs(loaded, options)
    names = ["loop", "batch", "schema_set", "overlap", "forced", "ms_per_step", "unconstrained_ms_per_step"]
    names += ["mask_hidden_us", "mask_exposed_us", "exposed_share", "added_us", "steps"]
    heads = [name.replace("unconstrained_ms_per_step", "free ms").replace("_", " ") for name in names]
    print_table(heads, [[str(run.get(name, "")) for name in names] for run in runs])
    if options.out is not None and not options.quick:
        from bench.mask_overhead.plot import plot_mask_overhead  # matplotlib is an extra

        plot_mask_overhead(runs, options.out)
    configuration = {name: getattr(options, name) for name in ("batches", "sets", "quick")}
    configuration |= {"model": _model_name(loaded.name), "quantization": loaded.runner.quantization}
    line = record(
        "mask_overhead", {"runs": runs}, configuration=configuration, repeats=options.repeats,
        model_revision=loaded.revision, device=loaded.runner.device,
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _model_name(name: str) -> str:
    """A model of random weights by its config's file name: where that lay says nothing."""
    return f"random:{Path(name.removeprefix('random:')).name}" if name.startswith("random:") else name


def _ours(loaded: LoadedModel, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    most, sets = max(options.batches), []
    for overlap, forced in product(options.overlap, options.forced):
        config = EngineConfig(overlap=overlap == "on", forced_runs=forced, max_batch=most, prefix_cache_bytes=0)
        with ReplayedEngine(config, loaded) as engine:
            sets = sets or [_mixed_set(engine) if name == "mix" else schema_set(name) for name in options.sets]
            for batch, chosen in product(options.batches, sets):
                if chosen.name == "mix" and batch != most:
                    continue
                about = {"loop": "ours", "batch": batch, "schema_set": chosen.name, "overlap": overlap == "on"}
                about["forced"] = forced
                figures = _figures(_measured(engine, chosen, batch, options.repeats), drafted=forced != "off")
                yield about | figures
                print(f"{about} exposed {figures['exposed_share']:.4%}", file=sys.stderr, flush=True)
    for batch, chosen in product(options.batches if options.first else (), sets):
        if chosen.name != "mix" or batch == most:
            yield _unseen(loaded, chosen, batch, options.first)


def _unseen(loaded: LoadedModel, chosen: SchemaSet, batch: int, first: int) -> dict[str, Any]:
    """The first tokens of every row's document in an engine that compiles each schema for it; free text goes before.
    Rows begin as their grammars are there, so that steps have fewer rows than the batch."""
    with TemporaryDirectory() as cache:
        config = EngineConfig(max_batch=batch, prefix_cache_bytes=0, forced_runs="off", cache_dir=cache)
        with ReplayedEngine(config, loaded) as engine:
            documents, constraints = _rows(engine, chosen, batch)
            for masks in (dict.fromkeys(constraints), constraints):
                engine.replay(documents)
                began, at = perf_counter(), list[float]()
                records = _replay(engine, masks, True, at)
            waits = engine.replaying.recording.waits
    about = {"loop": "ours", "batch": batch, "schema_set": f"{chosen.name}, unseen", "overlap": True, "forced": "off"}
    figures = _first_figures(list(zip(records, at, strict=True)), waits, began, first)
    print(f"{about} {figures}", file=sys.stderr, flush=True)
    return about | figures


def _first_figures(
    traced: Sequence[tuple[StepRecord, float]], waits: Sequence[Waited], began: float, first: int
) -> dict[str, Any]:
    """What the device waited in all steps up to the last row's token number `first`, and what rows waited: the steps
    that others made beside a row between its first token and that one, and how long it took. Steps that brought no row
    a token (`vain_ms`) count as none, and `idle_ms` is what the device did nothing between two steps."""
    rows: dict[str, list[tuple[StepRecord, float]]] = {}
    for one, at in traced:
        if one.position < first:
            rows.setdefault(one.request_id, []).append((one, at))
    last = max(row[-1][1] for row in rows.values())
    steps = [wait for wait in waits if began < wait.at <= last]
    useful = {bisect_right(steps, at, key=attrgetter("at")) - 1 for row in rows.values() for _, at in row}
    steps_us = sum(steps[index].took_us for index in useful)
    idle = [max(0.0, (b.at - a.at) * 1e6 - b.took_us) for a, b in pairwise(steps[min(useful) :])]
    missed = [row[-1][0].step - row[0][0].step + 1 - len(row) for row in rows.values()]
    fills = [one.fill_us for row in rows.values() for one, _ in row]
    exposed = [step.exposed_us for step in steps]
    return {
        "exposed_share": round(sum(exposed) / steps_us, 6),
        "exposed_ms": round(sum(exposed) / 1e3, 3),
        "exposed_max_us": round(max(exposed), 2),
        "steps_ms": round(steps_us / 1e3, 2),
        "idle_ms": round(sum(idle) / 1e3, 2),
        "vain_ms": round((sum(step.took_us for step in steps) - steps_us) / 1e3, 2),
        "mask_hidden_us": round(median([one.hidden_us for row in rows.values() for one, _ in row]), 2),
        "mask_exposed_us": round(median(exposed), 2),
        "fill_us": round(median(fills), 2),
        "fill_max_us": round(max(fills), 2),
        "first": first,
        "steps": len(steps),
        "missed_steps": sum(missed),
        "missed_of": sum(missed) + sum(map(len, rows.values())),
        "missed_most": max(missed),
        "first_token_ms": percentiles((row[0][1] - began) * 1e3 for row in rows.values()),
        "from_first_token_ms": percentiles((row[-1][1] - row[0][1]) * 1e3 for row in rows.values()),
    }


def _rows(engine: Engine, chosen: SchemaSet, batch: int) -> tuple[dict[str, Tokens], dict[str, Constraint | None]]:
    """Documents and constraints by the prompt of each row: a slot is told by its own."""
    pairs = {f"{row}: {PROMPT}": chosen.pair(row) for row in range(batch)}
    documents = {prompt: with_stop(engine.tokenizer, text) for prompt, (_, text) in pairs.items()}
    return documents, {prompt: Constraint.json_schema(schema) for prompt, (schema, _) in pairs.items()}


def _mixed_set(engine: Engine) -> SchemaSet:
    """The first MIX_SCHEMAS of the data set whose grammar takes a document of MIX_TOKENS."""
    taken = (
        (schema, text)
        for schema, text in mixed_pairs()
        if len(tokens := with_stop(engine.tokenizer, text)) - 1 in MIX_TOKENS
        and accepts(engine, Constraint.json_schema(schema), tokens)
    )
    return SchemaSet("mix", tuple(islice(taken, MIX_SCHEMAS)))


def _measured(engine: ReplayedEngine, chosen: SchemaSet, batch: int, repeats: int) -> Samples:
    """Repeats of (constrained and traced, free and traced, constrained and untraced), interleaved; a warm-up first."""
    documents, constraints = _rows(engine, chosen, batch)
    samples = Samples()
    for turn in range(repeats + 1):
        for name, masked, traced in KINDS[turn % 3 :] + KINDS[: turn % 3] if turn else KINDS[:1]:
            engine.replay(documents)
            records = _replay(engine, {p: mask if masked else None for p, mask in constraints.items()}, traced)
            if turn == 0:
                continue
            getattr(samples, name).extend(decode_step_ms(engine.replaying.recording.marks, batch))
            if name == "constrained_ms":
                samples.records += [record for record in records if record.rows == batch]
    return samples


def _replay(
    engine: Engine, masks: dict[str, Constraint | None], traced: bool, at: list[float] | None = None
) -> list[StepRecord]:
    """One document in every row at once; with a trace it is kept and written to a file. `at`: when each record came."""
    records: list[StepRecord] = []
    sampling = SamplingParams(temperature=0.0)
    with TemporaryDirectory() as folder, TraceWriter(Path(folder) / "trace.jsonl") as writer:

        def trace(record: StepRecord) -> None:
            records.append(record)
            if at is not None:
                at.append(perf_counter())
            writer(record)

        requests = [
            Request(prompt=prompt, template="raw", constraint=mask, sampling=sampling) for prompt, mask in masks.items()
        ]
        for future in [engine.submit(request, trace=trace if traced else None) for request in requests]:
            writer.result(future.result(timeout=3600).to_dict())
    return records


def _figures(samples: Samples, *, drafted: bool) -> dict[str, Any]:
    """The contract's fields, then the cross-check. Medians, but for the share; hidden and exposed are per row and step.

    With drafts a constrained step does more tokens than a free one, so there is no difference to tell.
    """
    records = samples.records
    us = {n: median([getattr(r, f"{n}_us") for r in records]) for n in ("hidden", "exposed", "fill", "copy", "apply")}
    exposed = sorted(r.exposed_us for r in records)
    step, free, untraced = (median(v) for v in (samples.constrained_ms, samples.free_ms, samples.untraced_ms))
    steps = {(r.request_id, r.step) for r in records}
    return {
        "ms_per_step": round(step, 4),
        "mask_hidden_us": round(us["hidden"], 2),
        "mask_exposed_us": round(us["exposed"], 2),
        "exposed_share": round(mean(exposed) / (mean(samples.constrained_ms) * 1e3), 6),
        "exposed_p99_us": round(quantile(exposed, 0.99) or 0.0, 2),
        "unconstrained_ms_per_step": round(free, 4),
        "added_us": None if drafted else round((step - free) * 1e3, 2),
        **{f"{name}_us": round(us[name], 2) for name in ("fill", "copy", "apply")},
        "tokens_per_step": round(len(records) / len(steps), 4) if steps else 0.0,
        "trace_share": round((step - untraced) / untraced, 6) if untraced else 0.0,
        "steps": len(samples.constrained_ms),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("mask_overhead", __doc__, "a tiny random model, batch 1, one repeat")
    parser.add_model(model=EngineConfig().model)
    parser.add(batches=(1, 8, 32), sets=("trivial", "typical", "hard"), overlap=("off", "on"))
    parser.add(forced=("off", "verify"), repeats=3, first=0)
    parser.add_argument("--peer", action="store_true", help="also Hugging Face's forward with xgrammar's processor")
    return parser.read(arguments, batches=[1], repeats=1, sets=["trivial"])


if __name__ == "__main__":
    sys.exit(main())
