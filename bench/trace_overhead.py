"""What tracing costs a step, and whether Z and the entropies it writes are right.

    python -m bench.trace_overhead [--model M] [--quantization Q] [--device auto] [--set typical] [--repeats 5]
                                   [--no-float64] [--quick] [--out DIR]

One document is replayed, in turn with no trace, with a trace written to a file, and with feasible mass and entropies in
it as well; shares compare each round's median step with the untraced one of the same round. Then Hugging Face's forward
of the same weights in float64 says what Z and the entropies should have been at every token (CPU only: in 16 bits the
logits themselves differ). Ceiling: 0 of a step, 0 from float64.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.divergence import unpack
from bench.overhead_sets import SchemaSet, schema_set
from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner, decode_step_ms
from bench.scorer import model_of
from bench.tiny import tiny_config
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.grammar import Matcher
from engine.interfaces import StepRecord
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load
from engine.request import Constraint, Request, SamplingParams
from engine.trace import TraceWriter

PROMPT = "Describe: "
KINDS = ("untraced", "traced", "with_statistics")


class Stream:
    """One engine that replays one document, step by step."""

    def __init__(self, config: EngineConfig, loaded: LoadedModel, chosen: SchemaSet) -> None:
        self.runner = ReplayRunner(loaded.runner)
        loaded.runner = self.runner
        self.engine = Engine(config, loaded=loaded)
        self.constraint = Constraint.json_schema(chosen.schema)
        tokenizer = loaded.tokenizer
        self.prompt = tokenizer.encode(PROMPT)
        self.document = (*tokenizer.encode(chosen.text), tokenizer.stop_token_ids[0])

    def run(self, kind: str, folder: Path) -> tuple[list[float], list[StepRecord]]:
        """Milliseconds a step, and the records where there is a trace."""
        self.runner.recording = Recording(self.document, len(self.prompt))
        sampling = SamplingParams(temperature=0.0, max_tokens=len(self.document))
        request = Request(prompt=PROMPT, template="raw", constraint=self.constraint, sampling=sampling)
        records: list[StepRecord] = []
        with TraceWriter(folder / "trace.jsonl") as writer:

            def trace(one: StepRecord) -> None:
                writer(one)
                records.append(one)

            wanted = None if kind == "untraced" else trace
            result = self.engine.submit(request, trace=wanted, stats=kind == "with_statistics").result()
            writer.result(result.to_dict())
        return decode_step_ms(self.runner.recording.marks, 1), records


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the figures and the JSON line."""
    options = _parse(arguments)
    print("ceiling: 0 of a step for a trace, 0 between Z, entropies and their float64 values", flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = tiny_config(folder, max_batch=1, forced_runs="off") if options.quick else _config(options)
        loaded = load(config)
        device, revision = loaded.runner.device, loaded.revision
        stream = Stream(config, loaded, schema_set(options.set))
        figures, records = overhead(stream, folder, options.repeats)
        if options.float64 and device == "cpu":
            figures |= distances(stream, records, config.model, revision)
        stream.engine.close()
        stream.runner.inner.close()
    for key, value in figures.items():
        print(f"{key:32} {value}")
    configuration = {"model": "tiny random llama" if options.quick else options.model, "set": options.set}
    configuration |= {"quantization": loaded.runner.quantization, "threads": torch.get_num_threads()}
    line = record(
        "trace_overhead",
        figures,
        configuration=configuration,
        repeats=options.repeats,
        model_revision=revision,
        device=None if device == "cpu" else device,
    )
    emit(line, options.out)
    return 0


def overhead(stream: Stream, folder: Path, repeats: int) -> tuple[dict[str, Any], list[StepRecord]]:
    """Median step of each kind, medians over rounds of its share, and the last records with statistics."""
    steps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS[1:]}
    last: list[StepRecord] = []
    for turn in range(repeats + 1):
        found = {}
        for kind in KINDS if turn % 2 else KINDS[::-1]:
            found[kind], records = stream.run(kind, folder)
            last = records if kind == "with_statistics" else last
        if turn == 0:  # a warm-up
            continue
        untraced = statistics.median(found["untraced"])
        for kind, times in found.items():
            steps[kind] += times
            if kind in shares:
                shares[kind].append(statistics.median(times) / untraced - 1)
    figures: dict[str, Any] = {f"{kind}_ms_per_step": round(statistics.median(ms), 4) for kind, ms in steps.items()}
    figures |= {f"{kind}_share": round(statistics.median(found), 5) for kind, found in shares.items()}
    figures |= {f"{kind}_share_spread": [round(min(s), 5), round(max(s), 5)] for kind, s in shares.items()}
    return {**figures, "steps": len(steps["untraced"])}, last


def distances(stream: Stream, records: Sequence[StepRecord], model: str, revision: str | None) -> dict[str, Any]:
    """Largest distance of the recorded Z and entropies from those of a forward in float64 under the same masks."""
    reference = model_of(model, revision, "cpu").double().eval()
    ids = [*stream.prompt, *stream.document[:-1]]
    with torch.inference_mode():
        logits = reference(input_ids=torch.tensor([ids]), logits_to_keep=len(stream.document)).logits[0]
    free = logits.log_softmax(-1)
    legal = unpack(_masks(stream), free.shape[-1])
    mass = free.exp().masked_fill(~legal, 0.0).sum(-1)
    bound = free.masked_fill(~legal, -torch.inf).log_softmax(-1)
    wanted = {"mass": mass, "entropy_free": _entropy(free), "entropy": _entropy(bound)}
    kept = sorted(records, key=lambda one: one.position)[: len(stream.document)]
    if len(kept) != len(stream.document):
        raise SystemExit(f"{len(kept)} records of {len(stream.document)} tokens")
    figures = {}
    for name, values in wanted.items():
        far = max(abs(getattr(one, name) - value) for one, value in zip(kept, values.tolist(), strict=True))
        figures[f"{name}_from_float64"] = float(f"{far:.3g}")
    return figures


def _masks(stream: Stream) -> torch.Tensor:
    """int32 [T, W]: what is legal at every token of the document."""
    matcher = Matcher(stream.engine.grammars.submit(stream.constraint).result())
    masks = torch.empty(len(stream.document), (matcher.grammar.vocabulary.size + 31) // 32, dtype=torch.int32)
    for place, token in enumerate(stream.document):
        matcher.fill(masks, place)
        if not matcher.accept(token):
            raise SystemExit(f"token {place} of the document is not legal")
    return masks


def _entropy(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Nats per row, float64."""
    return -torch.special.xlogy(log_probabilities.exp(), log_probabilities.exp()).sum(-1)


def _config(options: argparse.Namespace) -> EngineConfig:
    return EngineConfig(
        model=options.model,
        quantization=options.quantization,
        device=options.device,
        tokenizer=options.tokenizer,
        max_batch=1,
        forced_runs="off",
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.trace_overhead", description="What tracing costs a step")
    parser.add_argument("--model", default=EngineConfig().model)
    parser.add_argument("--tokenizer", default=None)
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", default="typical", choices=("trivial", "typical", "hard"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-float64", dest="float64", action="store_false", help="leave the reference out")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, the trivial schema, one repeat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.set, options.repeats = "trivial", 1
    return options


if __name__ == "__main__":
    sys.exit(main())
