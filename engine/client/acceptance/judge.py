"""The acceptance run: the six criteria of a deployment, measured on live answers and judged.

Speed and cost are judged where the answers come from a device that has a list price; what start-up
and idle time add to the cost is printed beside, since it is the caller's traffic that decides it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from engine.client.acceptance.ask import Answer, Ask, by_function, over_http
from engine.client.acceptance.plan import DOCUMENT_USD, INFERENCE_PROMPT, INFERENCE_SCHEMA, WARM_LATENCY_S, Plan
from engine.client.acceptance.run import Run, send
from engine.client.deployed import load_s
from engine.client.environment import auth_headers
from engine.client.providers.fallback import FallbackProvider
from engine.client.providers.health_url import health_url
from engine.client.providers.http import TIMEOUT_S, ModalProvider
from engine.schema import Validator


@dataclass(slots=True)
class Criterion:
    """One line of the report; `passed` None is not judged."""

    name: str
    required: str
    measured: str
    passed: bool | None


async def accept(ask: Ask, plan: Plan) -> list[Criterion]:
    """Send everything and judge. Never raises for an engine's failure: that is a criterion not met."""
    run = await send(ask, plan)
    usd_per_s = _price(run, plan)
    return [
        *_answers(run, plan),
        _latency(run, judged=usd_per_s is not None),
        *_costs(run, plan, usd_per_s),
        await _fallback(plan),
    ]


def _price(run: Run, plan: Plan) -> float | None:
    """Of a second of what answered, None where that has no list price: a CPU, an unknown card, nobody."""
    devices = {str(answer["device"]) for answer in run.live if answer.get("device")}
    prices = [plan.prices.per_second(device) for device in devices]
    known = [price for price in prices if price is not None]
    return max(known) + plan.beside_gpu_usd_per_s if known and len(known) == len(prices) else None


def _answers(run: Run, plan: Plan) -> list[Criterion]:
    validator = Validator(dict(plan.schema))
    errors = [str(answer["error"]) for answer in run.answers if "error" in answer]
    live = run.live
    ids = {str(answer.get("request_id")) for answer in live}
    stale = sum(_number(answer.get("created")) < run.started - 60 for answer in live)
    fresh = len(ids) == len(live) and not stale
    told = f"{len(live)} of {len(run.answers)}" + (f"; first error: {errors[0]}" if errors else "")
    problems = [problem for answer in live if (problem := _problem(answer, validator))]
    bad = f"; first: {problems[0]}" if problems else ""
    first = run.answers[0]
    shown = "no valid document" if "error" in first or _problem(first, validator) else "a document"
    responds = told if fresh else f"{told}; answers repeat"
    valid = f"{len(live) - len(problems)} of {len(run.answers)}{bad}"
    return [
        Criterion("responds", "every request, freshly made", responds, fresh and not errors),
        Criterion("constrains", "the test request gives a document", shown, shown == "a document"),
        Criterion("valid", "100 % at temperatures 0 and 0.9", valid, not problems and not errors),
    ]


def _problem(answer: Answer, validator: Validator) -> str | None:
    """Judged here from the raw text, strictly, whatever the engine says of itself; then the value that callers take."""
    checked = validator.check(str(answer.get("raw_text")))
    if not checked.ok:
        return f"{checked.message} at {checked.pointer or '(root)'}"
    return None if answer.get("ir_json", checked.value) == checked.value else "ir_json is not what raw_text says"


def _number(value: Any) -> float:
    """A figure of somebody else's answer; what is no number counts as 0."""
    return float(value) if isinstance(value, int | float) else 0.0


def _latency(run: Run, *, judged: bool) -> Criterion:
    warm = [seconds for _, seconds in run.warm]
    mean = statistics.fmean(warm) if warm else float("inf")
    measured = f"{mean:.3f} s over {len(warm)}" if warm else "no answer"
    return Criterion(
        "warm latency", f"mean < {WARM_LATENCY_S:g} s", measured, mean < WARM_LATENCY_S if judged else None
    )


def _costs(run: Run, plan: Plan, usd_per_s: float | None) -> list[Criterion]:
    names = ("cost warm", "cost with idle and start-up")
    required = (f"< ${DOCUMENT_USD:g} a document", "told, not required")
    if usd_per_s is None:
        return [Criterion(*told, "no price for this device", None) for told in zip(names, required, strict=True)]
    gpu_s = [_number(answer.get("gpu_seconds")) for answer, _ in run.warm]
    unmeasured = sum(each <= 0 for each in gpu_s)
    warm = statistics.fmean(gpu_s) * usd_per_s if gpu_s else float("inf")
    measured = f"${warm:.5f}" + (f"; {unmeasured} answers without gpu_seconds" if unmeasured else "")
    up_s = run.wall_s + plan.scaledown_s + _number(plan.load_s)
    whole = up_s * usd_per_s / len(run.live)
    detail = f"{len(run.live)} documents, up {up_s:.0f} s"
    return [
        Criterion(names[0], required[0], measured if gpu_s else "no answer", warm < DOCUMENT_USD and not unmeasured),
        Criterion(names[1], required[1], f"${whole:.5f} ({detail})", None),
    ]


async def _fallback(plan: Plan) -> Criterion:
    """The engine replaced by a port where nobody listens: the fallback must answer and say so."""
    required = "answers when the engine is down, and says so"
    if plan.fallback is None:
        return Criterion("fallback", required, "no fallback model was named", None)
    model, options = plan.fallback
    provider = FallbackProvider(ModalProvider("http://127.0.0.1:9/generate", {}, timeout_s=1.0), model, **options)
    try:
        await provider.initialize({})
        await provider.generate_structured(INFERENCE_PROMPT, INFERENCE_SCHEMA)
        who = str((provider.last_answer or {}).get("answered_by"))
    except Exception as error:  # noqa: BLE001 - any failure of the fallback is a criterion not met
        who = f"{type(error).__name__}: {error}"
    finally:
        await provider.aclose()
    return Criterion("fallback", required, who, who == f"anthropic:{model}")


def report(criteria: Sequence[Criterion], out: Path | None) -> int:
    """Print the table, write the JSON file, return the exit code."""
    word = {True: "pass", False: "FAIL", None: "not judged"}
    for line in criteria:
        print(f"{line.name:28} required: {line.required:46} measured: {line.measured:40} {word[line.passed]}")  # noqa: T201 - the report
    if out is not None:
        try:
            out.write_text(json.dumps({"criteria": [asdict(line) for line in criteria]}, indent=1) + "\n")
        except OSError as error:
            raise SystemExit(f"maskloop: the report is above; {out} cannot be written: {error.strerror}") from None
    return 1 if any(line.passed is False for line in criteria) else 0


def judge_deployment(engine: Any, plan: Plan, out: Path | None) -> int:
    """The run against a deployed class, by function calls."""
    return report(asyncio.run(accept(by_function(engine.generate), replace(plan, load_s=load_s(engine)))), out)


def judge_url(url: str, plan: Plan, out: Path | None) -> int:
    """The run over HTTP. Beside the judged route only the health route is asked, and that starts no GPU."""
    try:
        health = httpx.get(health_url(url), headers=auth_headers(), timeout=TIMEOUT_S, follow_redirects=True).json()
        plan = replace(plan, load_s=health.get("last_load_s"))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        pass  # told, not required
    return report(asyncio.run(accept(over_http(url), plan)), out)


def show(answer: Answer) -> int:
    """Print an answer; the exit code."""
    print(json.dumps(answer, indent=1))  # noqa: T201 - what the entry point is for
    return 1 if "error" in answer else 0
