"""What quantising costs under one grammar: divergence, flips, feasible mass, perplexity, documents, speed, memory.

    python -m bench.quantization [MODEL] [--formats bf16,int8,nf4,nf4-dq,fp4,int4] [--prompts FILE] [--limit N]
                                 [--seed 0] [--batch 32] [--no-documents] [--quick] [--out DIR]

The reference writes one greedy document a prompt under the schema of bench/signature.py; every variant is then scored
on the same tokens under the same masks (teacher-forced), beside a control: Gaussian noise of the same RMS in the same
tensors. Each format then writes its own documents through the engine. Intervals are bootstrapped over prompts. The
reference is called what its file holds: one read from a 4-bit file is `dequantised Q4_1`, and every figure is then the
loss of quantising again. Ceiling of the speed columns: the device's copy bandwidth (GPU only).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.record import emit, record, sha256
from bench.scorer import Scorer
from bench.signature import PROMPTS, Task, read_tasks
from bench.study_documents import Written, describe, write_documents
from bench.study_scores import Replay, figures_of, own_scores, replays, score
from bench.tables import print_table
from bench.tiny import tiny_config
from bench.variants import FORMATS, Variant, bytes_per_token, make
from engine.config import EngineConfig
from engine.model.files.source import resolve
from engine.model.quantize import local_folder
from engine.model.source_format import reference_label, source_format, weight_hashes

SCORES = ("kl_all", "kl_legal", "legal_share", "flips_free", "flips_legal", "mass", "mass_shift", "mass_distance")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; tables on stdout, the JSON line last."""
    options = _parse(arguments)
    with TemporaryDirectory() as folder:
        if not options.quick:
            return _run(options, options.model)
        tiny = tiny_config(Path(folder))
        options.tokenizer = tiny.tokenizer
        return _run(options, tiny.model)


def _run(options: argparse.Namespace, model: str) -> int:
    tasks = read_tasks(options.prompts)[: options.limit]
    source = resolve(model, options.revision)
    folder = local_folder(source, EngineConfig().cache_dir) if source.kind == "hub" else None
    label = reference_label(source_format(source, folder))
    print(
        f"reference: {label}; {len(tasks)} prompts; ceiling of the loss columns: 0 (the reference itself)", flush=True
    )
    reference = write_documents(_config(options, model, None), tasks, label, keep=True)
    _say("reference documents written")
    scorer = Scorer(model, options.revision, options.device)
    replay = replays(reference, tasks, scorer)
    _say("reference scored")
    scores = _scores(options, scorer, replay)
    del scorer, replay
    documents = [describe(reference, reference)]
    if options.documents:
        documents += _documents(options, model, tasks, reference, scores)
    _print(label, scores, documents)
    if options.out is not None and not options.quick:
        from bench.plots_quantization import plot_quantization

        plot_quantization(label, scores, options.out)
    figures: dict[str, Any] = {"reference": label, "weights_sha256": weight_hashes(source, folder)}
    figures |= {"scores": scores, "documents": documents}
    emit(_line(options, model, source.revision, figures, len(tasks)), options.out)
    return 0


def _scores(options: argparse.Namespace, scorer: Scorer, replay: Replay) -> list[dict[str, Any]]:
    """The reference's own row, then every format with its control after it."""
    rows = [{"variant": "reference", **figures_of(own_scores(replay), options.seed)}]
    for name in options.formats:
        for variant in (Variant(name), Variant(name, noise=True)):
            made = make(scorer.weights(), variant, options.seed, scorer.put)
            row: dict[str, Any] = {"variant": variant.name, "relative_rms": made.relative_rms}
            row |= figures_of(score(scorer, replay), options.seed)
            if made.inventory is not None:
                row["inventory"] = made.inventory.to_dict()
                row["bits_per_weight"] = made.inventory.bits_per_weight
                row["bytes_per_token"] = bytes_per_token(
                    made.inventory, tied=scorer.tied, expert_share=scorer.expert_share
                )
            rows.append(row)
            _say(f"scored {variant.name}")
    return rows


