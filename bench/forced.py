"""Forced runs: are drafts invisible in the output, and how many tokens do they save from being decoded one by one?

    python -m bench.forced [--documents 500] [--schemas MASKBENCH.jsonl.xz] [--recorded PROMPTS.jsonl] [--model M]
                           [--quick] [--out DIR]

Identity: every document is decoded greedily with drafts off and on, by the same model in the same run, and compared
token by token. Share: recorded LIFT documents are replayed by a model that always agrees, so the share of tokens that
ride in drafts is what the grammar gives away. Ceiling: identity 100 %; the share has none stated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.datasets.cases import load_cases
from bench.datasets.lift_documents import all_schemas, ir_schema, own_documents, recorded_documents
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from bench.replay.engine import ReplayedEngine, with_stop
from engine import Constraint, EngineConfig, EngineError, Request, Result, SamplingParams
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when no document differs."""
    options = _options(arguments)
    print(f"ceiling: {options.documents} documents and every schema of the data identical with and without drafts")
    with chosen_config(options, {}) as config:
        model = load(config)
        documents = recorded_documents(options.recorded, valid=True) if options.recorded else own_documents()
        figures = identity(config, model, list(_requests(options)))
        figures |= share(config, model, documents[: 2 if options.quick else None])
        model.runner.close()
    print_figures(figures)
    data = [path for path in (options.schemas, options.recorded) if path]
    configuration = {"model": model_name(options), "documents": options.documents}
    emit(record("forced", figures, configuration=configuration, seeds=[0], data=data), options.out)
    return 0 if figures["different"] == 0 else 1


def _requests(options: argparse.Namespace) -> Iterator[Request]:
    """Greedy requests: the six schemas in turn, then the first schemas of the data set."""
    rng, six = random.Random(0), all_schemas()
    for index in range(options.documents):
        yield _request(f"document {index} " + "word " * rng.randint(0, 20), six[index % 6], rng.randint(80, 160))
    if options.schemas:
        for case in load_cases(options.schemas, options.limit):
            yield _request(f"document for {case.name}", json.dumps(case.schema), 160)


def _request(prompt: str, schema: str, max_tokens: int) -> Request:
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    return Request(prompt=prompt, constraint=Constraint.json_schema(schema), sampling=sampling)


def identity(config: EngineConfig, model: LoadedModel, requests: list[Request]) -> dict[str, Any]:
    """Decode everything with drafts off, then on; count first differences and refused requests."""
    plain, drafted = (_decode(config, model, mode, requests) for mode in ("off", "verify"))
    compared = [(a, b) for a, b in zip(plain, drafted, strict=True) if a is not None and b is not None]
    different = [
        (index, a.token_ids, b.token_ids) for index, (a, b) in enumerate(compared) if a.token_ids != b.token_ids
    ]
    for index, a, b in different:
        place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), -1)
        print(f"document {index}: first difference at token {place}", file=sys.stderr)
    tokens = sum(len(b.token_ids) for _, b in compared)
    return {
        "compared": len(compared),
        "refused": len(requests) - len(compared),
        "different": len(different),
        "tokens": tokens,
        "drafted_share": round(sum(b.usage.forced_tokens for _, b in compared) / max(tokens, 1), 4),
    }


def _decode(config: EngineConfig, model: LoadedModel, mode: str, requests: list[Request]) -> list[Result | None]:
    settings = dataclasses.replace(config, forced_runs=mode, prefix_cache_bytes=0)  # type: ignore[arg-type]  # a str
    with ReplayedEngine(settings, model) as engine:  # replays nothing here; it only keeps the model open
        return [None if result.status == "error" else result for result in engine.generate_each(requests)]


def share(config: EngineConfig, model: LoadedModel, documents: Sequence[str]) -> dict[str, Any]:
    """Share of tokens that ride in drafts when the model always agrees, over replayed documents."""
    constraint, forced, total = Constraint.json_schema(ir_schema()), 0, 0
    with ReplayedEngine(config, model) as engine:
        for text in documents:
            try:
                (result,), _ = engine.run("x", with_stop(engine.tokenizer, text), constraint)
            except EngineError as error:
                raise SystemExit(f"a recorded document was refused: {error}") from None
            if result.text != text:
                raise SystemExit(f"a replay left its document: {result.status}")
            forced += result.usage.forced_tokens
            total += result.usage.completion_tokens
    return {"replayed": len(documents), "replayed_tokens": total, "replayed_share": round(forced / total, 4)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("forced", __doc__, "three documents, two replayed ones")
    parser.add_model("model")
    parser.add(documents=500)
    parser.add_argument("--schemas", type=Path, help="MaskBench-format file")
    parser.add_argument("--limit", type=int, default=100, help="schemas taken from it")
    parser.add_argument("--recorded", type=Path, help="JSON lines with recorded documents")
    return parser.read(arguments, documents=3, model=None)


if __name__ == "__main__":
    sys.exit(main())
