"""`modal run modal_app.py::acceptance` on a deployment that misses a criterion: exit 1, and which one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.serve.modal.deployment import Deployment
from tests.modal.control_plane.plane import Plane
from tests.modal.deployed.scripted_app import BROKEN, DEAR, ECHO, GOOD, GPU_S, LIAR

JUDGED = {"responds", "constrains", "valid", "warm latency", "cost warm"}


@pytest.fixture(scope="module")
def scripted(plane: Plane) -> None:
    plane.deploy(file="tests/modal/deployed/scripted_app.py")


def accept(plane: Plane, out: Path, script: int) -> subprocess.CompletedProcess[str]:
    arguments = ["run", "-q", "modal_app.py::acceptance", "--max-tokens", str(script), "--out", str(out)]
    return plane.cli(*arguments, MASKLOOP_MODAL_APP="scripted")


def criteria(out: Path) -> dict[str, Any]:
    return {line["name"]: line for line in json.loads(out.read_text())["criteria"]}


def test_every_criterion_passes_on_a_gpu_that_is_quick_and_cheap(plane: Plane, scripted: None, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = accept(plane, out, GOOD)
    assert done.returncode == 0, done.stdout + done.stderr
    told = criteria(out)
    assert {name for name, line in told.items() if line["passed"]} == JUDGED
    assert told["cost with idle and start-up"]["passed"] is None
    up_s = float(told["cost with idle and start-up"]["measured"].split("up ")[1].split()[0])
    assert 145 <= up_s < 190  # 120 s of idle, 25 s of start, the run
    a_second = Deployment.from_env({}).container_usd_per_s  # an A100 and the cores and memory beside it
    assert told["cost warm"]["measured"] == f"${GPU_S * a_second:.5f}"


@pytest.mark.parametrize(
    ("script", "missed"),
    [(DEAR, {"cost warm"}), (LIAR, {"valid"}), (ECHO, {"responds"}), (BROKEN, {"responds", "constrains", "valid"})],
    ids=["too dear", "an invalid document called valid", "the same answer again", "no answer"],
)
def test_what_is_missed_is_named_and_the_exit_code_is_1(
    plane: Plane, scripted: None, tmp_path: Path, script: int, missed: set[str]
) -> None:
    out = tmp_path / "report.json"
    done = accept(plane, out, script)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert {name for name, line in criteria(out).items() if line["passed"] is False} == missed
    failed = [line for line in done.stdout.splitlines() if line.endswith("FAIL")]
    assert len(failed) == len(missed)
    assert all(any(line.startswith(name) for line in failed) for name in missed)
