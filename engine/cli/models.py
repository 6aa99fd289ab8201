"""The models that can be named: what ships, what this engine was made for, and what lies in the cache folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.cli import options
from engine.cli.inputs import compact
from engine.cli.main import OK
from engine.config import EMBEDDED_MODEL, PRODUCT_MODEL, PRODUCT_REVISION, QUANTIZATIONS
from engine.errors import EngineError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a model")
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
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


def known_models(cache_dir: Path) -> Iterator[dict[str, Any]]:
    """One row a model: `model` is what --model takes, `available` whether it is on this machine."""
    yield _embedded()
    yield {
        "model": PRODUCT_MODEL,
        "what": f"hub model, revision {PRODUCT_REVISION[:12]}; nf4 or int8 on one GPU",
        "revision": PRODUCT_REVISION,
        "available": None,
    }
    for manifest in sorted((cache_dir / "models").glob("*/manifest.json")):
        yield {"model": str(manifest.parent), "what": "engine checkpoint", "available": True}


def _embedded() -> dict[str, Any]:
    row: dict[str, Any] = {"model": EMBEDDED_MODEL, "what": "embedded: SmolLM2-135M-Instruct (Apache-2.0)"}
    try:
        from engine.model.source import embedded_gguf

        path = embedded_gguf()
    except EngineError as error:
        return row | {"what": f"{row['what']}; {error.message}", "available": False}
    return row | {"what": f"{row['what']}, {path.stat().st_size >> 20} MiB, on this machine", "available": True}
