"""What the engine keeps on disk: compiled grammars and vocabularies, and models converted from GGUF.

ls lists it, clear removes the grammars (with --models the converted models too), warm compiles schemas ahead of use.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.cli import options
from engine.cli.grammar_session import open_grammars
from engine.cli.inputs import compact
from engine.cli.main import OK
from engine.errors import RequestError

GRAMMARS, MODELS = "grammars", "models"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the grammar cache or a folder of a converted model."""

    kind: str
    path: Path
    nbytes: int
    modified: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "clear", "warm"))
    parser.add_argument("schemas", nargs="*", metavar="SCHEMA", help="warm: files or names of bundled schemas")
    parser.add_argument("--json", action="store_true", help="ls: one JSON object an entry")
    parser.add_argument("--models", action="store_true", help="clear: converted models too")
    options.add_conformance(parser)
    options.add_tokenizer(parser)
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    if (args.action == "warm") != bool(args.schemas):
        raise RequestError("warm needs at least one SCHEMA, ls and clear take none", param="schemas")
    folder = options.engine_config(args).cache_dir
    if args.action == "ls":
        return _list(folder, as_json=args.json)
    if args.action == "clear":
        return _clear(folder, models=args.models)
    return _warm(args)


def entries(folder: Path) -> Iterator[Entry]:
    """What lies in the cache folder, grammars first."""
    for path in sorted((folder / GRAMMARS).rglob("*")):
        if path.is_file():
            yield Entry("grammar", path, path.stat().st_size, path.stat().st_mtime)
    for path in sorted((folder / MODELS).glob("*/complete")):
        size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
        yield Entry("model", path.parent, size, path.stat().st_mtime)


def _list(folder: Path, *, as_json: bool) -> int:
    found = list(entries(folder))
    for entry in found:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.modified))
        name = str(entry.path.relative_to(folder))
        if as_json:
            print(compact({"kind": entry.kind, "name": name, "bytes": entry.nbytes, "modified": when}))
        else:
            print(f"{entry.kind:<7}  {entry.nbytes:>13,}  {when}  {name}")
    if not as_json:
        print(f"{folder}: {len(found)} entries, {sum(entry.nbytes for entry in found):,} bytes")
    return OK


def _clear(folder: Path, *, models: bool) -> int:
    """Only what the engine itself put there: never the folder, never a file it does not know."""
    gone = [entry for entry in entries(folder) if models or entry.kind == "grammar"]
    for entry in gone:
        if entry.kind == "model":
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
    print(f"removed {len(gone)} entries, {sum(entry.nbytes for entry in gone):,} bytes")
    return OK


def _warm(args: argparse.Namespace) -> int:
    wanted = [(name, options.schema_constraint(name, args)) for name in args.schemas]
    with open_grammars(args) as grammars:
        for name, constraint in wanted:
            grammar = grammars.service.compile(constraint)
            print(f"{name}: {grammar.source}, {grammar.compile_ms:.1f} ms, {grammar.nbytes:,} bytes", flush=True)
    return OK
