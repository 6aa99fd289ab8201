"""Programs inside strings: is a valid prefix called dead, are errors found by the end of their line, and how fast?

    python -m bench.syntax --tokenizer FILE --corpus python=DIR --corpus go=DIR ... [--judge "go=gofmt -e"]
        [--files 500] [--errors 2000] [--seed 0]
    python -m bench.syntax --documents 30 [--units python,go] [--judge "go=gofmt -e"] [--model M] [--max-tokens 64]

A corpus is a folder of valid files; one language may have several. `--judge` is another parser of the language: a
command to which a file's path is added and that ends with 0 for a valid one. Python has `ast.parse`. Files that it
refuses are left out, and so are planted errors that leave the text valid. Without a judge every file counts as valid
and every change as an error. Times are of the processor, a token, the making of tables included.

Ceiling: 0 prefixes called dead, all errors found, p50 50 us, p99 1 ms, 50 kB at most twice 1 kB.

`--documents` writes so many for each unit through the engine's loop (`units.py`; `--units` has beginnings of their
names), with the same prompts and seeds with and without `x-syntax`. Units without a judge are left out.

Ceiling: all documents end `complete` or `closed`, with code that the judge accepts, at the tokens of those without.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bench.datasets.vocabulary import BYTES, Vocabulary, load_vocabulary
from bench.harness.commandline import Options
from bench.harness.models import model_name
from bench.harness.record import emit, record
from bench.harness.statistics import percentiles
from bench.harness.tables import print_table
from bench.syntax.corpus import Source, pieces, sources
from bench.syntax.documents import documents
from bench.syntax.judges import judge_of
from bench.syntax.planting import Ground, Planted
from engine import EngineConfig
from engine.syntax import LANGUAGES, start
from engine.syntax.languages import language_of

UNIT = "module"
NEAR, FAR, WINDOW = 1_000, 50_000, 1_000
HEAD = (
    "language",
    "files",
    "prefixes",
    "dead",
    "not whole",
    "lost",
    "errors",
    "found",
    "p50 us",
    "p99 us",
    "1 kB",
    "50 kB",
)


class Follower:
    """One language over its corpus."""

    def __init__(self, language: str, vocabulary: Vocabulary, accepts: Callable[[str], bool]) -> None:
        self.language = language
        self.accepts = accepts
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []
        self.near: list[float] = []
        self.far: list[float] = []
        self._vocabulary = vocabulary
        names = language_of(language).numbers
        self._keywords = tuple(
            sorted({name[1:-1].lower() for name in names if name[0] == "'" and name[1:-1].isalpha()})
        )

    def follow(self, source: Source) -> bool:
        """Every prefix that ends with a token; whether none was called dead."""
        state, at, times, places = start(self.language, UNIT), 0, list[float](), list[int]()
        for piece in pieces(self._vocabulary, source.text):
            before = time.thread_time_ns()
            state = state.feed(piece)
            times.append((time.thread_time_ns() - before) / 1_000)
            places.append(at)
            if not state.alive:
                print(f"dead: {source.path}: {source.text[max(0, at - 60) : at]!r} | {piece!r}", flush=True)
                break
            at += len(piece)
        whole = state.alive and state.whole
        self.counts += Counter({"files": 1, "prefixes": len(times), "dead": not state.alive})
        self.counts += Counter({"lost": state.lost, "not whole": state.alive and not whole})
        self.times += times
        if at > FAR + WINDOW:
            for begin, found in ((NEAR, self.near), (FAR, self.far)):
                found += [took for took, place in zip(times, places, strict=True) if begin <= place < begin + WINDOW]
        return state.alive

    @property
    def planted(self) -> int:
        return sum(count for name, count in self.counts.items() if name.endswith("planted"))

    def plant(self, source: Source, rng: random.Random) -> None:
        """Errors of each kind, each found or not by the end of its line."""
        ground = Ground(self.language, self._keywords, source.text)
        state, at = start(self.language, UNIT), 0
        for one in sorted(ground.planted(rng), key=lambda one: one.begin):
            line = source.text.rfind("\n", 0, one.begin) + 1
            state, at = state.feed(source.text[at:line]), line
            found = not state.feed(one.text[line : one.line_end]).alive
            if found or not self.accepts(one.text):
                self.counts += Counter({f"{one.kind}: planted": 1, f"{one.kind}: found": found})
                self._show(source, one, line, found=found)

    def _show(self, source: Source, one: Planted, line: int, *, found: bool) -> None:
        if not found and self.counts[f"{one.kind}: planted"] - self.counts[f"{one.kind}: found"] <= 3:
            print(f"not found: {one.kind}: {source.path}: {one.text[line : one.line_end]!r}", flush=True)

    def figures(self) -> dict[str, Any]:
        mean = {name: sum(found) / len(found) for name, found in (("1 kB", self.near), ("50 kB", self.far)) if found}
        return {**self.counts, "us": percentiles(self.times), "mean us": mean}

    def row(self) -> tuple[str, ...]:
        counts, times = self.counts, percentiles(self.times)
        found = sum(count for name, count in counts.items() if name.endswith("found"))
        means = [f"{sum(times) / len(times):.1f}" if times else "-" for times in (self.near, self.far)]
        share = f"{100 * found / self.planted:.1f} %" if self.planted else "-"
        numbers = [str(counts[name]) for name in HEAD[1:6]]
        return (self.language, *numbers, str(self.planted), share, f"{times['p50']:.1f}", f"{times['p99']:.1f}", *means)


def _measured(language: str, folders: list[Path], vocabulary: Vocabulary, options: argparse.Namespace) -> Follower:
    rng = random.Random(options.seed)
    accepts = judge_of(language, dict(options.judge))
    follower = Follower(language, vocabulary, accepts or (lambda _: False))
    valid = (one for one in sources(language, folders, rng) if accepts is None or accepts(one.text))
    alive = [source for source in islice(valid, options.files) if follower.follow(source)]
    before = -1
    while before < follower.planted < options.errors:
        before = follower.planted
        for source in alive:
            if follower.planted < options.errors:
                follower.plant(source, rng)
    return follower


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    vocabulary = load_vocabulary(options.tokenizer)
    folders: dict[str, list[Path]] = {}
    for language, folder in options.corpus:
        folders.setdefault(language, []).append(Path(folder))
    followers = [_measured(language, folders[language], vocabulary, options) for language in sorted(folders)]
    if followers:
        print_table(HEAD, [follower.row() for follower in followers])
    written = documents(options, dict(options.judge)) if options.documents else {}
    configuration = {"files": options.files, "errors": options.errors, "vocabulary": vocabulary.name}
    configuration |= {"model": model_name(options), "documents": options.documents, "max_tokens": options.max_tokens}
    figures = {"languages": {one.language: one.figures() for one in followers}, "documents": written}
    emit(record("syntax", figures, configuration=configuration, seeds=[options.seed]), options.out)
    dead = any(follower.counts["dead"] for follower in followers)
    return 1 if dead or any(one["followed"]["refused"] for one in written.values()) else 0


def _of_language(text: str) -> tuple[str, str]:
    language, _, value = text.partition("=")
    if language not in LANGUAGES or not value:
        raise argparse.ArgumentTypeError(f"not LANGUAGE=VALUE with one of {', '.join(LANGUAGES)}: {text!r}")
    return language, value


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("syntax", __doc__, "20 files and 80 errors a language, bytes as tokens; 2 documents of noise")
    parser.add_argument("--corpus", type=_of_language, action="append", default=[], metavar="LANGUAGE=DIR")
    parser.add_argument("--judge", type=_of_language, action="append", default=[], metavar="LANGUAGE=COMMAND")
    parser.add_model("model", model=EngineConfig().model)
    parser.add(files=500, errors=2000, seed=0, tokenizer=BYTES, documents=0, max_tokens=64, units=("",))
    quick = {"files": 20, "errors": 80, "tokenizer": BYTES, "documents": 2, "units": ["python"], "max_tokens": 40}
    return parser.read(arguments, **quick)


if __name__ == "__main__":
    sys.exit(main())
