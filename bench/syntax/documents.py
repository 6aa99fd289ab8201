"""Code in strings, written through the engine's loop: does it parse, and what does following it take?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.harness.models import chosen_config
from bench.harness.statistics import percentiles, ratio
from bench.harness.tables import interval, print_table
from bench.syntax.judges import Accepts
from bench.syntax.units import TASKS, UNITS, Unit
from engine import Constraint, Engine, Request, Result, SamplingParams
from engine.grammar.matching.matcher import Matcher

_STEERS, _JUDGES = ("go_back", "unstick", "keep_whole"), ("retreat",)
_SHOWN = 3
HEAD = ("unit", "ended", "parse", "without", "tokens", "taken back", "ratio", "p50 us", "p99 us", "mean us")


@dataclass(frozen=True, slots=True)
class Watch:
    """By request: processor time of each time that somebody asked where its text stands, and tokens taken back."""

    us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    back: Counter[str] = field(default_factory=Counter)

    def around(self, method: Callable[..., int | None], *, timed: bool) -> Callable[..., int | None]:
        def called(matcher: Matcher, *given: int) -> int | None:
            before = time.thread_time_ns()
            count = method(matcher, *given)
            if timed:
                self.us[matcher.request_id].append((time.thread_time_ns() - before) / 1_000)
            self.back[matcher.request_id] += count or 0
            return count

        return called


@contextmanager
def watched() -> Iterator[Watch]:
    """Every matcher, while it lasts."""
    watch, kept = Watch(), {name: getattr(Matcher, name) for name in (*_STEERS, *_JUDGES)}
    for name, method in kept.items():
        setattr(Matcher, name, watch.around(method, timed=name in _STEERS))
    try:
        yield watch
    finally:
        for name, method in kept.items():
            setattr(Matcher, name, method)


def documents(options: argparse.Namespace, commands: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Figures by unit, printed too."""
    judges = {unit: judge for unit in UNITS if _is_asked(unit, options) and (judge := unit.judge(commands)) is not None}
    requests = [
        _request(unit, index, options, followed=followed)
        for index in range(options.documents)
        for unit in judges
        for followed in (True, False)
    ]
    results = dict[str, Result]()
    own = argparse.Namespace(**{name: value for name, value in vars(options).items() if name != "tokenizer"})
    with chosen_config(own, {}, max_batch=16) as config, Engine(config) as engine, watched() as watch:
        for result in engine.generate_each(requests):
            results[result.id] = result
            print(f"{result.id:40.40} {result.status:9} {result.usage.completion_tokens:4} tokens", file=sys.stderr)
    figures = {unit.name: _figures(unit, judge, options, results, watch) for unit, judge in judges.items()}
    if figures:
        print_table(HEAD, [_row(name, found) for name, found in figures.items()])
    return figures


def _is_asked(unit: Unit, options: argparse.Namespace) -> bool:
    return any(unit.name.startswith(name) for name in options.units)


def _name(unit: Unit, index: int, *, followed: bool) -> str:
    return f"{unit.name} {index} {'followed' if followed else 'free'}"


def _request(unit: Unit, index: int, options: argparse.Namespace, *, followed: bool) -> Request:
    code: dict[str, Any] = {"type": "string"}
    if followed:
        code["x-syntax"] = {name: value for name, value in asdict(unit.syntax).items() if value}
    schema = {"type": "object", "properties": {"code": code}, "required": ["code"], "additionalProperties": False}
    return Request(
        id=_name(unit, index, followed=followed),
        prompt=f'{unit.asked.format(TASKS[index % len(TASKS)])} Answer in JSON: {{"code": "..."}}',
        constraint=Constraint.json_schema(schema),
        sampling=SamplingParams(max_tokens=options.max_tokens, temperature=0.8, seed=options.seed + index),
    )


def _figures(
    unit: Unit, judge: Accepts, options: argparse.Namespace, results: Mapping[str, Result], watch: Watch
) -> dict[str, Any]:
    names = {
        arm: [_name(unit, index, followed=followed) for index in range(options.documents)]
        for arm, followed in (("followed", True), ("free", False))
    }
    arms = {arm: _arm(unit, judge, [results[name] for name in found]) for arm, found in names.items()}
    tokens = {arm: [results[name].usage.completion_tokens for name in found] for arm, found in names.items()}
    back = [watch.back[name] for name in names["followed"]]
    spent = [took for name in names["followed"] for took in watch.us[name]]
    written = [count + more for count, more in zip(tokens["followed"], back, strict=True)]
    return {
        **arms,
        "tokens": {arm: sum(found) for arm, found in tokens.items()},
        "taken_back": sum(back),
        "ratio": ratio(written, tokens["free"], seed=options.seed),
        "us": {**percentiles(spent), "mean": sum(spent) / max(1, sum(written))},
    }


def _arm(unit: Unit, judge: Accepts, results: Sequence[Result]) -> dict[str, Any]:
    """`refused`: of those that ended, how many have code that the judge refuses."""
    refused = 0
    ended = [result for result in results if result.ok]
    for result in ended:
        code = json.loads(result.text)["code"]
        if not judge(code):
            refused += 1
            if "followed" in result.id and refused <= _SHOWN:
                print(f"refused: {unit.name}: {result.status}: {code!r}", flush=True)
    for result in results:
        if not result.ok and "followed" in result.id:
            print(f"not ended: {unit.name}: {result.status}: {result.error}: {result.text[:300]!r}", flush=True)
    statuses = dict(Counter(result.status for result in results))
    return {"documents": len(results), "ended": len(ended), "refused": refused, "statuses": statuses}


def _row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    followed, free = found["followed"], found["free"]
    shares = [f"{arm['ended'] - arm['refused']}/{arm['ended']}" for arm in (followed, free)]
    times = [f"{found['us'][name]:.0f}" for name in ("p50", "p99", "mean")]
    back = f"{100 * found['taken_back'] / max(1, found['tokens']['followed']):.0f} %"
    tokens = f"{found['tokens']['followed']}/{found['tokens']['free']}"
    ended = f"{followed['ended']}/{followed['documents']}"
    return (name, ended, *shares, tokens, back, interval(found["ratio"], 2), *times)
