"""What everybody else notices while clients try to stop a server; afterwards nothing of theirs may be left.

    python -m bench.soak --hostile [--only NAME ...] [--runs 3] [--steps 1000] [--together-s 60] [--embedded] [--quick]
                                   [--seed 0] [--out DIR]

The server runs in a process of its own with a runner whose step takes 20 ms without the processor, as a device's does
(`--embedded`: the embedded model, where only ratios mean anything); the hostile clients in others at low priority.
Under a second key a witness decodes free text, asks for a document of a new small schema every half second, and for
the health every 50 ms. Each kind of attack alone, `--runs` times, for as long as `--steps` steps of the witness take;
then all at once for `--together-s`. Ceilings (they decide the exit code): a new schema within 3 times its idle time +
100 ms, the p99 of a step within 3 step times, the p95 of the health within 50 ms, no wrong status, nothing left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.soak.attacks import NAMES, SPECIAL
from bench.soak.witness import Witness

SETTLE_S = 20.0
"""What was abandoned must be gone by then."""
STEP_MS = 20.0
"""Between an A100's and a small GPU's for the product's model, and long beside what the host does in a step."""
SCHEMAS = 5
"""At least so many new ones a run."""
QUICK = ("mistakes", "deadlines")
SHOWN = {
    "steps": "steps", "step p50": "step_p50_ms", "p99": "step_p99_ms", "longest": "step_max_ms",
    "schema p50": "schema_p50_ms", "max": "schema_max_ms", "health p95": "health_p95_ms",
    "longest answer": "health_max_ms",
}  # fmt: skip
RATIOS = {"step_p99_ms": "p99", "schema_max_ms": "max", "health_p95_ms": "health"}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when no ceiling is missed; on a shared machine (`--quick`) only what does not depend on its speed decides."""
    options = _options(arguments)
    print("ceiling: schema <= 3 x idle + 100 ms, step p99 <= 3 steps, health p95 <= 50 ms, 0 wrong, 0 left", flush=True)
    with serving(options.embedded) as (process, url):
        first = Witness(url)
        with first.client() as client:
            first.ask(client)  # processes start with it
        idle = watched(url, [], options)
        show("nobody", 1, idle)
        attacks: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
        for name, number in ((name, number) for name in attacks for number in range(1, options.runs + 1)):
            attacks[name].append(judged(watched(url, [name], options), idle, options.embedded))
            show(name, number, attacks[name][-1])
        everybody = [*options.only, *(SPECIAL if options.quick else ())]
        together = judged(watched(url, everybody, options, seconds=options.together_s), idle, options.embedded)
        show("all at once", 1, together)
        left = settled(process)
    print(f"left behind: {left}")
    runs = [together, *(run for found in attacks.values() for run in found)]
    missed = {name: sum(bool(run["missed"]) for run in found) for name, found in attacks.items()}
    figures = {
        "idle": idle, "attacks": attacks, "together": together, "left": left,
        "wrong": sum(len(run["wrong"]) for run in runs),
        "missed": {name: count for name, count in missed.items() if count},
    }  # fmt: skip
    configuration = {
        "runner": "embedded" if options.embedded else f"sleeping {STEP_MS:g} ms", "steps": options.steps,
        "together_s": options.together_s, "sockets": options.sockets,
    }  # fmt: skip
    line = record("hostile", figures, configuration=configuration, seeds=[options.seed], repeats=options.runs)
    emit(line, options.out)
    slow = not options.quick and any(run["missed"] for run in runs)
    return int(bool(figures["wrong"]) or any(left.values()) or slow)


@contextlib.contextmanager
def serving(embedded: bool) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process, ready, and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    step = [] if embedded else [str(STEP_MS)]
    with _talking("bench.soak.server", str(port), *step, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 180
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server did not start; run `python -m bench.soak.server PORT` to see why")
            time.sleep(0.2)
        yield process, url


@contextlib.contextmanager
def _talking(module: str, *arguments: str, stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that ends, or is ended, when its stdin does."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=pipe, stdout=pipe, stderr=stderr, text=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # a pipe was asked for
        try:
            process.wait(60)
        finally:
            process.kill()


def _ready(url: str) -> bool:
    try:
        health = httpx.get(url + "/health").json()
    except httpx.TransportError:
        return False
    if health["state"] == "failed":
        raise RuntimeError(f"the engine did not load: {health.get('reason')}")
    return bool(health["state"] == "ready")


def watched(
    url: str, names: Sequence[str], options: argparse.Namespace, seconds: float | None = None
) -> dict[str, Any]:
    """The witness's figures while these attacks run, and what the attackers got."""
    witness = Witness(url)
    with attacking(url, names, options) as told:
        threads = witness.start()
        began = time.monotonic()
        patience = seconds or 10 * options.steps * STEP_MS / 1e3 + 30
        while time.monotonic() - began < patience and (
            seconds or len(witness.steps) < options.steps or len(witness.schemas) < options.schemas
        ):
            time.sleep(0.05)
        witness.stop.set()
        lasted = time.monotonic() - began
        for thread in threads:
            thread.join(90)
    figures = witness.figures()
    figures["wrong"] += told.pop("wrong")
    return {**figures, **told, "seconds": round(lasted, 1)}


