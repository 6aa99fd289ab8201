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
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.cases import load_cases
from bench.record import emit, record, sha256
from bench.replayed import Recording, ReplayRunner
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineConfig, EngineError, Request, Result, SamplingParams
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    documents = 3 if options.quick else options.documents
    print(f"ceiling: {documents} documents and every schema of the data identical with and without drafts")
    with tempfile.TemporaryDirectory() as folder:
        config = EngineConfig(model=options.model) if options.model else tiny_config(Path(folder))
        model = load(config)
        figures = identity(config, model, list(_requests(documents, options)))
        figures |= share(config, model, _recorded(options.recorded) if options.recorded else _own(options.quick))
        model.runner.close()
    for name, value in figures.items():
        print(f"{name:20} {value}")
    data = [path for path in (options.schemas, options.recorded) if path]
    configuration = {"model": options.model or "tiny random llama", "documents": documents}
    line = record("forced", figures, configuration=configuration, seeds=[0], data_sha256=sha256(data) if data else None)
    emit(line, options.out)
    return 0 if figures["different"] == 0 else 1


def _requests(documents: int, options: argparse.Namespace) -> Iterator[Request]:
    """Greedy requests: the six schemas in turn, then the first schemas of the data set."""
    rng = random.Random(0)
    six = [path.read_text() for path in sorted(SCHEMAS.glob("*.json"))]
    for index in range(documents):
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
    for index, (a, b) in enumerate(compared):
        if a.token_ids != b.token_ids:
            print(f"document {index}: first difference at token {_first(a, b)}", file=sys.stderr)
    tokens = sum(len(b.token_ids) for _, b in compared)
    return {
        "compared": len(compared),
        "refused": len(requests) - len(compared),
        "different": sum(a.token_ids != b.token_ids for a, b in compared),
        "tokens": tokens,
        "drafted_share": round(sum(b.usage.forced_tokens for _, b in compared) / max(tokens, 1), 4),
    }


def _decode(config: EngineConfig, model: LoadedModel, mode: str, requests: list[Request]) -> list[Result | None]:
    settings = dataclasses.replace(config, forced_runs=mode, prefix_cache_bytes=0)  # type: ignore[arg-type]  # a str
    runner = ReplayRunner(model.runner)  # replays nothing here; it only keeps the model open
    with Engine(settings, loaded=dataclasses.replace(model, runner=runner)) as engine:  # type: ignore[arg-type]  # a Runner
        return [None if result.status == "error" else result for result in engine.generate_each(requests)]


def _first(a: Result, b: Result) -> int:
    return next((i for i, (x, y) in enumerate(zip(a.token_ids, b.token_ids, strict=False)) if x != y), -1)


def share(config: EngineConfig, model: LoadedModel, documents: Sequence[str]) -> dict[str, Any]:
    """Share of tokens that ride in drafts when the model always agrees, over replayed documents."""
    schema = Constraint.json_schema((SCHEMAS / "lift_ir.json").read_text())
    runner, forced, total = ReplayRunner(model.runner), 0, 0
    with Engine(config, loaded=dataclasses.replace(model, runner=runner)) as engine:  # type: ignore[arg-type]  # a Runner
        for text in documents:
            request = Request(prompt="x", constraint=schema, sampling=SamplingParams(temperature=0))
            prompt = engine.tokenizer.chat([{"role": "user", "content": "x"}])
            tokens = (*engine.tokenizer.encode(text), engine.tokenizer.stop_token_ids[0])
            runner.recording = Recording(tokens, len(prompt))
            try:
                result = engine.generate(request)
            except EngineError as error:
                raise SystemExit(f"a recorded document was refused: {error}") from None
            if result.text != text:
                raise SystemExit(f"a replay left its document: {result.status}")
            forced += result.usage.forced_tokens
            total += result.usage.completion_tokens
    return {"replayed": len(documents), "replayed_tokens": total, "replayed_share": round(forced / total, 4)}


def _recorded(path: Path) -> list[str]:
    """The recorded IRs that their schema accepts, compact, keys as recorded."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [row["expected_or_recorded_ir"] for row in rows if row.get("ir_valid_against_schema") is True]
    return [json.dumps(ir, ensure_ascii=False, separators=(",", ":")) for ir in found if isinstance(ir, dict)]


def _own(quick: bool) -> list[str]:
    lines = (SCHEMAS / "lift_ir.valid.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) for line in lines if line.strip()]
    return texts[:2] if quick else texts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.forced", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--schemas", type=Path, help="MaskBench-format file")
    parser.add_argument("--limit", type=int, default=100, help="schemas taken from it")
    parser.add_argument("--recorded", type=Path, help="JSON lines with recorded documents")
    parser.add_argument("--model", help="instead of the tiny random one")
    parser.add_argument("--quick", action="store_true", help="three documents, two replayed ones")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
