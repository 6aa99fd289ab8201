"""A model written as an engine checkpoint, weight by weight; --model DIR then loads it.

An interrupted run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.cli.arguments import options
from engine.cli.arguments.inputs import read_lines
from engine.cli.sessions.engine_session import require_local
from engine.cli.terminal import OK, Progress
from engine.config import QUANTIZATIONS
from engine.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="as for generate --model")
    parser.add_argument("--to", required=True, metavar="Q", choices=QUANTIZATIONS, help=", ".join(QUANTIZATIONS))
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the checkpoint is written")
    parser.add_argument("--lm-head", default="bf16", choices=QUANTIZATIONS, help="format of the head (default bf16)")
    parser.add_argument(
        "--calibrate", metavar="FILE.jsonl", help='prompts to fit nl4 to, one {"prompt": "..."} a line; - for stdin'
    )
    parser.add_argument("--revision", help="revision of a hub model")
    parser.add_argument("--device", default="auto", help="where the arithmetic runs: auto (default), cpu, cuda, cuda:N")
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    from engine.model.checkpoint.target import require_free
    from engine.model.files.source import resolve

    require_local()
    prompts = [] if args.calibrate is None else read_prompts(args.calibrate)
    resolve(args.model, args.revision)  # wrong names are told before seconds are spent on imports
    require_free(args.out)
    progress = Progress(quiet=args.quiet)
    progress.phase("importing torch and transformers")
    from engine.model.quantize import quantize

    progress.phase("quantising")

    def told(done: int, total: int, name: str) -> None:
        progress.share(done / total if total else 1.0, name)

    try:
        manifest = quantize(
            args.model,
            args.to,
            args.out,
            revision=args.revision,
            lm_head=args.lm_head,
            calibrate=prompts,
            device=args.device,
            cache_dir=options.engine_config(args).cache_folder,
            progress=told,
            notice=progress.line,
        )
    finally:
        progress.end_phase()
    total = sum(file.nbytes for file in manifest.files)
    print(f"{args.out}: {args.model} in {manifest.quantization}, {total / 1e6:.1f} MB in {len(manifest.files)} files")
    return OK


def read_prompts(name: str) -> list[str]:
    """The prompts of a file of requests; other fields are not looked at."""
    prompts = []
    for number, value in read_lines(name, param="calibrate"):
        prompt = value.get("prompt") if isinstance(value, dict) else None
        if not isinstance(prompt, str) or not prompt:
            raise RequestError(f"{name}, line {number}: holds no prompt", param="calibrate")
        prompts.append(prompt)
    if not prompts:
        raise RequestError(f"{name}: holds no prompt", param="calibrate")
    return prompts
