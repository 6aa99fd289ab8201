"""What everybody else notices while clients try to stop a server; afterwards nothing of theirs may be left.

    python -m bench.soak --hostile [--only NAME ...] [--runs 3] [--steps 1000] [--together-s 60] [--embedded] [--quick]
                                   [--seed 0] [--out DIR]

The server runs in a process of its own with a runner whose step takes 20 ms without the processor, as a device's does
(`--embedded`: the embedded model, where only ratios mean anything); the hostile clients in another at low priority.
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
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.hostile_clients import NAMES, SPECIAL
from bench.record import emit, record
from bench.tally import quantile

HEADERS = {"authorization": "Bearer witness"}
SETTLE_S = 20.0
"""What was abandoned must be gone by then."""
STEP_MS, QUICK = 20.0, ("mistakes", "deadlines")
SCHEMAS = 5
"""At least so many new ones a run."""


@dataclass
class Witnessed:
    """Seconds, one list a question."""

    steps: list[float] = field(default_factory=list)
    schemas: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Milliseconds."""
        return {
            "steps": len(self.steps), "step_p50_ms": _ms(self.steps, 0.5), "step_p99_ms": _ms(self.steps, 0.99),
            "schemas": len(self.schemas), "schema_p50_ms": _ms(self.schemas, 0.5),
            "schema_max_ms": _ms(self.schemas, 1.0), "health_p95_ms": _ms(self.health, 0.95), "wrong": self.wrong[:20],
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    names = options.only or list(QUICK if options.quick else NAMES)
    if options.quick:
        options.runs, options.steps, options.together_s = 1, min(options.steps, 60), min(options.together_s, 3.0)
    print("ceiling: schema <= 3 x idle + 100 ms, step p99 <= 3 steps, health p95 <= 50 ms, 0 wrong, 0 left", flush=True)
    with serving(options) as server:
        with httpx.Client(base_url=server.url, headers=HEADERS, timeout=180) as first:
            ask(first, Witnessed())  # processes start with it
        idle = watched(server, [], options)
        show("nobody", 1, idle)
        attacks = {name: [watched(server, [name], options) for _ in range(options.runs)] for name in names}
        for name, runs in attacks.items():
            for number, run in enumerate(runs, 1):
                judge(run, idle, options)
                show(name, number, run)
        together = watched(server, [*names, *(SPECIAL if options.quick else ())], options, seconds=options.together_s)
        judge(together, idle, options)
        show("all at once", 1, together)
        left = settled(server)
    print(f"left behind: {left}")
    missed = {name: sum(bool(run["missed"]) for run in runs) for name, runs in attacks.items()}
    wrong = [*together["wrong"], *(text for runs in attacks.values() for run in runs for text in run["wrong"])]
    figures = {
        "idle": idle, "attacks": attacks, "together": together, "left": left, "wrong": len(wrong),
        "missed": {name: count for name, count in missed.items() if count},
    }  # fmt: skip
    configuration = {
        "runner": "embedded" if options.embedded else f"sleeping {STEP_MS:g} ms", "steps": options.steps,
        "together_s": options.together_s, "sockets": 200 if options.quick else 2000,
    }  # fmt: skip
    line = record("hostile", figures, configuration=configuration, seeds=[options.seed], repeats=options.runs)
    emit(line, options.out)
    if options.quick:  # shared machines: only what does not depend on their speed
        return int(bool(wrong) or any(left.values()))
    return int(bool(wrong) or any(left.values()) or bool(figures["missed"]) or bool(together["missed"]))


@dataclass
class Attacked:
    """The server's process and its port."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(options: argparse.Namespace) -> Iterator[Attacked]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kind = ["--embedded"] if options.embedded else ["--step-ms", str(STEP_MS)]
    command = [sys.executable, "-m", "bench.hostile_server", str(port), *kind]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        server = Attacked(process, port)
        until = time.monotonic() + 180
        while not _ready(server):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server did not start; run `python -m bench.hostile_server PORT` to see why")
            time.sleep(0.2)
        yield server
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # a pipe was asked for
        process.wait(60)


def _ready(server: Attacked) -> bool:
    try:
        health = httpx.get(server.url + "/health").json()
    except httpx.TransportError:
        return False
    if health["state"] == "failed":
        raise RuntimeError(f"the engine did not load: {health.get('reason')}")
    return bool(health["state"] == "ready")


def watched(
    server: Attacked, names: Sequence[str], options: argparse.Namespace, seconds: float | None = None
) -> dict[str, Any]:
    """The witness's figures while these attacks run, and what the attackers got."""
    seen, stop = Witnessed(), threading.Event()
    with attacking(server, names, options) as told:
        threads = [
            threading.Thread(target=kind, args=(server, seen, stop), daemon=True) for kind in (_decode, _ask_on, _probe)
        ]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        patience = seconds or 10 * options.steps * STEP_MS / 1e3 + 30
        while time.monotonic() - began < patience and (
            seconds or len(seen.steps) < options.steps or len(seen.schemas) < SCHEMAS
        ):
            time.sleep(0.05)
        stop.set()
        lasted = time.monotonic() - began
        for thread in threads:
            thread.join(90)
    figures = seen.figures()
    figures["wrong"] += told.get("wrong", [])
    clients = {"asked": told.get("asked", {}), "statuses": told.get("statuses", {})}
    return {**figures, **clients, "seconds": round(lasted, 1)}


@contextlib.contextmanager
def attacking(server: Attacked, names: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    told: dict[str, Any] = {}
    if not names:
        yield told
        return
    more = ["--seed", str(options.seed), "--sockets", "200" if options.quick else "2000"]
    command = [sys.executable, "-m", "bench.hostile_clients", str(server.port), *names, *more]
    clients = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if clients.stdout.readline() != "begun\n":  # type: ignore[union-attr]  # a pipe was asked for
            raise RuntimeError("the hostile clients did not begin")
        yield told
        told |= json.loads(clients.communicate("", timeout=120)[0].splitlines()[-1])
    finally:
        clients.kill()
        clients.wait()


def _decode(server: Attacked, seen: Witnessed, stop: threading.Event) -> None:
    """One row of free text after another; the time between two pieces is a step."""
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        body = {"model": model, "prompt": "x", "max_tokens": 500, "stream": True}
        while not stop.is_set():
            with client.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    seen.wrong.append(f"witness stream: {answer.status_code}")
                    time.sleep(0.2)
                    continue
                last = None
                for line in answer.iter_lines():
                    now = time.perf_counter()
                    if stop.is_set():
                        break
                    if line.startswith("data: {") and '"text":""' not in line:
                        if last is not None:
                            seen.steps.append(now - last)
                        last = now


def _ask_on(server: Attacked, seen: Witnessed, stop: threading.Event) -> None:
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as client:
        while not stop.is_set():
            ask(client, seen)
            stop.wait(0.5)


def ask(client: httpx.Client, seen: Witnessed) -> None:
    """One document of a schema that nobody has asked for."""
    names = [f"{name}_{random.randrange(10**6)}" for name in ("ready", "kind", "left")]  # unlike those of runs before
    members = {names[0]: {"type": "boolean"}, names[1]: {"enum": ["a", "b", "c"]}, names[2]: {"type": "null"}}
    asked = {"type": "object", "properties": members, "required": names, "additionalProperties": False}
    began = time.perf_counter()
    try:
        answer = client.post("/generate", json={"prompt": "x", "schema": asked, "max_tokens": 60})
    except httpx.TransportError as error:
        seen.wrong.append(f"witness: {type(error).__name__}")
        return
    seen.schemas.append(time.perf_counter() - began)
    if answer.status_code != 200 or set(answer.json()["ir_json"]) != set(names):
        seen.wrong.append(f"witness: {answer.status_code} {answer.text[:200]}")


def _probe(server: Attacked, seen: Witnessed, stop: threading.Event) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while not stop.is_set():
            began = time.perf_counter()
            try:
                code = client.get("/health").status_code
            except httpx.TransportError as error:
                seen.wrong.append(f"health: {type(error).__name__}")
                continue
            seen.health.append(time.perf_counter() - began)
            if code != 200:
                seen.wrong.append(f"health: {code}")
            stop.wait(0.05)


def judge(run: dict[str, Any], idle: dict[str, Any], options: argparse.Namespace) -> None:
    """Adds the ratios to the idle run and the names of the ceilings that were missed."""
    step = idle["step_p50_ms"] if options.embedded else STEP_MS
    allowed = {
        "step_p99_ms": 3 * step, "schema_max_ms": 3 * idle["schema_p50_ms"] + 100, "health_p95_ms": 50.0
    }  # fmt: skip
    run["missed"] = [name for name, most in allowed.items() if run[name] is None or run[name] > most]
    run["ratios"] = {name: round(run[name] / idle[name], 2) for name in allowed if run[name] and idle[name]}


def settled(server: Attacked) -> dict[str, int]:
    """What is left once everybody has gone, asked for until nothing is or patience ends."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    until = time.monotonic() + SETTLE_S
    process = server.process
    while True:
        process.stdin.write("left\n")  # type: ignore[union-attr]  # a pipe was asked for
        process.stdin.flush()  # type: ignore[union-attr]  # a pipe was asked for
        threading.Thread(target=lambda: answers.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]  # pipes
        left: dict[str, int] = json.loads(answers.get(timeout=60))
        if not any(left.values()) or time.monotonic() > until:
            return left


def show(name: str, number: int, run: dict[str, Any]) -> None:
    figures = "  ".join(
        f"{label} {run[key]}" for label, key in (
            ("steps", "steps"), ("step p50", "step_p50_ms"), ("p99", "step_p99_ms"), ("schema p50", "schema_p50_ms"),
            ("max", "schema_max_ms"), ("health p95", "health_p95_ms"))
    )  # fmt: skip
    asked = f"  asked {sum(run['asked'].values())}" if run["asked"] else ""
    missed = f"  MISSED {', '.join(run['missed'])}" if run.get("missed") else ""
    wrong = f"  WRONG {len(run['wrong'])}: {run['wrong'][0]}" if run["wrong"] else ""
    print(f"{name:20} {number}  {figures}{asked}{missed}{wrong}", flush=True)


def _ms(seconds: Sequence[float], share: float) -> float | None:
    found = quantile(sorted(seconds), share) if seconds else None
    return None if found is None else round(found * 1e3, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.hostile", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--together-s", type=float, default=60.0)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)}; 60 steps, 3 s together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
