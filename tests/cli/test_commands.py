"""The frame of the command line: help and versions everywhere, and the commands that need no model."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from engine import __version__
from engine.cli.dispatch import COMMANDS
from tests.cli.conftest import Run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(maskloop: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLOOP_CACHE", "/tmp/100%b")  # help texts are filled in with %
    ran = maskloop(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: maskloop {command}")


def test_the_overview_names_every_command(maskloop: Run) -> None:
    ran = maskloop("--help")
    assert ran.code == 0
    assert all(f"  {name} " in ran.out for name in COMMANDS)
    assert maskloop().code == 2


def test_version_names_engine_and_the_packages_that_decide_results(maskloop: Run) -> None:
    lines = maskloop("--version").out.splitlines()
    assert lines[0] == f"maskloop {__version__}"
    assert [line.split()[0] for line in lines[1:]] == ["xgrammar", "torch", "transformers"]


def test_models_lists_the_embedded_and_the_pinned_models(maskloop: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "models" / "mine"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    rows = [json.loads(line) for line in maskloop("models", "--json", "--cache-dir", str(tmp_path)).out.splitlines()]
    pinned = ["Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-Coder-Next"]
    assert [row["model"] for row in rows] == ["smollm2-135m", *pinned, str(checkpoint)]
    assert "nf4-dq" in maskloop("models").out


def log_line(**changes: object) -> str:
    line = {
        "ts": time.time(), "event": "request", "instance": "i1", "uptime_s": 100.0, "status": "complete", "valid": True,
        "prompt_tokens": 10, "completion_tokens": 5, "forced_tokens": 2, "gpu_seconds": 2.0, "cost_usd": 0.002,
        "device": "A100",
    }  # fmt: skip
    return json.dumps({**line, **changes})


def test_usage_tells_work_from_idle(maskloop: Run) -> None:
    log = "\n".join([
        log_line(),
        "fc-123 2026-01-01 " + log_line(status="invalid", valid=False),
        log_line(instance="i2", uptime_s=40.0, cost_usd=0.004, gpu_seconds=4.0),
        log_line(event="refused"),
        log_line(ts=time.time() - 90_000),
        "a line of somebody else {not json}",
    ])  # fmt: skip
    found = json.loads(maskloop("usage", "--json", "--since", "24h", "-", stdin=log).out)
    assert (found["requests"], found["by_status"]) == (3, {"complete": 2, "invalid": 1})
    assert (found["refused"], found["completion_tokens"], found["gpu_seconds"]) == (1, 15, 8.0)
    assert found["valid_share"] == pytest.approx(2 / 3)
    assert (found["up_seconds"], found["idle_seconds"]) == (140.0, 132.0)
    assert (found["work_usd"], found["idle_usd"]) == (0.008, 0.132)


def test_usage_without_a_price_does_not_invent_one(maskloop: Run) -> None:
    found = json.loads(maskloop("usage", "--json", "-", stdin=log_line(cost_usd=None)).out)
    assert (found["unpriced_requests"], found["idle_usd"]) == (1, None)
    assert "idle_usd: unknown" in maskloop("usage", "-", stdin=log_line(cost_usd=None)).out


def test_usage_of_an_empty_log_is_zero(maskloop: Run) -> None:
    ran = maskloop("usage", "-", stdin="")
    assert ran.code == 0
    assert "requests: 0" in ran.out
