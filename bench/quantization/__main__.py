"""What quantising costs under one grammar: divergence, flips, feasible mass, perplexity, documents, speed, memory.

    python -m bench.quantization [MODEL] [--formats bf16,int8,nf4,nf4-dq,fp4,int4,nl4] [--calibrate FILE.jsonl]
                                 [--prompts FILE | --text FILE] [--limit N] [--seed 0] [--batch 32] [--no-documents]
                                 [--quick] [--out DIR]

The reference writes one greedy document a prompt under the schema of bench/datasets/signatures.py; every variant is
then scored on the same tokens under the same masks (teacher-forced), beside a control: Gaussian noise of the same RMS
in the same tensors. Each format then writes its own documents through the engine. Intervals are bootstrapped over
prompts. The reference is called what its file holds: one read from a 4-bit file is `dequantised Q4_1`, and every figure
is then the loss of quantising again. Ceiling of the speed columns: the device's copy bandwidth (GPU only).

With `--text` variants are scored on windows of a text instead, under no grammar, and nothing is written. With
`--calibrate` nl4 is also made as `maskloop quantize --calibrate` makes it. The column `of nf4` is the divergence over
all tokens as a share of nf4's. First comes a table of weights that no model has (synthetic.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.datasets.signatures import FIELDS, PROMPTS, Task, read_tasks
from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.tables import interval, print_table
from bench.quantization.documents import AGREEMENTS, Written, describe, write_documents
from bench.quantization.scorer import Scorer
from bench.quantization.scores import PromptScore, Replay, figures_of, kl_of
from bench.quantization.synthetic import errors
from bench.quantization.text import read_windows
from bench.quantization.variants import CALIBRATED, FORMATS, Variant, bytes_per_token, make
from engine.cli.commands.quantize import read_prompts
from engine.config import EngineConfig
from engine.model.checkpoint.checkpoint import load_checkpoint
from engine.model.files.source import resolve
from engine.model.quantize import local_folder, quantize
from engine.model.source_format import reference_label, source_format, weight_hashes
from engine.model.tokenizer import load_tokenizer

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
    made_up = errors(options.formats, options.seed)
    _print_errors(made_up)
    scored = f"{len(tasks)} prompts" if options.text is None else f"windows of {options.text}"
    print(f"\nreference: {label}; {scored}; ceiling of the loss columns: 0 (the reference itself)", flush=True)
    with TemporaryDirectory() as made:
        calibrated = _calibrated(options, config, Path(made) / "nl4")
        scores, documents = _measured(options, config, label, tasks, calibrated)
    _print(label, scores, documents)
    if options.out is not None and not options.quick:
        from bench.quantization.plot import plot_quantization  # matplotlib is an extra

        plot_quantization(label, scores, options.out)
    configuration = {
        "model": "tiny random model" if options.quick else config.model, "formats": options.formats,
        "prompts": len(tasks) if options.text is None else None, "batch": options.batch, "quick": options.quick,
        "template": "chat" if options.text is None else "raw",
        "interval": "95 % percentile bootstrap over prompts",
    }  # fmt: skip
    figures = {
        "reference": label,
        "weights_sha256": weight_hashes(source, folder),
        "scores": scores,
        "synthetic": made_up,
    }
    line = record(
        "quantization", figures | {"documents": documents}, configuration=configuration, seeds=[options.seed],
        data=[options.text or options.prompts, *([options.calibrate] if options.calibrate else [])],
        model_revision=source.revision, device=documents[0]["device"] if documents else options.device,
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _calibrated(options: argparse.Namespace, config: EngineConfig, out: Path) -> Path | None:
    """The checkpoint that calibration makes, where it is asked for."""
    if options.calibrate is None:
        return None
    prompts = read_prompts(str(options.calibrate))
    quantize(config.model, "nl4", out, revision=config.revision, calibrate=prompts, device=options.device)
    _say("nl4 calibrated")
    return out


def _measured(
    options: argparse.Namespace, config: EngineConfig, label: str, tasks: Sequence[Task], calibrated: Path | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of scores and rows of documents; of a text there are no documents."""
    scorer = Scorer(config.model, config.revision, config.device)
    if options.text is not None:
        folder = local_folder(resolve(config.model, config.revision), EngineConfig().cache_folder)
        windows = read_windows(options.text, load_tokenizer(config.tokenizer or folder), options.limit)
        return _scores(options, scorer, Replay(windows, scorer), calibrated), []
    reference = write_documents(config, tasks, label, keep=True)
    _say("reference documents written")
    replay = Replay(reference.replayed, scorer)
    _say("reference scored")
    scores = _scores(options, scorer, replay, calibrated)
    del scorer, replay
    documents = [describe(reference, reference)]
    if options.documents:
        documents += _documents(options, config, tasks, reference, scores, calibrated)
    return scores, documents


