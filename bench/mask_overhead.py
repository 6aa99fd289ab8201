"""What a constraint costs per step: hidden under the forward, and exposed.

    python -m bench.mask_overhead [--model M] [--quantization Q] [--batches 1,8,32] [--sets trivial,typical,hard]
                                  [--repeats 3] [--peer] [--quick] [--out DIR]

Every run replays one document, token by token, through the same model: our loop with overlap off and on, forced runs
off and verified, and (`--peer`) Hugging Face's forward with XGrammar's LogitsProcessor. Constrained and unconstrained
runs are interleaved; the difference of their medians per step is the cross-check of what the records say. Ceiling: 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from bench.overhead_sets import SchemaSet, schema_set
from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner, decode_step_ms, median
from bench.tables import print_table
from bench.tiny import tiny_config
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.interfaces import StepRecord
from engine.model.loader import LoadedModel, load
from engine.request import Constraint, Request, SamplingParams

PROMPT = "Describe: "


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
        model=options.model, quantization=options.quantization, device=options.device, max_batch=max(options.batches)
    )
    return _run(options, config)


def _run(options: argparse.Namespace, config: EngineConfig) -> int:
    print("ceiling: 0 µs exposed, 0 µs of a step added by the mask", flush=True)
    loaded = load(config)
    runner = ReplayRunner(loaded.runner)
    loaded.runner = runner
    runs = list(_ours(loaded, runner, options))
    if options.peer:
        runs += _peer(loaded, options)
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
    sets = [schema_set(name) for name in options.sets]
    modes: list[Literal["off", "verify"]] = ["off", "verify"]
    for overlap, forced in product((False, True), modes):
        config = EngineConfig(overlap=overlap, forced_runs=forced, max_batch=max(options.batches))
        engine = Engine(config, model=loaded)
        for batch, chosen in product(options.batches, sets):
            samples = _measured(engine, runner, chosen, batch, options)
            about = {"loop": "ours", "batch": batch, "schema_set": chosen.name, "overlap": overlap, "forced": forced}
            yield about | _figures(samples, drafted=forced != "off")
            print(f"{about}", file=sys.stderr, flush=True)
        engine.close()


def _measured(
    engine: Engine, runner: ReplayRunner, chosen: SchemaSet, batch: int, options: argparse.Namespace
) -> Samples:
    """Repeats of (constrained and traced, free and traced, constrained and untraced), interleaved; a warm-up first."""
    constraint = Constraint.json_schema(chosen.schema)
    document = (*engine.tokenizer.encode(chosen.text), engine.tokenizer.stop_token_ids[0])
    prompt_tokens = len(engine.tokenizer.encode(PROMPT))
    samples = Samples()
    for turn in range(options.repeats + 1):
        kinds = [("constrained_ms", constraint, True), ("free_ms", None, True), ("untraced_ms", constraint, False)]
        for name, mask, traced in kinds[turn % 3 :] + kinds[: turn % 3] if turn else kinds[:1]:
            runner.recording = Recording(document, prompt_tokens)
            records = _replay(engine, mask, batch, traced)
            if turn == 0:
                continue
            getattr(samples, name).extend(decode_step_ms(runner.recording.marks, batch))
            if name == "constrained_ms":
                samples.records += records
    return samples


def _replay(engine: Engine, mask: Constraint | None, batch: int, traced: bool) -> list[StepRecord]:
    """One document in `batch` rows at once."""
    records: list[StepRecord] = []
    sampling = SamplingParams(temperature=0.0)
    requests = [Request(prompt=PROMPT, template="raw", constraint=mask, sampling=sampling) for _ in range(batch)]
    futures = [engine.submit(request, trace=records.append if traced else None) for request in requests]
    for future in futures:
        future.result(timeout=3600)
    return records


def _figures(samples: Samples, *, drafted: bool) -> dict[str, Any]:
    """The contract's fields, then the cross-check. Medians; hidden and exposed are per row and step.

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
        "exposed_share": round(exposed / (step * 1e3), 6) if step else 0.0,
        "unconstrained_ms_per_step": round(free, 4),
        "added_us": None if drafted else round((step - free) * 1e3, 2),
        "fill_us": round(median([r.fill_us for r in records]), 2),
        "copy_us": round(median([r.copy_us for r in records]), 2),
        "apply_us": round(median([r.apply_us for r in records]), 2),
        "tokens_per_step": round(len(records) / len(steps), 4) if steps else 0.0,
        "trace_share": round((step - untraced) / untraced, 6) if untraced else 0.0,
        "steps": len(samples.constrained_ms),
    }


def _peer(loaded: LoadedModel, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The baseline loop over the same documents, on Hugging Face's forward of the same weights."""
    from bench.peers.hf_loop import HfLoop
    from bench.peers.hf_model import hf_model

    tokenizer = loaded.tokenizer
    vocabulary = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    loop = HfLoop(hf_model(options.model, loaded.revision, options.device), vocabulary, tokenizer.stop_token_ids)
    prompt, runs = tokenizer.encode(PROMPT), []
    for batch, name in product(options.batches, options.sets):
        chosen = schema_set(name)
        document = tokenizer.encode(chosen.text)
        step, free, mask = [], [], []
        for turn in range(options.repeats + 1):
            bound, unbound = loop.run(prompt, document, batch, chosen.schema), loop.run(prompt, document, batch, None)
            if turn:
                step += bound.step_ms
                free += unbound.step_ms
                mask += bound.mask_us
        runs.append(_peer_figures(batch, name, step, free, mask))
        print(f"peer batch {batch} {name}", file=sys.stderr, flush=True)
    return runs


def _peer_figures(batch: int, name: str, step: list[float], free: list[float], mask: list[float]) -> dict[str, Any]:
    exposed = median(mask)
    return {
        "loop": "hf + xgrammar LogitsProcessor",
        "batch": batch,
        "schema_set": name,
        "overlap": False,
        "forced": "off",
        "ms_per_step": round(median(step), 4),
        "mask_hidden_us": 0.0,
        "mask_exposed_us": round(exposed, 2),
        "exposed_share": round(exposed / (median(step) * 1e3), 6),
        "unconstrained_ms_per_step": round(median(free), 4),
        "added_us": round((median(step) - median(free)) * 1e3, 2),
        "steps": len(step),
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="also Hugging Face's forward with xgrammar's processor")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, batch 1, one repeat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.batches, options.repeats, options.sets = [1], 1, ["trivial"]
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
