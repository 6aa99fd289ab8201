"""Many runs against models that want no document at all, counted by outcome.

    python -m tests.decode.adversarial_runs [--runs 1000] [--first 0] [--ahead] [--in-strings]

A run's number decides everything about it: schema and conformance, adversary, temperature, penalty, budget, samples,
deadline, and which of four owners asks; sixteen are in flight on four slots, so that rows are put back. Deadlines are
measured in steps. A second validator, which the engine does not use, judges every finished document. Wrong: `valid` or
the status is not what it says, a status that the contracts do not allow there, a text over its budget, an answer later
than the time that the judge has behind the deadline, a document given up before that, a piece of a stream that is lost
or comes twice, a request or slot that is left. Exit 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema

from engine import BudgetTooSmall, Constraint, ConstraintError, EngineError, Request, Result, SamplingParams
from engine.decode.engine import Engine
from engine.decode.requests.judge import GRACE_S
from engine.decode.scheduling.scheduler import Scheduler
from tests.decode.adversarial_schemas import schemas, schemas_in_strings
from tests.decode.adversaries import ADVERSARIES, logits_of
from tests.decode.fakes import STEP_S, FakeNetwork, clock_of_steps, fake_engine

SLOTS, WINDOW = 4, 16
OWNERS = ("many", "many", "many", "few", "seldom", None)
BUDGETS = (12, 40, 64, 90, 130, 240)
"""Tokens, of bytes mostly; the shortest document of the six that ship needs 63."""
LONG = (180, 250, 400, 600)
"""The shortest three levels of documents in strings need 60 to 150."""
LATE_S = GRACE_S + 0.1
PATIENCE_S = 120
JUDGED_S = 50 * STEP_S
"""What a step waits at most for what is judged of documents that are past their deadlines."""


@dataclass(slots=True)
class Run:
    """Run `number` and what was heard of it."""

    number: int
    schema: str
    request: Request
    owner: str | None
    pieces: dict[int, list[str]] = field(default_factory=dict)
    asked_s: float = 0.0
    entered_s: float = 0.0
    ended_s: float = 0.0
    """Times at which it was about to be submitted, had been, and was answered: its deadline counts from between."""
    answered: threading.Event = field(default_factory=threading.Event)

    def on_text(self, sample: int, text: str) -> None:
        self.pieces.setdefault(sample, []).append(text)

    def later_than(self, since_s: float, seconds: float) -> bool:
        """Whether it was answered `seconds` or more after its deadline, counted from `since_s`."""
        late_s = self.ended_s - since_s - (self.request.deadline_s or float("inf"))
        return late_s > seconds - STEP_S / 2


def run(number: int, *, in_strings: bool = False) -> Run:
    """Everything about it follows from its number; `in_strings`: of schemas of documents in strings alone."""
    draw = random.Random(number)
    sources = schemas_in_strings() if in_strings else schemas()
    schema = sources[number // len(ADVERSARIES) % len(sources)]
    params = SamplingParams(
        max_tokens=draw.choice(LONG if in_strings else BUDGETS),
        seed=number,
        temperature=draw.choice([0.0, 0.7, 1.5]),
        top_p=draw.choice([1.0, 1.0, 0.9]),
        repetition_penalty=draw.choice([1.0, 1.0, 1.0, 1.3]),
        n=draw.choice([1, 1, 1, 2, 3]),
        logprobs=draw.choice([None, None, 2]),
    )
    constraint = Constraint.json_schema(schema, conformance=draw.choice(["tight", "spec"]))
    deadline_s = draw.choice([None] * 8 + [0.5] if in_strings else [None, None, 0.02, 0.1, 0.5, 2.0])
    request = Request(
        prompt=f"{number:06d}", constraint=constraint, sampling=params, deadline_s=deadline_s, id=str(number)
    )
    return Run(number, schema, request, draw.choice(OWNERS))


def _encoded(_: Any, encoding: Any, text: Any, __: Any) -> Iterator[Any]:
    try:
        if isinstance(text, str) and encoding == "base64":
            base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError as error:
        yield jsonschema.ValidationError(str(error))


def _held(validator: Any, inner: Any, text: Any, schema: Any) -> Iterator[Any]:
    if isinstance(text, str) and schema.get("contentMediaType") == "application/json":
        try:
            yield from validator.descend(strict(text), inner)
        except ValueError as error:
            yield jsonschema.ValidationError(str(error))


@cache
def _judges(schema: str) -> tuple[Any, Any]:
    """As the specification says, and with what strings hold."""
    document = json.loads(schema)
    kind = jsonschema.validators.validator_for(document, jsonschema.Draft202012Validator)
    held = jsonschema.validators.extend(kind, {"contentEncoding": _encoded, "contentSchema": _held})
    return tuple(each(document, format_checker=kind.FORMAT_CHECKER) for each in (kind, held))


def strict(text: str) -> Any:
    """The value of strict JSON; ValueError where it is none."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a repeated key")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=members, parse_constant=constant)


def is_valid(schema: str, text: str) -> bool:
    """What the second validator says: strict JSON, then the schema."""
    try:
        value = strict(text)
    except ValueError:
        return False
    return all(judge.is_valid(value) for judge in _judges(schema))


