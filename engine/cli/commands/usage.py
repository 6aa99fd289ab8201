"""What a service did and cost: sums the request lines of its log.

LOG is a file of log lines (- for stdin; other lines are passed over). Without one the log of the deployed app is read
with `modal app logs`. Work is the GPU time of requests; idle is the rest of the time that its containers were up, as
far as their lines show it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.cli.arguments.inputs import compact, read_text
from engine.cli.terminal import OK
from engine.errors import EngineFailure, RequestError, missing_extra

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(slots=True)
class Usage:
    """Sums over requests; `up_s` is how long each instance is known to have been up."""

    requests: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    judged: int = 0
    valid: int = 0
    gpu_seconds: float = 0.0
    work_usd: float = 0.0
    unpriced: int = 0
    up_s: dict[str, float] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Take one log line of a service."""
        instance = str(line.get("instance", ""))
        self.up_s[instance] = max(self.up_s.get(instance, 0.0), float(line.get("uptime_s") or 0.0))
        if line["event"] == "refused":
            self.refused += 1
        if line["event"] != "request":
            return
        self.requests[str(line.get("status"))] += 1
        for name in ("prompt_tokens", "completion_tokens", "forced_tokens"):
            self.tokens[name] += int(line.get(name) or 0)
        if line.get("valid") is not None:
            self.judged += 1
            self.valid += bool(line["valid"])
        self.gpu_seconds += float(line.get("gpu_seconds") or 0.0)
        self.unpriced += line.get("cost_usd") is None
        self.work_usd += float(line.get("cost_usd") or 0.0)
        self.devices[instance] = str(line.get("device", ""))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        up = sum(self.up_s.values())
        return {
            "requests": sum(self.requests.values()),
            "by_status": dict(self.requests),
            "refused": self.refused,
            "valid_share": self.valid / self.judged if self.judged else None,
            **{name: self.tokens[name] for name in ("prompt_tokens", "completion_tokens", "forced_tokens")},
            "gpu_seconds": round(self.gpu_seconds, 3),
            "up_seconds": round(up, 3),
            "idle_seconds": round(max(0.0, up - self.gpu_seconds), 3),
            "work_usd": round(self.work_usd, 6),
            "idle_usd": None if (idle := self._idle_usd()) is None else round(idle, 6),
            "unpriced_requests": self.unpriced,
        }

    def _idle_usd(self) -> float | None:
        """Idle time at the price of the GPU it passed on; None when a device has no price."""
        if self.gpu_seconds <= 0 or self.unpriced:
            return None
        up = sum(seconds for instance, seconds in self.up_s.items() if instance in self.devices)
        return max(0.0, up - self.gpu_seconds) * self.work_usd / self.gpu_seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", nargs="?", metavar="LOG", help="file of log lines, - for stdin")
    parser.add_argument("--since", default="24h", metavar="SPAN", help="30m, 24h, 7d (default 24h)")
    app = os.environ.get("MASKLOOP_MODAL_APP", "maskloop")
    parser.add_argument("--app", default=app, help="deployed app (default: MASKLOOP_MODAL_APP, else maskloop)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    since = time.time() - span_seconds(args.since)
    text = read_text(args.log, param="log") if args.log else deployed_log(args.app, args.since)
    usage = Usage()
    for line in service_lines(text.splitlines()):
        if float(line.get("ts") or 0.0) >= since:
            usage.add(line)
    found = usage.to_dict()
    print(compact(found) if args.json else "\n".join(f"{name}: {told(value)}" for name, value in found.items()))
    return OK


def span_seconds(text: str) -> float:
    """Seconds of `30m`, `24h`, `7d`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise RequestError(f"--since {text!r} is not a number with s, m, h or d behind it", param="since")
    return int(match[1]) * UNITS[match[2]]


def service_lines(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects with an event among these lines, whatever a log reader put before them."""
    for line in lines:
        start = line.find("{")
        if start < 0:
            continue
        try:
            value = json.loads(line[start:])
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("event"), str):
            yield value


def deployed_log(app: str, since: str) -> str:
    """What `modal app logs` prints for the app."""
    if importlib.util.find_spec("modal") is None:
        raise missing_extra("modal", "modal")
    modal = [sys.executable, "-m", "modal"]  # not by PATH: `.venv/bin/maskloop` runs without the venv being active
    run = subprocess.run([*modal, "app", "logs", app, "--since", since], capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr or run.stdout).strip().splitlines() or ["no message"]
        raise EngineFailure(f"modal app logs {app} failed: {last[-1]}")
    return run.stdout


def told(value: Any) -> str:
    """A figure for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in sorted(value.items())) or "none"
    return "unknown" if value is None else f"{value:,}"