@contextlib.contextmanager
def attacking(url: str, names: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Filled, when the attackers have ended, with what they asked and got.

    Those below HTTP have a process of their own: it opens thousands of connections, and clients of the same process
    would send their headers seconds late.
    """
    told: dict[str, Any] = {"asked": {}, "statuses": {}, "wrong": []}
    more = ["--seed", str(options.seed), "--sockets", str(options.sockets)]
    groups = [[name for name in names if (name in SPECIAL) == special] for special in (False, True)]
    with contextlib.ExitStack() as stack:
        attackers = [
            stack.enter_context(_talking("bench.soak.attackers", url.rpartition(":")[2], *group, *more))
            for group in groups
            if group
        ]
        for clients in attackers:
            if clients.stdout.readline() != "begun\n":  # type: ignore[union-attr]  # a pipe was asked for
                raise RuntimeError("the hostile clients did not begin")
        yield told
        for clients in attackers:
            found = json.loads(clients.communicate("", timeout=120)[0].splitlines()[-1])
            told["asked"] |= found["asked"]
            told["statuses"] |= found["statuses"]
            told["wrong"] += found["wrong"]


def judged(run: dict[str, Any], idle: dict[str, Any], embedded: bool) -> dict[str, Any]:
    """With the ratios to the idle run and the names of the ceilings that were missed."""
    step = idle["step_p50_ms"] if embedded else STEP_MS
    allowed = {
        "step_p99_ms": 3 * step, "schema_max_ms": 3 * idle["schema_p50_ms"] + 100, "health_p95_ms": 50.0
    }  # fmt: skip
    missed = [name for name, most in allowed.items() if run[name] is None or run[name] > most]
    ratios = {name: round(run[name] / idle[name], 2) for name in allowed if run[name] and idle[name]}
    return {**run, "missed": missed, "ratios": ratios}


def settled(process: subprocess.Popen[str]) -> dict[str, int]:
    """What is left once everybody has gone, asked for until nothing is or patience ends."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    until = time.monotonic() + SETTLE_S
    while True:
        process.stdin.write("left\n")  # type: ignore[union-attr]  # a pipe was asked for
        process.stdin.flush()  # type: ignore[union-attr]  # a pipe was asked for
        threading.Thread(target=lambda: answers.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]  # pipes
        left: dict[str, int] = json.loads(answers.get(timeout=60))
        if not any(left.values()) or time.monotonic() > until:
            return left


def show(name: str, number: int, run: dict[str, Any]) -> None:
    figures = "  ".join(f"{label} {run[key]}" for label, key in SHOWN.items())
    asked = f"  asked {sum(run['asked'].values())}" if run["asked"] else ""
    ratios = "  times idle: " + ", ".join(f"{RATIOS[key]} {ratio}" for key, ratio in run.get("ratios", {}).items())
    missed = f"  MISSED {', '.join(run['missed'])}; slowest {run['slowest']}" if run.get("missed") else ""
    wrong = f"  WRONG {len(run['wrong'])}: {run['wrong'][0]}" if run["wrong"] else ""
    print(f"{name:20} {number}  {figures}{asked}{ratios if 'ratios' in run else ''}{missed}{wrong}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("soak --hostile", __doc__, f"{', '.join(QUICK)}; 60 steps, 3 s together")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add(runs=3, steps=1000, together_s=60.0, seed=0)
    parser.add_argument("--embedded", action="store_true", help="the embedded model in place of the sleeping runner")
    options = parser.read(arguments, runs=1)
    options.only = options.only or list(QUICK if options.quick else NAMES)
    options.sockets, options.schemas = (200, 2) if options.quick else (2000, SCHEMAS)
    if options.quick:
        options.steps, options.together_s = min(options.steps, 60), min(options.together_s, 3.0)
    return options
