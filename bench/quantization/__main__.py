"""What quantising costs under one grammar: divergence, flips, feasible mass, perplexity, documents, speed, memory.

    python -m bench.quantization [MODEL] [--formats bf16,int8,nf4,nf4-dq,fp4,int4] [--prompts FILE] [--limit N]
                                 [--seed 0] [--batch 32] [--no-documents] [--quick] [--out DIR]

The reference writes one greedy document a prompt under the schema of bench/datasets/signatures.py; every variant is
then scored on the same tokens under the same masks (teacher-forced), beside a control: Gaussian noise of the same RMS
in the same tensors. Each format then writes its own documents through the engine. Intervals are bootstrapped over
prompts. The reference is called what its file holds: one read from a 4-bit file is `dequantised Q4_1`, and every figure
is then the loss of quantising again. Ceiling of the speed columns: the device's copy bandwidth (GPU only).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.datasets.signatures import FIELDS, PROMPTS, Task, read_tasks
from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.tables import interval, print_table
from bench.quantization.documents import AGREEMENTS, Written, describe, write_documents
from bench.quantization.scorer import Scorer
from bench.quantization.scores import Replay, figures_of
from bench.quantization.variants import FORMATS, Variant, bytes_per_token, make
from engine.config import EngineConfig
from engine.model.files.source import resolve
from engine.model.quantize import local_folder
from engine.model.source_format import reference_label, source_format, weight_hashes

SCORES = ("kl_all", "kl_legal", "legal_share", "flips_free", "flips_legal", "mass", "mass_shift", "mass_distance")
SPEEDS = ("tokens_per_s", "bytes_per_token", "ceiling_share", "peak_gib", "load_s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; tables on stdout, the JSON line last."""
    options = _options(arguments)
    settings = {"max_batch": options.batch, "max_sequence": 2048}
    with chosen_config(options, {"device": options.device, **settings}, **settings) as config:
        return _run(options, config)


def _run(options: argparse.Namespace, config: EngineConfig) -> int:
    tasks = read_tasks(options.prompts)[: options.limit]
    source = resolve(config.model, config.revision)
    folder = local_folder(source, EngineConfig().cache_dir) if source.kind == "hub" else None
    label = reference_label(source_format(source, folder))
    print(
        f"reference: {label}; {len(tasks)} prompts; ceiling of the loss columns: 0 (the reference itself)", flush=True
    )
    reference = write_documents(config, tasks, label, keep=True)
    _say("reference documents written")
    scorer = Scorer(config.model, config.revision, config.device)
    replay = Replay(reference.replayed, scorer)
    _say("reference scored")
    scores = _scores(options, scorer, replay)
    del scorer, replay
    documents = [describe(reference, reference)]
    if options.documents:
        documents += _documents(options, config, tasks, reference, scores)
    _print(label, scores, documents)
    if options.out is not None and not options.quick:
        from bench.quantization.plot import plot_quantization  # matplotlib is an extra

        plot_quantization(label, scores, options.out)
    configuration = {
        "model": "tiny random model" if options.quick else config.model, "formats": options.formats,
        "prompts": len(tasks), "batch": options.batch, "quick": options.quick, "template": "chat",
        "interval": "95 % percentile bootstrap over prompts",
    }  # fmt: skip
    figures = {"reference": label, "weights_sha256": weight_hashes(source, folder), "scores": scores}
    line = record(
        "quantization", figures | {"documents": documents}, configuration=configuration, seeds=[options.seed],
        data=[options.prompts], model_revision=source.revision, device=documents[0]["device"],
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _scores(options: argparse.Namespace, scorer: Scorer, replay: Replay) -> list[dict[str, Any]]:
    """The reference's own row, then every format with its control after it."""
    rows = [{"variant": "reference", **figures_of(replay.own_scores(), options.seed)}]
    for variant in (Variant(name, noise) for name in options.formats for noise in (False, True)):
        made = make(scorer.weights(), variant, options.seed, scorer.put)
        row: dict[str, Any] = {"variant": variant.name, "relative_rms": made.relative_rms}
        row |= figures_of(replay.scores(scorer), options.seed)
        if (table := made.inventory) is not None:
            row |= {"inventory": table.to_dict(), "bits_per_weight": table.bits_per_weight}
            row["bytes_per_token"] = bytes_per_token(table, tied=scorer.tied, expert_share=scorer.expert_share)
        rows.append(row)
        _say(f"scored {variant.name}")
    return rows


def _documents(
    options: argparse.Namespace, config: EngineConfig, tasks: Sequence[Task], reference: Written,
    scores: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Every format's own documents. On a CPU bf16 computes in fp32 with the reference's weights: nothing to compare."""
    rows, per_token = [], {row["variant"]: row.get("bytes_per_token") for row in scores}
    for name in options.formats:
        if name == "bf16" and reference.device == "cpu":
            continue
        written = write_documents(replace(config, quantization=name), tasks, name)
        rows.append(describe(written, reference, bytes_per_token=per_token[name]))
        _say(f"documents of {name} written")
    return rows


def _print(label: str, scores: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
    """Two tables that a seed decides, then the one that the clock decides."""
    print(f"\nteacher-forced on the documents of the reference ({label}); [95 % interval over prompts]; nats per token")
    head = ["variant", "bits", "rel. RMS", *SCORES, "ppl free", "ppl legal"]
    print_table(head, [_score_cells(row) for row in scores])
    print("\ndocuments of each format, greedy, same grammar; agreement is with the reference's documents")
    names = ["valid", "closed", *AGREEMENTS, *(f"task_{name}" for name in FIELDS)]
    print_table(["format", *names], [[row["format"], *(interval(row[n]) for n in names)] for row in documents])
    print("\nspeed and memory (the clock's figures; they vary from run to run)")
    cells = [["" if (value := row[name]) is None else f"{value:,.4g}" for name in SPEEDS] for row in documents]
    print_table(["format", *SPEEDS], [[row["format"], *told] for row, told in zip(documents, cells, strict=True)])


def _score_cells(row: dict[str, Any]) -> list[str]:
    bits = f"{row['bits_per_weight']:.2f}" if "bits_per_weight" in row else ""
    rms = f"{row['relative_rms']:.4f}" if "relative_rms" in row else ""
    scores = [interval(row[name], 4) for name in SCORES]
    return [row["variant"], bits, rms, *scores, interval(row["ppl_free"]), interval(row["ppl_legal"])]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("quantization", __doc__, "a tiny random model, two formats, two prompts")
    parser.add_argument("model", nargs="?", default=EngineConfig().model)
    parser.add_argument("--revision")
    parser.add_model("tokenizer", "device", model=EngineConfig().model)
    parser.add(formats=FORMATS, seed=0, batch=32)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--limit", type=int, help="only the first N prompts")
    parser.add_argument("--no-documents", dest="documents", action="store_false", help="teacher-forced figures only")
    options = parser.read(arguments, formats=["nf4", "int8"], limit=2, batch=2)
    if unknown := set(options.formats) - set(FORMATS):
        parser.error(f"unknown format {sorted(unknown)[0]!r}; known: {', '.join(FORMATS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
