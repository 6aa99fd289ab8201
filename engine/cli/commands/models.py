"""The models that can be named: what ships, what this engine was made for, and what lies in the cache folder.

maskloop models                                      the list
maskloop models inspect MODEL [--against SOURCE]     what a model on disk is made of, and whether it is damaged
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.cli.arguments import options
from engine.cli.arguments.inputs import compact
from engine.cli.terminal import FAILED, OK, Progress
from engine.config import EMBEDDED_MODEL, PINNED, QUANTIZATIONS
from engine.errors import EngineError, RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["inspect"], help="look at every weight of MODEL, loading none")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="folder, .gguf file or engine checkpoint")
    parser.add_argument("--against", metavar="SOURCE", help="inspect: the 16-bit form, compared weight by weight")
    parser.add_argument("--json", action="store_true", help="one JSON object a model")
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    if args.action == "inspect":
        return _inspect(args)
    if args.against is not None:
        raise RequestError("--against belongs to: maskloop models inspect MODEL", param="against")
    rows = list(known_models(options.engine_config(args).cache_folder))
    if args.json:
        print("\n".join(map(compact, rows)))
        return OK
    width = max(len(row["model"]) for row in rows)
    for row in rows:
        print(f"{row['model']:<{width}}  {row['what']}")
    print("\nAlso: ORG/NAME of a hub, a folder, a .gguf file, random:CONFIG.json.")
    print(f"Quantisations: {', '.join(QUANTIZATIONS)}.")
    return OK


def _inspect(args: argparse.Namespace) -> int:
    """Exit code 1 where something is damaged."""
    if args.model is None:
        raise RequestError("name a model: maskloop models inspect MODEL", param="model")
    progress = Progress(quiet=args.json)
    progress.phase("inspecting")
    from engine.model.inspection import inspect

    try:
        found = inspect(args.model, args.against, progress.share)
    finally:
        progress.end_phase()
    if args.json:
        print(compact(found.to_dict()))
    else:
        print("\n".join([f"{args.model}: {found.label}", str(found.table), *found.notes]))
        print("\n".join(f"sha256 {digest}  {name}" for name, digest in found.hashes.items()))
        damaged = len(found.findings)
        print(f"{found.matrices} matrices looked at, {damaged or 'none'} damaged")
        print("\n".join(f"  {finding}" for finding in found.findings), end="\n" if found.findings else "")
    return FAILED if found.findings else OK


def known_models(cache_dir: Path) -> Iterator[dict[str, Any]]:
    """One row a model: `model` is what --model takes, `available` whether it is on this machine."""
    yield _embedded()
    for model, revision in PINNED.items():
        what = f"hub model, revision {revision[:12]}; nf4 or int8 on one GPU"
        yield {"model": model, "what": what, "revision": revision, "available": None}
    for manifest in sorted((cache_dir / "models").glob("*/manifest.json")):
        yield {"model": str(manifest.parent), "what": "engine checkpoint", "available": True}


def _embedded() -> dict[str, Any]:
    row: dict[str, Any] = {"model": EMBEDDED_MODEL, "what": "embedded: SmolLM2-135M-Instruct (Apache-2.0)"}
    try:
        from engine.model.files.source import embedded_gguf

        path = embedded_gguf()
    except EngineError as error:
        return row | {"what": f"{row['what']}; {error.message}", "available": False}
    return row | {"what": f"{row['what']}, {path.stat().st_size >> 20} MiB, on this machine", "available": True}