def _documents(
    options: argparse.Namespace, model: str, tasks: Sequence[Task], reference: Written, scores: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every format's own documents. On a CPU bf16 computes in fp32 with the reference's weights: nothing to compare."""
    rows = []
    for name in options.formats:
        if name == "bf16" and reference.device == "cpu":
            continue
        written = write_documents(_config(options, model, name), tasks, name)
        per_token = next(row.get("bytes_per_token") for row in scores if row["variant"] == name)
        rows.append(describe(written, reference, bytes_per_token=per_token))
        _say(f"documents of {name} written")
    return rows


def _config(options: argparse.Namespace, model: str, quantization: str | None) -> EngineConfig:
    return EngineConfig(
        model=model,
        revision=options.revision,
        quantization=quantization,  # type: ignore[arg-type]  # checked by EngineConfig
        device=options.device,
        tokenizer=options.tokenizer,
        max_batch=options.batch,
        max_sequence=2048,
    )


def _line(
    options: argparse.Namespace, model: str, revision: str | None, figures: dict[str, Any], prompts: int
) -> dict[str, Any]:
    device = figures["documents"][0]["device"]
    configuration = {
        "model": "tiny random model" if options.quick else model,
        "formats": options.formats,
        "prompts": prompts,
        "batch": options.batch,
        "quick": options.quick,
        "template": "chat",
        "interval": "95 % percentile bootstrap over prompts",
    }
    return record(
        "quantization",
        figures,
        configuration=configuration,
        seeds=[options.seed],
        data_sha256=sha256([options.prompts]),
        model_revision=revision,
        device=device if device != "cpu" else None,
    )


def _print(label: str, scores: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
    """Two tables that a seed decides, then the one that the clock decides."""
    print(f"\nteacher-forced on the documents of the reference ({label}); [95 % interval over prompts]; nats per token")
    head = ["variant", "bits", "rel. RMS", *SCORES, "ppl free", "ppl legal"]
    print_table(head, [_score_cells(row) for row in scores])
    print("\ndocuments of each format, greedy, same grammar; agreement is with the reference's documents")
    names = ["valid", "closed", "agree_all", "agree_name", "agree_parameters", "agree_returns"]
    names += ["task_all", "task_name", "task_parameters", "task_types", "task_returns"]
    print_table(["format", *names], [[row["format"], *(_interval(row[n], 3) for n in names)] for row in documents])
    print("\nspeed and memory (the clock's figures; they vary from run to run)")
    names = ["tokens_per_s", "bytes_per_token", "ceiling_share", "peak_gib", "load_s"]
    print_table(["format", *names], [[row["format"], *(_plain(row[n]) for n in names)] for row in documents])


def _score_cells(row: dict[str, Any]) -> list[str]:
    bits = f"{row['bits_per_weight']:.2f}" if "bits_per_weight" in row else ""
    rms = f"{row['relative_rms']:.4f}" if "relative_rms" in row else ""
    scores = [_interval(row[name], 4) for name in SCORES]
    return [row["variant"], bits, rms, *scores, _interval(row["ppl_free"], 3), _interval(row["ppl_legal"], 3)]


def _interval(values: Sequence[float], digits: int) -> str:
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return value if low == high else f"{value} [{low} {high}]"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.quantization", description="What quantising costs")
    parser.add_argument("model", nargs="?", default=EngineConfig().model)
    parser.add_argument("--revision", default=None)
    parser.add_argument("--tokenizer", default=None, help="folder or tokenizer.json; the model's own otherwise")
    parser.add_argument("--formats", type=lambda text: text.split(","), default=list(FORMATS))
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--limit", type=int, default=None, help="only the first N prompts")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the bootstrap")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-documents", dest="documents", action="store_false", help="teacher-forced figures only")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, two formats, two prompts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    unknown = set(options.formats) - set(FORMATS)
    if unknown:
        parser.error(f"unknown format {sorted(unknown)[0]!r}; known: {', '.join(FORMATS)}")
    if options.quick:
        options.formats, options.limit, options.batch = ["nf4", "int8"], 2, 2
    return options


if __name__ == "__main__":
    sys.exit(main())