def _scores(
    options: argparse.Namespace, scorer: Scorer, replay: Replay, calibrated: Path | None
) -> list[dict[str, Any]]:
    """The reference's own row, then every format with its control after it."""
    rows = [{"variant": "reference", **figures_of(replay.own_scores(), options.seed)}]
    kinds: list[tuple[str, Any]] = [(name, None) for name in options.formats]
    if calibrated is not None:
        kinds.append((CALIBRATED, load_checkpoint(calibrated, "cpu").tensors))
    scored: dict[str, list[PromptScore]] = {}
    for variant in (Variant(name, noise, stored) for name, stored in kinds for noise in (False, True)):
        made = make(scorer.weights(), variant, options.seed, scorer.put)
        row: dict[str, Any] = {"variant": variant.name, "relative_rms": made.relative_rms}
        scored[variant.name] = replay.scores(scorer)
        row |= figures_of(scored[variant.name], options.seed)
        if (table := made.inventory) is not None:
            row |= {"inventory": table.to_dict(), "bits_per_weight": table.bits_per_weight}
            row["bytes_per_token"] = bytes_per_token(table, tied=scorer.tied, expert_share=scorer.expert_share)
        rows.append(row)
        _say(f"scored {variant.name}")
    if "nf4" in scored:
        for row in rows[1:]:
            row["kl_of_nf4"] = kl_of(scored[row["variant"]], scored["nf4"], options.seed)
    return rows


def _documents(
    options: argparse.Namespace, config: EngineConfig, tasks: Sequence[Task], reference: Written,
    scores: list[dict[str, Any]], calibrated: Path | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every format's own documents. On a CPU bf16 computes in fp32 with the reference's weights: nothing to compare."""
    rows, per_token = [], {row["variant"]: row.get("bytes_per_token") for row in scores}
    for name in options.formats:
        if name == "bf16" and reference.device == "cpu":
            continue
        written = write_documents(replace(config, quantization=name), tasks, name)
        rows.append(describe(written, reference, bytes_per_token=per_token[name]))
        _say(f"documents of {name} written")
    if calibrated is not None:
        written = write_documents(replace(config, model=str(calibrated), revision=None), tasks, CALIBRATED)
        rows.append(describe(written, reference, bytes_per_token=per_token[CALIBRATED]))
    return rows


def _print_errors(rows: list[dict[str, Any]]) -> None:
    print("RMS of the error over RMS, of made-up weights and of their products with correlated inputs")
    cells = [[r["weights"], r["format"], f"{r['relative_rms']:.4f}", f"{r['output_rms']:.4f}"] for r in rows]
    print_table(["weights", "format", "weights' error", "products' error"], cells)


def _print(label: str, scores: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
    """Two tables that a seed decides, then the one that the clock decides."""
    print(f"\nteacher-forced; reference: {label}; [95 % interval over prompts]; nats per token")
    head = ["variant", "bits", "rel. RMS", "of nf4", *SCORES, "ppl free", "ppl legal"]
    print_table(head, [_score_cells(row) for row in scores])
    if not documents:
        return
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
    share = interval(row["kl_of_nf4"]) if "kl_of_nf4" in row else ""
    return [row["variant"], bits, rms, share, *scores, interval(row["ppl_free"]), interval(row["ppl_legal"])]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("quantization", __doc__, "a tiny random model, two formats, two prompts")
    parser.add_argument("model", nargs="?", default=EngineConfig().model)
    parser.add_argument("--revision")
    parser.add_model("tokenizer", "device", model=EngineConfig().model)
    parser.add(formats=FORMATS, seed=0, batch=32)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--text", type=Path, help="score on this plain text instead, under no grammar")
    parser.add_argument("--calibrate", type=Path, metavar="FILE.jsonl", help="prompts: nl4 fitted to them as well")
    parser.add_argument("--limit", type=int, help="only the first N prompts, or N windows of the text")
    parser.add_argument("--no-documents", dest="documents", action="store_false", help="teacher-forced figures only")
    options = parser.read(arguments, formats=["nf4", "int8"], limit=2, batch=2)
    if unknown := set(options.formats) - set(FORMATS):
        parser.error(f"unknown format {sorted(unknown)[0]!r}; known: {', '.join(FORMATS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
