"""What the engine keeps on disk: compiled grammars and vocabularies, and models converted from GGUF.

ls lists it, clear removes the grammars (with --models the converted models too), warm compiles schemas ahead of use.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli.arguments import options
from engine.cli.arguments.inputs import compact
from engine.cli.sessions.grammar_session import open_grammars
from engine.cli.terminal import OK
from engine.errors import RequestError

GRAMMARS, MODELS = "grammars", "models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "clear", "warm"), metavar="{ls,clear,warm}")
    parser.add_argument(
        "schemas", nargs="*", default=[], metavar="SCHEMA", help="warm: files or names of bundled schemas"
    )  # a default: else argparse calls it required where the action is missing
    parser.add_argument("--json", action="store_true", help="ls: one JSON object an entry")
    parser.add_argument("--models", action="store_true", help="clear: converted models too")
    options.add_conformance(parser)
    options.add_tokenizer(parser)
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    if (args.action == "warm") != bool(args.schemas):
        raise RequestError("warm needs at least one SCHEMA, ls and clear take none", param="schemas")
    folder = options.engine_config(args).cache_folder
    if args.action == "ls":
        return _list(folder, as_json=args.json)
    if args.action == "clear":
        return _clear(folder, models=args.models)
    return _warm(args)


def _grammars(folder: Path) -> Iterator[dict[str, Any]]:
    from engine.grammar.store.disk import DiskCache

    for entry in DiskCache(folder / GRAMMARS).entries():
        yield {"type": "grammar", **asdict(entry), "age_s": round(entry.age_s)}


def _models(folder: Path) -> Iterator[dict[str, Any]]:
    for mark in sorted((folder / MODELS).glob("*/complete")):
        size = sum(file.stat().st_size for file in mark.parent.rglob("*") if file.is_file())
        age = round(time.time() - mark.stat().st_mtime)
        yield {"type": "model", "key": mark.parent.name, "nbytes": size, "age_s": age}


def _list(folder: Path, *, as_json: bool) -> int:
    found = [*_grammars(folder), *_models(folder)]
    for entry in found:
        print(compact(entry) if as_json else _line(entry))
    if not as_json:
        print(f"{folder}: {len(found)} entries, {sum(entry['nbytes'] for entry in found):,} bytes")
    return OK


def _line(entry: dict[str, Any]) -> str:
    hours = entry["age_s"] / 3600
    head = f"{entry['type']:<7}  {entry['nbytes']:>13,} bytes  {hours:>7.1f} h  {entry['key'][:40]}"
    if entry["type"] == "model":
        return head
    times = f"compiled in {entry['compile_ms']} ms, loads in {entry['load_ms']} ms"
    return f"{head}  {entry['kind']} {entry['schema_hash'][:12]}  {times}"


def _clear(folder: Path, *, models: bool) -> int:
    """Only what the engine itself put there: never the cache folder, never a file beside its own."""
    from engine.grammar.store.disk import DiskCache

    files = DiskCache(folder / GRAMMARS).clear()
    gone = [mark.parent for mark in (folder / MODELS).glob("*/complete")] if models else []
    for model in gone:
        shutil.rmtree(model)
    print(f"removed {files} grammar files and {len(gone)} converted models")
    return OK


def _warm(args: argparse.Namespace) -> int:
    wanted = [(name, options.schema_constraint(name, args)) for name in args.schemas]
    with open_grammars(args) as grammars:
        for name, constraint in wanted:
            grammar = grammars.service.compile(constraint)
            print(f"{name}: {grammar.source}, {grammar.compile_ms:.1f} ms, {grammar.nbytes:,} bytes", flush=True)
    return OK
