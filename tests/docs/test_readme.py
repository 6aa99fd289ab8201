"""Every example of the README is run as it stands, against the embedded model; Modal's against a stand-in."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MASKLOOP = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main(sys.argv[1:]))"]
EXAMPLE = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, part: str) -> str:
    (found,) = [text for text in blocks(language) if part in text]
    return found


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """URL of `maskloop serve` with the embedded model, ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen([*MASKLOOP, "serve", "--port", str(port)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                    break
            except OSError:
                assert child.poll() is None, "maskloop serve ended"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(timeout=60)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", block("bash", "make demo"), re.MULTILINE)) == {"demo", "test"} <= targets


@pytest.mark.slow
def test_the_python_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(block("python", "from engine import"), {})
    status, name, _ = capsys.readouterr().out.split()
    assert status in ("complete", "closed")
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", name)


@pytest.mark.slow
def test_the_curl_example(served: str) -> None:
    command = block("bash", "curl --silent")
    ran = subprocess.run(
        ["bash", "-c", command.replace(EXAMPLE, served)], capture_output=True, text=True, check=True, timeout=120
    )
    answer = json.loads(ran.stdout)
    assert answer["ir_json"] == answer["text"]
    assert answer["text"]["colour"] in ("red", "green")


@pytest.mark.slow
def test_the_openai_example(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(block("python", "from openai import").replace(EXAMPLE, served), names)
    assert capsys.readouterr().out.startswith("name=")
    assert isinstance(names["answer"].choices[0].message.parsed.inhabitants, int)


def test_the_modal_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the example calls is what modal_app.py offers: app, class, method and argument names."""
    calls: list[dict[str, Any]] = []

    def remote(**given: Any) -> dict[str, Any]:
        calls.append(given)
        return {"text": {"a": 1}, "valid": True}

    fake = ModuleType("modal")
    instance = SimpleNamespace(generate=SimpleNamespace(remote=remote))
    fake.Cls = SimpleNamespace(from_name=lambda app, name: {("maskloop", "Engine"): lambda: instance}[app, name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modal", fake)
    monkeypatch.chdir(ROOT)
    exec(block("python", "import modal"), {})
    assert capsys.readouterr().out == "{'a': 1} True\n"
    assert calls[0].keys() == {"prompt", "schema", "max_tokens"}


def test_every_figure_of_the_decode_table_comes_from_the_record_of_the_commit_that_it_names() -> None:
    records = [json.loads(line) for line in (ROOT / "docs/studies/data/decode_h200.jsonl").read_text().splitlines()]
    assert len({record["commit"] for record in records}) == 1
    assert f"commit {records[0]['commit'][:7]}" in README
    assert not any(record["dirty"] for record in records)
    runs = [run for record in records for run in record["runs"] if run["constrained"]]
    short = [run for run in runs if run["prompt_tokens"] == records[0]["configuration"]["prompt"]]
    measured = {(run["quantization"], run["batch"]): run["ms_per_step"] for run in short}
    head, rows = README.split("| | batch 1 |")[1].split("|--|--:", 1)
    batches = [1, *map(int, re.findall(r"batch (\d+)", head))]
    told = re.findall(r"^\| (\S+) \|([\d.| ]+)\|$", rows.split("\n\n")[0], re.MULTILINE)
    figures = {
        (name, batch): cell.strip() for name, row in told for batch, cell in zip(batches, row.split("|"), strict=True)
    }
    assert figures == {place: f"{ms:.2f}" for place, ms in measured.items()}


def test_every_figure_beside_vllm_comes_from_the_record_of_the_commit_that_is_named() -> None:
    (record,) = map(json.loads, (ROOT / "docs/studies/data/vllm_h200.jsonl").read_text().splitlines())
    assert f"commit {record['commit'][:7]}" in README
    assert not record["dirty"]
    measured = {
        (f"maskloop, {run['quantization']}", run["batch"]): run["ms_per_step"]
        for run in record["runs"]
        if not run["constrained"]
    }
    measured |= {
        (f"vLLM 0.26, {row['form']}", row["batch"]): row["ms_per_step"] for row in record["peers"] if "batch" in row
    }
    head, rows = README.split("no constraint:\n\n")[1].split("|--|--:", 1)
    batches = list(map(int, re.findall(r"batch (\d+)", head)))
    told = re.findall(r"^\| (\S.*?) \|([\d.| ]+)\|$", rows.split("\n\n")[0], re.MULTILINE)
    figures = {
        (name, batch): cell.strip() for name, row in told for batch, cell in zip(batches, row.split("|"), strict=True)
    }
    assert figures == {place: f"{ms:.2f}" for place, ms in measured.items()}