def outcome(result: Result, run: Run) -> str:
    """A sample's status, or `wrong: ` and what is wrong with it."""
    request, status = run.request, result.status
    if max(result.usage.completion_tokens, len(result.token_ids)) > (request.sampling.max_tokens or 0):
        return "wrong: over its budget"
    if status in ("complete", "closed", "invalid"):
        if result.valid != (status != "invalid"):
            return f"wrong: {status} and valid is {result.valid}"
        if result.valid != is_valid(run.schema, result.text):
            return f"wrong: valid is {result.valid}, and a second validator says otherwise"
        if result.valid and json.loads(result.text) != result.value:
            return "wrong: the value is not the text's"
        if status == "invalid" and not (result.error and result.verdicts and result.verdicts["checked"]):
            return "wrong: invalid, and no verdict says so"
        return status
    if result.valid:
        return f"wrong: {status} and valid"
    if status == "timeout" and request.deadline_s is not None:
        return status
    error = result.error or {}
    unjudged = (error.get("type"), error.get("param")) == ("JudgingLimit", "deadline_s")
    if unjudged and run.later_than(run.asked_s, GRACE_S):
        return "not judged in time"
    return f"wrong: {status} {error}"


def outcomes(
    numbers: Sequence[int], cache_dir: Path, *, in_strings: bool = False, **settings: Any
) -> Iterator[tuple[Run, str]]:
    """Every run, and the outcome of each of its samples; at last one of the engine itself."""
    engine, network = fake_engine(logits_of, cache_dir, max_batch=SLOTS, **settings)
    network.before = lambda: _await_late_judgements(engine)
    flying: deque[tuple[Run, Future[Result] | EngineError]] = deque()
    with engine, clock_of_steps(network) as now:
        engine.warmup([Constraint.json_schema(schema) for schema in schemas()[:6]])
        for number in numbers:
            flying.append(_submitted(engine, run(number, in_strings=in_strings), now))
            if len(flying) >= WINDOW:
                yield from _told(*flying.popleft())
        while flying:
            yield from _told(*flying.popleft())
        yield run(0), _left(engine, network)


def _await_late_judgements(engine: Engine) -> None:
    """A step of a few microseconds counts as `STEP_S` of the time that judging has behind a deadline, but the judge is
    a process that knows no steps: it gets that time, many times over where the machine is busy."""
    judging = engine._thread._core._judging
    asked = [(s, s.question.answer) for s in judging._asking[:] if s.question is not None]
    ended = [(s, ended.answer) for s, ended in list(judging._ended.items())]
    wait([answer for s, answer in (*asked, *ended) if answer is not None and s.job.overdue()], JUDGED_S)


def _submitted(engine: Engine, run: Run, now: Callable[[], float]) -> tuple[Run, Future[Result] | EngineError]:
    def on_done(_: Future[Result]) -> None:
        run.ended_s = now()
        run.answered.set()

    run.asked_s = now()
    try:
        future = engine.submit(run.request, owner=run.owner, on_text=run.on_text)
    except EngineError as error:
        return run, error
    run.entered_s = now()
    future.add_done_callback(on_done)
    return run, future


def _told(run: Run, answer: Future[Result] | EngineError) -> Iterator[tuple[Run, str]]:
    try:
        if isinstance(answer, EngineError):
            raise answer
        result = _answered(answer)
        run.answered.wait()  # the callback comes after the result
    except (BudgetTooSmall, ConstraintError) as error:
        yield run, f"refused: {error.type}"
        return
    except (EngineError, TimeoutError) as error:
        yield run, f"wrong: raised {error!r}"
        return
    for index, sample in enumerate(result.samples or (result,)):
        heard = "".join(run.pieces.get(index, ()))
        yield run, outcome(sample, run) if heard == sample.text else "wrong: a piece was lost or came twice"
    if run.later_than(run.entered_s, LATE_S):
        yield run, f"wrong: it took {run.ended_s - run.entered_s:.2f} s, its deadline was {run.request.deadline_s} s"


def _answered(answer: Future[Result]) -> Result:
    """TimeoutError after `PATIENCE_S` of this process's processor time, so that a busy machine fails no run."""
    until = time.process_time() + PATIENCE_S
    while time.process_time() < until:
        with suppress(TimeoutError):
            return answer.result(1)
    raise TimeoutError(f"no answer after {PATIENCE_S} s of processor time")


def _left(engine: Engine, network: FakeNetwork) -> str:
    """Whether requests are left, or slots are missing: as many rows as there are slots must run at once."""
    if engine.in_flight():
        return f"wrong: {len(engine.in_flight())} requests are left"
    network.most = 0
    params = SamplingParams(max_tokens=60, n=SLOTS)
    engine.generate(Request(prompt="000000 and nothing else", sampling=params))
    return "nothing left" if network.most == SLOTS else f"wrong: only {network.most} slots are left"


def is_wrong(outcome: str) -> bool:
    """Whether an outcome breaks a promise."""
    return outcome.startswith("wrong")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.decode.adversarial_runs")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--ahead", action="store_true", help="launch forwards before the host has seen the token")
    parser.add_argument("--in-strings", action="store_true", help="only documents in strings, three levels of them")
    asked = parser.parse_args(arguments)
    counts, put_back = Counter[str](), Scheduler._put_back

    def counting(self: Scheduler, sample: Any) -> None:
        counts["put back"] += 1
        put_back(self, sample)

    Scheduler._put_back = counting  # type: ignore[method-assign]
    with TemporaryDirectory() as folder:
        numbers = range(asked.first, asked.first + asked.runs)
        for made, name in outcomes(numbers, Path(folder), in_strings=asked.in_strings, launch_ahead=asked.ahead):
            counts[name] += 1
            if is_wrong(name):
                print(f"run {made.number}: {name}", flush=True)
    sources = schemas_in_strings() if asked.in_strings else schemas()
    rows, documents = counts.pop("put back", 0), sum(counts[name] for name in ("complete", "closed", "invalid"))
    wrong = sum(count for name, count in counts.items() if is_wrong(name))
    print(f"{asked.runs} runs, {len(sources)} schemas, {len(ADVERSARIES)} adversaries, {rows} rows put back")
    for name, count in counts.most_common():
        print(f"  {count:6d} {name}")
    print(f"  {documents:6d} documents; {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
